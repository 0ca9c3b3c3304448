"""deb.archive and archive.tar_read against packages that Python's tarfile and the fixture's ar writer made."""

import bz2
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures import debs
from toolkit.archive.entries import DIRECTORY, FILE, SYMLINK
from toolkit.archive.tar_read import Tar
from toolkit.deb.archive import Deb
from toolkit.errors import Malformed

CONTROL = {"Package": "demo"}
BIG = bytes(range(256)) * 4096  # 1 MiB: several blocks of every decompressor


opened: list[int] = []


@pytest.fixture(autouse=True)
def closed_again() -> Iterator[None]:
    yield
    while opened:
        os.close(opened.pop())


def open_deb(tmp_path: Path, data: bytes) -> Deb:
    path = tmp_path / "x.deb"
    path.write_bytes(data)
    opened.append(os.open(path, os.O_RDONLY))
    return Deb(opened[-1], "demo 1.0")


def contents(tar: Tar) -> dict[bytes, bytes]:
    return {entry.name: b"".join(tar.pieces(entry)) for entry in tar if entry.kind == FILE}


@pytest.mark.parametrize("suffix", ["", "gz", "xz", "zst"])
def test_every_compression_gives_the_same_members(tmp_path: Path, suffix: str) -> None:
    deb = open_deb(tmp_path, debs.make(CONTROL, {"./usr/share/big": BIG, "./etc/x.conf": "a"}, suffix=suffix))
    control = deb.control()
    assert control["control"].data.startswith(b"Version: 1.0\n")
    assert control["control"].mtime_s == 1_700_000_000
    assert contents(deb.data()) == {b"./usr/share/big": BIG, b"./etc/x.conf": b"a"}


def test_bzip2_and_lzma_as_old_packages_have_them(tmp_path: Path) -> None:
    parts = debs.members(debs.make(CONTROL, {"./x": BIG}, suffix=""))
    for name, packed in (
        ("data.tar.bz2", bz2.compress(parts["data.tar"])),
        ("data.tar.lzma", lzma.compress(parts["data.tar"], lzma.FORMAT_ALONE)),
    ):
        old = {"debian-binary": b"2.0\n", "control.tar": parts["control.tar"], name: packed}
        assert contents(open_deb(tmp_path, debs.join(old)).data())[b"./x"] == BIG


def test_members_that_begin_with_an_underscore_are_ignored(tmp_path: Path) -> None:
    parts = debs.members(debs.make(CONTROL, {"./x": b"1"}))
    names = list(parts)
    mixed = {names[0]: parts[names[0]], "_gpgorigin": b"?", names[1]: parts[names[1]], names[2]: parts[names[2]]}
    assert contents(open_deb(tmp_path, debs.join({**mixed, "_more": b"?"})).data()) == {b"./x": b"1"}


