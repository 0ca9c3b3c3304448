"""Version order: the policy's own examples (tests/oracle/test_dpkg_versions.py asks dpkg)."""

import pytest

from toolkit.deb.version import Version, satisfies

ORDER = [
    "~~",
    "~~a",
    "~",
    "0",
    "0.1~rc1",
    "0.1",
    "0.1a",
    "0.1+b1",
    "0.9",
    "0.10",
    "1.0~beta1~svn1245",
    "1.0~beta1",
    "1.0",
    "1.0-1~bpo12+1",
    "1.0-1",
    "1.0-1+b2",
    "1.0-1.1",
    "1.0-10",
    "1.0.0",
    "2025.1",
    "1:0",
    "1:0.1",
    "2:0~",
]


def test_policy_order() -> None:
    for at, low in enumerate(ORDER):
        for high in ORDER[at + 1 :]:
            assert Version(low) < Version(high), f"{low} < {high}"
            assert not Version(high) < Version(low), f"not {high} < {low}"


@pytest.mark.parametrize(("one", "other"), [("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("01.2", "1.2")])
def test_equal_though_written_otherwise(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))


@pytest.mark.parametrize(
    ("version", "relation", "wanted", "holds"),
    [
        ("1.0-1", ">=", "1.0", True),
        ("1.0~rc1", ">=", "1.0", False),
        ("1.0", "=", "1.0", True),
        ("1.0-1", "=", "1.0", False),
        ("1.0", "<<", "1.0", False),
        ("1.0", "<", "1.0", True),
        ("1.0", ">", "1.0", True),
        ("1.1", ">>", "1.0", True),
        ("1", "", "", True),
    ],
)
def test_relations(version: str, relation: str, wanted: str, holds: bool) -> None:
    assert satisfies(version, relation, wanted) is holds
