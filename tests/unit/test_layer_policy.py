"""Owners that a user namespace lacks, and the command that helps: toolkit.image.layer.policy, toolkit.kernel.subids."""

from pathlib import Path

import pytest

from toolkit.image.layer import policy
from toolkit.kernel import subids

TABLE = "alice:100000:65536\nbob:165536:65536\nbob:400000:10\nbroken\n"


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "subuid").write_text(TABLE)
    return str(tmp_path / "subuid")


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("bob", 65_546, None),  # 0 is bob, and 1 to 65546 are his ranges
        ("bob", 65_547, (400_010, 400_010)),
        ("alice", 3_000_000, (400_010, 400_010 + 3_000_000 - 65_536 - 1)),
        ("carol", 7, (400_010, 400_016)),
        ("carol", 0, None),  # herself
        ("carol", 0xFFFFFFF0, None),  # there are not as many
    ],
)
def test_which_range_is_missing(table: str, name: str, wanted: int, expected: tuple[int, int] | None) -> None:
    assert subids.missing(table, 1234, name, wanted) == expected
    if expected:
        with open(table, "a") as file:
            file.write(f"{name}:{expected[0]}:{expected[1] - expected[0] + 1}\n")
        assert subids.missing(table, 1234, name, wanted) is None
        inside = subids.mapping(1234, subids.ranges(table, 1234, name))
        assert any(first <= wanted < first + count for first, _, count in inside)


def test_the_first_range_of_all(tmp_path: Path) -> None:
    assert subids.missing(str(tmp_path / "none"), 1234, "alice", 10) == (100_000, 100_009)


def test_the_command_is_to_be_copied(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subids, "SUBUID", table)
    monkeypatch.setattr(subids, "SUBGID", str(tmp_path / "none"))
    monkeypatch.setattr(subids, "user_name", lambda uid: "bob")
    assert policy.usermod(70_000, 5) == "usermod --add-subuids 400010-404463 --add-subgids 100000-100004 bob"
    assert policy.usermod(60_000, 5) == "usermod --add-subgids 100000-100004 bob"
    assert policy.usermod(0, 0) == ""


@pytest.mark.parametrize(
    ("uid", "gid", "value"),
    [(0, 0, ""), (1, 0, "0801"), (0, 300, "10ac02"), (1000, 3_000_000, "08e80710c08db701")],
)
def test_the_note_is_a_protobuf_message(uid: int, gid: int, value: str) -> None:
    assert policy.note(uid, gid).hex() == value
