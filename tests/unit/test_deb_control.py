"""Control data, dependency fields and Packages indexes."""

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.deb import control
from toolkit.deb.index import Index
from toolkit.deb.relation import Alternative, parse_relations
from toolkit.errors import Malformed

STANZA = b"""Package: base-files
Version: 12.4
Description: short
 long line
 .
 \tmore
Conffiles:
 /etc/issue 0123
Tag: a,
 b"""


def test_a_paragraph_is_written_back_as_it_was_read() -> None:
    fields = control.parse(STANZA)
    assert fields["Description"] == "short\n long line\n .\n \tmore"
    assert fields["Conffiles"] == "\n /etc/issue 0123"
    assert control.write(fields).encode() == STANZA + b"\n"


@pytest.mark.parametrize(
    "data",
    [b" starts with a blank", b"no colon here", b"A: 1\nA: 2", b": empty name", b"two words: x"],
)
def test_what_is_no_paragraph_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        control.parse(data)


def test_latin_1_and_line_ends_of_windows_are_read() -> None:
    # Policy wants UTF-8 and apt takes what comes: no field that decides anything has such letters.
    assert control.parse("A: ö\n".encode() + b"B: J\xf6rg\r\n more\r\nC: 1\r\n") == {
        "A": "ö", "B": "Jörg\n more", "C": "1"
    }  # fmt: skip
    text = b"Package: a\r\nVersion: 1\r\n\r\nPackage: b\r\nProvides: v\r\nVersion: 2\r\n\r\n"
    first = Index(text)
    for index in (first, Index(text, table=first.table())):
        assert list(index.names()) == ["a", "b"] and index.get("b") == {"Package": "b", "Provides": "v", "Version": "2"}
        assert index.providers("v") == ["b"] and index.having("Version: 1") == ["a"]


def test_only_a_newline_ends_a_line() -> None:
    # A form feed or U+2028 inside a value must not begin a new field: str.splitlines would let it.
    fields = control.parse("A: x\x0cSHA256: forged\u2028B: forged\n".encode())
    assert list(fields) == ["A"]


def test_paragraphs_are_parted_by_blank_lines_and_skip_comments() -> None:
    data = b"# a comment\nA: 1\n \t \n\n\nB: 2\n# more\nC: 3\n"
    assert list(control.paragraphs(data)) == [{"A": "1"}, {"B": "2", "C": "3"}]


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Za-z-]{0,8}", fullmatch=True), st.from_regex(r"[a-z0-9:,]{0,12}", fullmatch=True)
    )
)
def test_parse_is_the_inverse_of_write(fields: dict[str, str]) -> None:
    fields = {name: value.strip() for name, value in fields.items()}
    if fields:
        assert control.parse(control.write(fields).encode()) == fields


def test_relations() -> None:
    groups = parse_relations("libc6 (>= 2.36), a:any | b (<< 1~), c [arm64 amd64], d [!amd64] | e <!nocheck>", "amd64")
    assert groups == (
        (Alternative("libc6", "", ">=", "2.36"),),
        (Alternative("a", "any"), Alternative("b", "", "<<", "1~")),
        (Alternative("c"),),
        (Alternative("e"),),
    )
    assert [str(one) for one in groups[1]] == ["a:any", "b (<< 1~)"]


@pytest.mark.parametrize("text", ["a (", "a ((>= 1)", "a (>= )", "$x", "a b"])
def test_what_is_no_relation_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_relations(text)


def package(name: str, **fields: str) -> str:
    return "".join(f"{key}: {value}\n" for key, value in {"Package": name, **fields}.items())


def big_index(count: int) -> bytes:
    """More than one block, with the paragraph boundary at every place relative to it."""
    parts = [package(f"p{n}", Version=str(n), Priority="optional", Description="x" * (n % 997)) for n in range(count)]
    parts[3] = package("p3", Version="3", Priority="required", Provides="virtual (= 7), other")
    parts[-1] = package("last", Priority="required", Provides="virtual")
    return "\n".join(parts).encode()


@pytest.mark.parametrize("mapped", [False, True])
def test_every_package_is_found(tmp_path: Path, mapped: bool) -> None:
    data = big_index(5000)
    assert len(data) > 2 << 20
    path = tmp_path / "Packages"
    path.write_bytes(data)
    with path.open("rb") as file:
        index = Index(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else data)
    assert len(index) == 5000
    for n in (0, 1, 3, 1234, 4998):
        fields = index.get(f"p{n}")
        assert fields is not None and fields["Version"] == str(n)
    assert index.get("p5000") is None and "p12" in index and "p" not in index
    assert index.having("Priority: required") == ["p3", "last"]
    assert index.providers("virtual") == ["p3", "last"]


def test_a_kept_table_spares_the_scan_and_is_never_believed_blindly() -> None:
    data = big_index(2000)
    table = Index(data).table()
    again = Index(data, table=table)
    assert list(again.names()) == list(Index(data).names()) and (again.get("p77") or {})["Version"] == "77"
    assert again.having("Priority: required") == ["p3", "last"]
    for torn in (table[:-1], b"", b"p1\n\n", table + b"x"):
        assert len(Index(data, table=torn)) == 2000
    moved = Index(data, table=b"p5\n\n" + (data.index(b"Package: p6")).to_bytes(8, "little"))
    with pytest.raises(Malformed, match="found another package there: 'p6'"):
        moved.get("p5")
    inside = Index(data, table=b"p5\n\n" + (data.index(b"Package: p5") + 12).to_bytes(8, "little"))
    with pytest.raises(Malformed, match="table of offsets is wrong"):
        inside.get("p5")


def test_of_two_versions_the_last_counts() -> None:
    data = "\n".join(
        [package("a", Version="1", Priority="required"), package("a", Version="2", Priority="extra"), package("b")]
    ).encode()
    index = Index(data)
    assert (index.get("a") or {})["Version"] == "2"
    assert index.having("Priority: required") == []


def test_the_name_need_not_come_first() -> None:
    data = b"Version: 1\nPackage: late\nPriority: required\n\nPackage: b\n\n\n"
    index = Index(data)
    assert list(index.names()) == ["late", "b"]
    assert (index.get("late") or {})["Version"] == "1"
    assert index.having("Priority: required") == ["late"]


def test_an_index_of_something_else_is_refused() -> None:
    with pytest.raises(Malformed):
        Index(b"<html>\n<body>captive portal</body>\n")
    assert len(Index(b"")) == 0
