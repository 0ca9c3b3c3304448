"""What a signed archive of a stranger's can say: packages that don't fit, relations without end (security B5, B17)."""

import gzip
import itertools
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Suite
from tests.fixtures.command import Command
from tests.fixtures.often import tries
from tests.fixtures.server import FileServer
from tests.unit.test_unpack import Build, build, member  # noqa: F401
from toolkit.archive.tar_read import Tar
from toolkit.bootstrap import build as build_
from toolkit.bootstrap.facts.pool import Member, Pool, package_of
from toolkit.bootstrap.install import owners
from toolkit.bootstrap.resolve import cdcl, tarball_read
from toolkit.bootstrap.resolve.apt_marker import choose
from toolkit.deb.index import Index
from toolkit.deb.relation import parse_relations
from toolkit.deb.release import parse_release
from toolkit.deb.version import Version
from toolkit.errors import Malformed, NotFound, Unsolvable
from toolkit.fetch.cache import Cache
from toolkit.text import number

pytestmark = pytest.mark.root


NUMBERS = [(field, value) for field in ("uid", "gid") for value in (1 << 54, (1 << 32) - 1, -1)]
NUMBERS += [("mtime", 1 << 62), ("mtime", -(1 << 62))]


@pytest.mark.parametrize(("field", "value"), NUMBERS)
def test_b5_numbers_that_cannot_be_are_refused(build: Build, field: str, value: int) -> None:  # noqa: F811
    """Python's own limits end in an OverflowError; and chown(2) takes 4294967295 for "leave it"."""
    entry = member("./x")
    setattr(entry, field, value)
    with pytest.raises(Malformed, match="evil"):
        build.unpack({"evil": {"./x": entry}})


def test_b5_a_device_number_that_cannot_be_is_refused(build: Build) -> None:  # noqa: F811
    with pytest.raises(Malformed, match="evil"):
        build.unpack({"evil": {"./x": member("./dev/x", tarfile.CHRTYPE, devmajor=1 << 40)}})


@pytest.mark.parametrize("size", [b"77777777777\0", b"\xff" * 12])
def test_b5_a_global_header_is_no_larger_than_another(size: bytes) -> None:
    """It was put together in memory, however long it said it was."""
    header = b"x".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + b"g"

    def blocks() -> Iterator[bytes]:
        yield header.ljust(512, b"\0")
        raise AssertionError("it is read")

    with pytest.raises(Malformed, match="extended header of"):
        list(Tar(blocks(), "evil"))


def paragraph(name: str, **fields: str) -> str:
    lines = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"Package: {name}\nVersion: 1\nArchitecture: amd64\n{lines}\n"


def pool(*paragraphs: str) -> Pool:
    return Pool([Member(0, "main", Index("".join(paragraphs).encode()))], "amd64")


