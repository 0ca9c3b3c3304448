"""Tars of other writers: toolkit.archive.tar_read_any beside Python's tarfile and GNU tar."""

import io
import os
import random
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.command import tool
from toolkit.archive.entries import DIRECTORY, FILE, KINDS, SYMLINK
from toolkit.archive.extract import Extractor, Policy
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import Malformed

Seen = tuple[object, ...]


def chunks(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def ours(data: bytes, size: int = 1000) -> list[Seen]:
    found: list[Seen] = []
    archive = AnyTar(chunks(data, size), "it")
    for one in archive:
        content = b"".join(archive.pieces(one)) if one.kind == FILE else b""
        link = one.link if one.kind in (SYMLINK, b"1") else b""
        found.append((one.name.rstrip(b"/"), one.kind, one.mode, one.uid, one.gid, one.mtime_s, link, content))
    return found


def theirs(data: bytes) -> list[Seen]:
    """As tarfile reads it."""
    found: list[Seen] = []
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8") as archive:
        for one in archive:
            source = archive.extractfile(one) if one.isreg() else None
            kind = FILE if one.isreg() else one.type
            link = os.fsencode(one.linkname) if kind in (SYMLINK, b"1") else b""
            numbers = (one.mode, one.uid, one.gid, int(one.mtime // 1))
            found.append((os.fsencode(one.name).rstrip(b"/"), kind, *numbers, link, source.read() if source else b""))
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / ("d" * 90) / ("e" * 90)).mkdir(parents=True)
    (top / ("d" * 90) / ("e" * 90) / ("n" * 200)).write_bytes(b"long" * 999)
    (top / "empty").touch()
    (top / "ümlaut").write_bytes(b"x" * 512)
    (top / os.fsdecode(b"latin-\xe9")).write_bytes(b"y" * 513)
    os.link(top / "empty", top / "second")
    os.symlink("t" * 180, top / "link")
    os.mkfifo(top / "fifo")
    with open(top / "holes", "wb") as file:
        for number in range(40):  # more than a header of GNU's old way holds, and the block after it
            file.seek(number * 100_000)
            file.write(b"%d" % number * 2000)
        file.truncate(6_000_000)
    os.truncate(top / "empty", 0)
    (top / "only-a-hole").touch()
    os.truncate(top / "only-a-hole", 700_000)
    for path in top.rglob("*"):
        os.utime(path, (1_000_000_000.25, 1_000_000_000.25), follow_symlinks=False)
    return top


FORMATS = ["--format=v7", "--format=oldgnu", "--format=gnu", "--format=ustar", "--format=posix"]
SPARSE = [["-S", "--format=gnu"], *(["-S", "--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]


@pytest.mark.parametrize("words", [*([one] for one in FORMATS), *SPARSE], ids=" ".join)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_what_gnu_tar_writes(words: list[str], size: int, tree: Path) -> None:
    """In the oldest formats GNU tar leaves out what they can't hold, and says so by its exit code."""
    done = subprocess.run(
        [tool("tar"), *words, "--numeric-owner", "-C", tree, "-cf", "-", "."], capture_output=True, check=False
    )
    found = ours(done.stdout, size)
    assert found == theirs(done.stdout) and len(found) >= 8
    contents = {one[0]: one[-1] for one in found}
    assert contents[b"./holes"] == (tree / "holes").read_bytes()
    assert contents[b"./only-a-hole"] == bytes(700_000)


@pytest.mark.parametrize("words", [["--format=posix"], *SPARSE], ids=" ".join)
def test_holes_stay_holes(words: list[str], tree: Path, tmp_path: Path) -> None:
    """As many blocks as GNU tar's own extraction takes."""
    data = subprocess.run(
        [tool("tar"), *words, "-C", tree, "-cf", "-", "holes", "only-a-hole"], capture_output=True, check=True
    ).stdout
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    subprocess.run([tool("tar"), "-C", tmp_path / "theirs", "-xf", "-"], input=data, check=True)
    extractor = Extractor(Policy(owners=False), "it")
    parent = os.open(tmp_path / "ours", os.O_RDONLY | os.O_DIRECTORY)
    archive = AnyTar(chunks(data), "it")
    for one in archive:
        extractor.put(parent, one.name, one, archive.content(one))
    os.close(parent)
    for name in ("holes", "only-a-hole"):
        made, told = ((tmp_path / folder / name).stat() for folder in ("ours", "theirs"))
        assert (tmp_path / "ours" / name).read_bytes() == (tree / name).read_bytes()
        assert made.st_blocks == told.st_blocks
        assert (made.st_blocks * 512 < made.st_size // 2) == ("-S" in words)


def test_times_have_their_fractions(tree: Path) -> None:
    data = subprocess.run([tool("tar"), "--format=posix", "-C", tree, "-cf", "-", "empty"], capture_output=True).stdout
    (one,) = AnyTar(chunks(data), "it")
    assert one.mtime_ns == 1_000_000_000_250_000_000


def written(change: Callable[[tarfile.TarInfo], None], format: int = tarfile.PAX_FORMAT, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        one = tarfile.TarInfo("x")
        one.size = len(data)
        change(one)
        archive.addfile(one, io.BytesIO(data))
        archive.addfile(tarfile.TarInfo("after"))
    return out.getvalue()


def test_a_global_header_holds_for_all_and_a_members_own_before_it() -> None:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "77", "mtime": "5", "comment": "hello"}
    ) as archive:
        for name, headers in (("a", {}), ("b", {"uid": "88"}), ("c", {})):
            one = tarfile.TarInfo(name)
            one.pax_headers = headers
            archive.addfile(one)
    found = ours(out.getvalue())
    assert found == theirs(out.getvalue()) and [one[3] for one in found] == [77, 88, 77]


def test_the_owners_are_the_numbers() -> None:
    def change(one: tarfile.TarInfo) -> None:
        one.uname, one.uid = "root", 1000

    data = written(change)
    assert ours(data)[0][3] == theirs(data)[0][3] == 1000


@pytest.mark.parametrize("kind", [tarfile.CONTTYPE, tarfile.AREGTYPE])
def test_files_of_other_types_are_files(kind: bytes) -> None:
    data = written(lambda one: setattr(one, "type", kind), tarfile.GNU_FORMAT, b"data")
    assert ours(data)[0][1:2] + ours(data)[0][-1:] == (FILE, b"data")


def test_a_kind_that_nobody_knows_is_passed_over_with_its_content() -> None:
    def change(one: tarfile.TarInfo) -> None:
        one.type = b"V"

    data = written(change, tarfile.GNU_FORMAT, b"")
    raw = bytearray(data)
    raw[124:135] = b"%011o" % 700
    raw[148:156] = b" " * 8
    raw[148:155] = b"%06o\0" % sum(raw[:512])
    data = bytes(raw[:512]) + bytes(1024) + data[512:]
    found = list(AnyTar(chunks(data), "it"))
    assert [(one.name, one.kind in KINDS) for one in found] == [(b"x", False), (b"after", True)]


def test_a_damaged_header_is_not_the_end() -> None:
    """tarfile takes it for the end of the archive: what comes after is lost, and nobody hears of it."""
    data = bytearray(written(lambda one: None))
    data[512 + 3] ^= 1
    assert len(theirs(bytes(data))) == 1
    with pytest.raises(Malformed, match="sum"):
        ours(bytes(data))


@pytest.mark.parametrize("data", [b"no tar" * 200, b"x" * 100, b""])
def test_what_is_no_tar(data: bytes) -> None:
    with pytest.raises(Malformed, match="it is empty" if not data else "it"):
        ours(data)


def sparse(records: "dict[str, str]", content: bytes = b"d" * 512) -> bytes:
    return written(lambda one: setattr(one, "pax_headers", records), data=content)


@pytest.mark.parametrize(
    "records",
    [
        {"GNU.sparse.map": "0,512", "GNU.sparse.size": "100"},  # longer than the file
        {"GNU.sparse.map": "0,300,100,212", "GNU.sparse.size": "900"},  # overlap
        {"GNU.sparse.map": "500,12,0,500", "GNU.sparse.size": "900"},  # out of order
        {"GNU.sparse.map": "0,100", "GNU.sparse.size": "900"},  # not all of the content
        {"GNU.sparse.map": "0,9999", "GNU.sparse.size": "99999"},  # more than it: the next header would be content
        {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 63)},  # than any file
        {"GNU.sparse.map": "-5,512", "GNU.sparse.size": "900"},
        {"GNU.sparse.map": "0,x", "GNU.sparse.size": "900"},
        {"GNU.sparse.map": "0,512"},
        {"GNU.sparse.map": "0,512", "GNU.sparse.size": "900", "GNU.sparse.name": "a\0b"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "900"},  # no map
    ],
)
def test_maps_that_cannot_be_are_refused(records: "dict[str, str]") -> None:
    with pytest.raises(Malformed):
        ours(sparse(records))


@pytest.mark.parametrize("head", [b"99999999999\n", b"131072\n", b"-1\n", b"1\n0\n" + b"9" * 508, b"1\n0\n600\n", b""])
def test_maps_before_the_content_have_an_end(head: bytes) -> None:
    words = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "900"}
    with pytest.raises(Malformed):
        ours(sparse(words, head.ljust(512, b"\0") + b"9" * 512))


@pytest.mark.parametrize("field", ["mtime", "uid", "size", "path"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "99999999999999999999999", "1.x", "a\0b"])
def test_records_that_cannot_be_are_refused(field: str, value: str) -> None:
    if (field, value) == ("mtime", "-1") or (field == "path" and "\0" not in value):
        return
    with pytest.raises(Malformed):
        ours(sparse({field: value}))


def test_headers_without_end_are_refused() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    with pytest.raises(Malformed, match="a header of 4294967296 bytes"):
        ours(header.tobuf())


NAMES = st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"n").replace(b"/", b"_"))
TIMES = st.integers(-(2**33), 2**35)
MEMBERS = st.lists(
    st.tuples(NAMES, st.integers(0, 0o7777), st.integers(0, 2**32 - 2), TIMES, st.binary(max_size=1500)), max_size=5
)


@given(MEMBERS, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(1, 3000))
def test_whatever_tarfile_writes(members: "list[tuple[bytes, int, int, int, bytes]]", format: int, size: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, errors="surrogateescape", encoding="utf-8") as archive:
        for name, mode, uid, mtime, data in members:
            one = tarfile.TarInfo(os.fsdecode(name))
            one.mode, one.uid, one.mtime, one.size = mode, uid, mtime, len(data)
            archive.addfile(one, io.BytesIO(data))
    assert ours(out.getvalue(), size) == theirs(out.getvalue())


def test_damage_is_an_error_or_harmless() -> None:
    """Any bytes: an error of ours, never another one, and no wait."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("n" * 150, FILE), ("d", DIRECTORY), ("l", SYMLINK)):
            one = tarfile.TarInfo(name)
            one.type, one.linkname = kind, "t" * 150
            one.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "700"} if kind == FILE else {}
            archive.addfile(one)
    plain, dice = out.getvalue(), random.Random(5)
    for _ in range(3000):
        data = bytearray(plain)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data) - 8000)] = dice.choice(b"\0 019x\xff=/")
        at = dice.randrange(0, len(data) - 512, 512)
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 155] = b"%06o\0" % sum(data[at : at + 512])  # a sum that holds lets more of it be read
        try:
            ours(bytes(data))
        except Malformed:
            pass


def stated(**fields: bytes) -> bytes:
    """An empty file's header with these bytes in its fields, and a right checksum."""
    places = {"name": (0, 100), "mode": (100, 108), "uid": (108, 116), "gid": (116, 124), "size": (124, 136)}
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    for name, value in fields.items():
        start, end = places[name]
        block[start:end] = value.ljust(end - start, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_name_ends_at_its_first_nul() -> None:
    """Even if something follows up to the last byte of the field: it was a ValueError of os.open."""
    name = b"file\0".ljust(100, b"y")
    (entry,) = AnyTar(chunks(stated(name=name) + bytes(1024)), "it")
    assert entry.name == b"file"


def test_a_number_may_fill_its_field() -> None:
    """Eight octal digits without an end, as some writers have them; the last one was passed over."""
    (entry,) = AnyTar(chunks(stated(uid=b"00001750", gid=b"0001751 ") + bytes(1024)), "it")
    assert (entry.uid, entry.gid) == (0o1750, 0o1751)
    info = tarfile.TarInfo.frombuf(stated(uid=b"00001750"), "utf-8", "strict")
    assert info.uid == 0o1750


def test_numbers_of_extended_headers_are_decimal() -> None:
    """int() takes 1_0 for 10, and who reads it for 1 finds other members (CVE-2025-62518 is of this kind)."""
    for word in ("size", "uid", "gid", "mtime"):
        for value in ("1_0", "+1", "0x1", "1 "):
            info = tarfile.TarInfo("x")
            info.pax_headers = {word: value}
            with pytest.raises(Malformed, match=f"says b'{word}'="):
                list(AnyTar(chunks(info.tobuf(tarfile.PAX_FORMAT) + bytes(2048)), "it"))


def _attributes(count: int) -> float:
    """The seconds of processor time, at best, to read a member with so many attributes."""
    records = b"".join(b"33 SCHILY.xattr.user.%05d=value\n" % number for number in range(count))
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    data = info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    data += tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    best = 60.0
    for _ in range(3):
        begun = time.process_time()
        (entry,) = AnyTar(chunks(data), "it")
        best = min(best, time.process_time() - begun)
        assert len(entry.xattrs) == count
    return best


def test_attributes_by_the_thousand_take_no_time() -> None:
    """A MiB of them is 36,000, and each was added by a copy of all before: 8 times as many took 64 times as long."""
    assert _attributes(24_000) < 24 * _attributes(3_000)


def test_an_attribute_without_a_proper_name() -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"SCHILY.xattr.user.a\0b": "v"}
    with pytest.raises(Malformed, match="out of range"):
        list(AnyTar(chunks(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)), "it"))
