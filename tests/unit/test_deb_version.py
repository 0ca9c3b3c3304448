"""Version order: the policy's own examples, and dpkg's opinion on generated pairs."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

TEXT = st.text(alphabet="01298aZ.+~-", min_size=1, max_size=9).filter(lambda text: text[0].isdigit())


def test_policy_order() -> None:
    for at, low in enumerate(ORDER):
        for high in ORDER[at + 1 :]:
            assert Version(low) < Version(high), f"{low} < {high}"
            assert not Version(high) < Version(low), f"not {high} < {low}"


@pytest.mark.parametrize(("one", "other"), [("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("01.2", "1.2")])
def test_equal_though_written_otherwise(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))


@settings(max_examples=120, deadline=None)
@given(TEXT, TEXT)
def test_as_dpkg_orders(one: str, other: str) -> None:
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        pytest.fail("dpkg is not installed: run scripts/test, which names what the tests need")
    for text in (one, other):
        if subprocess.run([dpkg, "--validate-version", text], capture_output=True).returncode:
            return
    says = subprocess.run([dpkg, "--compare-versions", one, "lt", other]).returncode == 0
    assert (Version(one) < Version(other)) is says


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