@pytest.mark.timeout(120)
def test_b17_a_problem_that_has_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pigeons and holes: every way of resolution is exponential in their number."""
    monkeypatch.setattr(cdcl, "_MOST_LEARNED", tries(1_000, cdcl._MOST_LEARNED))
    count = 16
    holes = range(count - 1)
    wanted = ", ".join(" | ".join(f"p{i}h{j}" for j in holes) for i in range(count))
    birds = (
        paragraph(f"p{i}h{j}", Conflicts=", ".join(f"p{k}h{j}" for k in range(count) if k != i))
        for i in range(count)
        for j in holes
    )
    known = pool(paragraph("evil", Depends=wanted), *birds)
    wish = known.candidate("evil")
    assert wish is not None
    with pytest.raises(Unsolvable):
        choose(known, [wish], [])


def test_b17_a_chain_that_has_no_end_is_given_up() -> None:
    known = pool(*(paragraph(f"c{i}", Depends=f"c{i + 1}") for i in range(30_000)), paragraph("c30000"))
    wish = known.candidate("c0")
    assert wish is not None
    with pytest.raises(Unsolvable, match="chain"):
        choose(known, [wish], [])


@pytest.mark.timeout(30)
def test_b17_a_relation_of_blanks_is_read_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(Malformed):
        parse_relations("a" + " " * 5_000 + "!")
    assert [str(group[0]) for group in parse_relations("a  ( >=\t1 )" + " " * 50_000 + ", b")] == ["a (>= 1)", "b"]
    assert time.monotonic() - began < 5


def test_b17_an_index_that_no_memory_holds_is_not_fetched(ctk: Command, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    archive.publish(Suite("bookworm", "bookworm", packages={"main": [debs.make({"Package": "alpha"})]}))
    lines = archive.release("bookworm").decode().split("\n")
    # Every index says that it has a terabyte; the signature is good.
    for at, line in enumerate(lines):
        words = line.split()
        if line.startswith(" ") and len(words) == 3:
            lines[at] = f" {words[0]} {1 << 40} {words[2]}"
    archive.sign("bookworm", "\n".join(lines).encode())
    server = FileServer(archive.folder)
    try:
        words = ["--variant=extract", "--arch=amd64", "--include=alpha", f"--keyring={archive.keyring}"]
        env = {"CTK_CACHE": str(tmp_path / "cache")}
        said = ctk("bootstrap", "bookworm", str(tmp_path / "fs"), server.url, *words, env=env)
    finally:
        server.close()
    assert said.rc == 1 and "too many for an index" in said.err and "Traceback" not in said.err
    assert not [path for path in server.asked() if "Packages" in path or "by-hash" in path]
    assert not (tmp_path / "fs").exists()


ODD_NUMBERS = ["²", "1²", "٣", "9" * 5000, "1_0", "-1", " 1", ""]


@pytest.mark.parametrize("text", ODD_NUMBERS)
def test_b17_what_only_looks_like_a_number_is_none(text: str) -> None:
    """str.isdigit() says yes to "²", which int() refuses, as it does 5000 digits."""
    assert number(text) == -1
    paragraph = {"Package": "a", "Version": "1", "Architecture": "all", "Filename": "pool/a", "SHA256": "0" * 64}
    with pytest.raises(Malformed, match="Size"):
        package_of(Member(0, "main", Index(b"", what="x")), paragraph | {"Size": text}, "amd64")
    assert build_._kibibytes({"Installed-Size": text}) == 0
    if text:
        with pytest.raises(Malformed, match="SHA256 line"):
            parse_release(f"Suite: x\nSHA256:\n {'0' * 64} {text.strip() + '²'} main/Packages\n".encode())


def test_b17_versions_are_ordered_whatever_they_hold() -> None:
    rising = ["1." + "8" * 5000, "1." + "9" * 5000, "1.1" + "0" * 5000, "9" * 5000 + ":0"]
    for earlier, later in itertools.pairwise(rising):
        assert Version(earlier) < Version(later) and not Version(later) < Version(earlier)
    assert Version("²:1") == Version("²:1") and Version("1.007") == Version("1.7") and Version("1.") == Version("1.0")
    assert Version("1.2²") != Version("1.22")


def test_b17_ids_that_a_script_made_up(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("a:x:1:\nb:x:" + "9" * 5000 + ":\nc:x:9999999999:\nd:x:4294967295:\n")
    rootfd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert owners._numbers(rootfd, "passwd") == {b"a": 1}
    finally:
        os.close(rootfd)


def head_of(name: bytes, size: int, kind: bytes) -> bytes:
    """A member's header alone, whatever it says (tar(5))."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[136:148] = b"00000000000\0"
    block[148:157] = b" " * 8 + kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_b17_a_tarballs_headers_have_an_end(kind: bytes, tmp_path: Path) -> None:
    """tarfile reads a name, or attributes, of 8 GiB into memory: some megabytes, packed."""
    (tmp_path / "t.tgz").write_bytes(gzip.compress(head_of(b"x", 3 << 30, kind) + bytes(1 << 20)))
    with pytest.raises(Malformed, match=r"a header of 3221225472 bytes"):
        tarball_read._Found(str(tmp_path / "t.tgz"), Cache(str(tmp_path / "cache")))


@pytest.mark.parametrize("start", [b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"])
def test_b17_a_broken_tarball_is_told(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(start + b"no more of it" * 99)
    with pytest.raises((Malformed, NotFound), match="read "):
        tarball_read._Found(str(tmp_path / "t"), Cache(str(tmp_path / "cache")))


def test_b17_a_tarballs_facts_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarball_read, "_FACT_BYTES", 4000)
    each = head_of(b"debootstrap/fact", 1024, b"0") + bytes(1024)
    (tmp_path / "t").write_bytes(each * 9)
    with pytest.raises(Malformed, match="more than 4000 bytes"):
        tarball_read._Found(str(tmp_path / "t"), Cache(str(tmp_path / "cache")))