def _with(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> bytes:
    return debs.join(change(debs.members(debs.make(CONTROL, {"./x": b"1"}))))


TORN = {
    "no ar": b"hello, world",
    "empty": b"",
    "only the magic": debs.MAGIC,
    "no data": _with(lambda p: {k: v for k, v in p.items() if not k.startswith("data")}),
    "no control": _with(lambda p: {k: v for k, v in p.items() if not k.startswith("control")}),
    "data before control": _with(lambda p: {k: p[k] for k in ("debian-binary", "data.tar.xz", "control.tar.xz")}),
    "two data members": _with(lambda p: {**p, "data.tar": b""}),
    "an unknown member": _with(lambda p: {**p, "extra": b"x"}),
    "a later format": _with(lambda p: {**p, "debian-binary": b"3.0\n"}),
    "an unknown compression": _with(lambda p: {k.replace("data.tar.xz", "data.tar.rar"): v for k, v in p.items()}),
    "trailing bytes": debs.make(CONTROL) + b"junk that is no member",
    "a negative size": debs.make(CONTROL).replace(b"4         `", b"-4        `", 1),
    "a size beyond the file": debs.make(CONTROL).replace(b"4         `", b"999999999 `", 1),
    "a control member without control": debs.join(
        {"debian-binary": b"2.0\n", "control.tar": bytes(1024), "data.tar": bytes(1024)}
    ),
    "xz cut short": _with(lambda p: {k: v[: len(v) // 2] if k.startswith("data") else v for k, v in p.items()}),
    "xz with a flipped bit": _with(
        lambda p: {k: v[:-30] + bytes([v[-30] ^ 1]) + v[-29:] if k.startswith("data") else v for k, v in p.items()}
    ),
    "a tar cut short": debs.join(
        {"debian-binary": b"2.0\n", **{k: v[:700] if k == "data.tar" else v for k, v in
         debs.members(debs.make(CONTROL, {"./x": BIG}, suffix="")).items() if k != "debian-binary"}}
    ),
    "zstd cut short": debs.join(
        {k: v[: len(v) // 2] if k.startswith("data") else v for k, v in
         debs.members(debs.make(CONTROL, {"./x": os.urandom(5000)}, suffix="zst")).items()}
    ),
}  # fmt: skip


@pytest.mark.parametrize("deb", TORN.values(), ids=TORN.keys())
def test_b5_what_breaks_the_format_is_refused_by_name(tmp_path: Path, deb: bytes) -> None:
    with pytest.raises(Malformed, match=r"demo 1\.0"):
        found = open_deb(tmp_path, deb)
        found.control()
        contents(found.data())


@pytest.mark.parametrize("suffix", ["xz", "gz", "zst"])
def test_a_decompression_bomb_ends_at_four_times_the_installed_size(tmp_path: Path, suffix: str) -> None:
    bomb = debs.make(CONTROL, {"./zeros": bytes(90 << 20)}, suffix=suffix)
    assert len(bomb) < 1 << 20
    with pytest.raises(Malformed, match="grows beyond 68 MiB"):
        contents(open_deb(tmp_path, bomb).data(installed_size_kib=1024))


def test_a_member_too_large_for_its_dictionary_is_refused(tmp_path: Path) -> None:
    parts = debs.members(debs.make(CONTROL, {"./x": b"1"}, suffix=""))
    greedy = lzma.compress(
        parts.pop("data.tar"), filters=[{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 30}]
    )
    with pytest.raises(Malformed, match=r"data\.tar\.xz"):
        contents(open_deb(tmp_path, debs.join({**parts, "data.tar.xz": greedy})).data())


def _tar(entries: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for entry, data in entries:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _read(data: bytes, block: int) -> Tar:
    return Tar(iter([data[i : i + block] for i in range(0, len(data), block)]), "a tar")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_headers_mean_what_tarfile_wrote(form: int) -> None:
    long = "./" + "/".join(["d" * 40] * 3) + "/name" if form == tarfile.USTAR_FORMAT else "./" + "é" * 150
    plain, link, folder = tarfile.TarInfo(long), tarfile.TarInfo("./link"), tarfile.TarInfo("./dir")
    plain.mode, plain.uid, plain.gid, plain.mtime = 0o4755, 1234, 4321, 1_600_000_000
    link.type, link.linkname = tarfile.SYMTYPE, "t" * (90 if form == tarfile.USTAR_FORMAT else 200)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    found = list(_read(_tar([(plain, b"x" * 700), (link, b""), (folder, b"")], form), 100))
    assert [entry.kind for entry in found] == [FILE, SYMLINK, DIRECTORY]
    assert found[0].name == long.encode()
    assert (found[0].mode, found[0].uid, found[0].gid, found[0].mtime_s) == (0o4755, 1234, 4321, 1_600_000_000)
    assert found[1].link == link.linkname.encode()
    assert found[2].mode == 0o1777


def test_numbers_beyond_octal() -> None:
    entry = tarfile.TarInfo("./x")
    entry.uid, entry.mtime = 3_000_000_000, -5
    (found,) = _read(_tar([(entry, b"")], tarfile.GNU_FORMAT), 512)
    assert (found.uid, found.mtime_s) == (3_000_000_000, -5)


def test_extended_attributes_of_pax_headers() -> None:
    entry = tarfile.TarInfo("./ping")
    entry.pax_headers = {"SCHILY.xattr.security.capability": "cap", "mtime": "1700000000.5"}
    (found,) = _read(_tar([(entry, b"")], tarfile.PAX_FORMAT), 512)
    assert found.xattrs == {"security.capability": b"cap"}
    assert found.mtime_s == 1_700_000_000


def test_content_that_is_not_taken_is_skipped() -> None:
    data = _tar([(tarfile.TarInfo(f"./{i}"), b"y" * 1000 * i) for i in range(5)], tarfile.GNU_FORMAT)
    assert [entry.name for entry in _read(data, 300)] == [b"./0", b"./1", b"./2", b"./3", b"./4"]


@pytest.mark.parametrize("kind", [b"S", b"V", b"M", b"7", b"D", b"\x01"])
def test_members_that_no_package_may_hold(kind: bytes) -> None:
    entry = tarfile.TarInfo("./x")
    entry.type = kind
    with pytest.raises(Malformed, match="which no package may hold"):
        list(_read(_tar([(entry, b"")], tarfile.GNU_FORMAT), 512))


@given(st.binary(max_size=2000), st.integers(0, 1500), st.integers(1, 600))
def test_whatever_the_bytes_the_answer_is_malformed_or_members(noise: bytes, at: int, block: int) -> None:
    data = _tar([(tarfile.TarInfo("./a"), b"a" * 100), (tarfile.TarInfo("./" + "b" * 200), b"")], tarfile.GNU_FORMAT)
    mixed = data[:at] + noise + data[at + len(noise) :]
    tar = _read(mixed, block)
    try:
        for entry in tar:
            assert sum(map(len, tar.pieces(entry) if entry.kind == FILE else ())) in (0, entry.size_bytes)
    except Malformed:
        pass


@pytest.mark.parametrize("suffix", ["", "gz", "xz", "zst"])
def test_a_tar_without_blank_blocks_ends_with_its_last_member(tmp_path: Path, suffix: str) -> None:
    """dpkg and GNU tar take it; what is cut off within is another matter (TORN)."""
    whole = debs.make(CONTROL, {"./usr/share/x": b"x" * 512}, suffix="")
    parts = debs.members(whole)
    parts["data.tar"] = parts["data.tar"].rstrip(b"\0")
    assert len(parts["data.tar"]) % 512 == 0
    assert contents(open_deb(tmp_path, debs.repack(debs.join(parts), suffix)).data()) == {b"./usr/share/x": b"x" * 512}


def test_owners_have_names(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("./a")
    entry.uname, entry.gname, entry.uid, entry.gid = "games", "root", 9, 9
    (found,) = (one for one in open_deb(tmp_path, debs.make(CONTROL, {"./a": entry})).data() if one.name == b"./a")
    assert (found.uname, found.gname, found.uid, found.gid) == (b"games", b"root", 9, 0)
