"""Layers that nobody's builder would write, each laid out flat and for overlayfs (docs/security.md, "Image layers")."""

import os
import re
import stat
import subprocess
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.layers import Member, file, folder, hard_link, layer, node, pieces, source, symlink
from tests.security.conftest import Canary
from toolkit.errors import CtkError, Malformed
from toolkit.image import digest
from toolkit.image.document import media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer import apply
from toolkit.image.layer.apply import FLAT, OVERLAY, Facts, LayerSource, Policy

pytestmark = pytest.mark.root

FORMS = [FLAT, OVERLAY]
both_forms = pytest.mark.parametrize("form", FORMS)
ALL = Policy(devices=True)


class Place:
    """A root beside a folder of the host's that nothing may touch."""

    def __init__(self, path: Path, canary: Canary) -> None:
        path.mkdir()
        self.path = path
        self.canary = canary

    def lay(self, form: str, *layers: LayerSource, policy: Policy = ALL, first: int = 0) -> Facts:
        """Flat onto one root; for overlayfs, each into a folder of its own (`first`, …), and the last one's facts."""
        if form == FLAT:
            return on(self.path, lambda fd: apply.flat(fd, iter(layers), policy))
        for number, one in enumerate(layers, first):
            (self.path / str(number)).mkdir()
            facts = on(self.path / str(number), lambda fd, one=one: apply.one(fd, *one, form, policy))  # type: ignore[misc]
        return facts

    def refuse(self, form: str, *layers: LayerSource, match: str, policy: Policy = ALL) -> None:
        with pytest.raises(CtkError, match=match):
            self.lay(form, *layers, policy=policy)
        assert self.canary.changes() == []

    def made(self, form: str, name: str) -> Path:
        return self.path / name if form == FLAT else self.path / "0" / name


def on(path: Path, work: Callable[[int], Facts]) -> Facts:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return work(fd)
    finally:
        os.close(fd)


@pytest.fixture
def place(tmp_path: Path, canary: Canary) -> Place:
    return Place(tmp_path / "root", canary)


# ---- L1: out of the root


OUT = ["../canary/new", "a/../../canary/new", "../canary/marker", "..", "a/..", "./../canary/marker"]


@both_forms
@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize(
    "make", [file, folder, lambda name: symlink(name, "x"), lambda name: node(name, tarfile.FIFOTYPE)]
)
def test_l1_a_name_that_leads_out(place: Place, form: str, name: str, make: Callable[[str], Member]) -> None:
    """CVE-2014-6407, CVE-2007-4559, CVE-2021-21272."""
    place.refuse(form, layer(folder("a"), make(name)), match=rf"'{re.escape(name)}/?' leads out of the root")


@both_forms
def test_l1_the_root_is_where_absolute_names_begin(place: Place, form: str) -> None:
    place.lay(
        form, layer(file(f"{place.canary}/marker", b"new"), folder("//d"), hard_link("///h", f"{place.canary}/marker"))
    )
    assert place.made(form, f"{place.canary}/marker".lstrip("/")).read_bytes() == b"new"
    assert place.made(form, "h").stat().st_nlink == 2


@both_forms
@pytest.mark.parametrize("target", ["../canary", "../../../../../../../etc", "a/../../canary", "/../canary"])
def test_l1_a_link_out_of_the_root_and_what_is_below_it(place: Place, form: str, target: str) -> None:
    below: list[Callable[[], Member]] = [
        lambda: file("link/new"), lambda: folder("link/folder"), lambda: symlink("link/marker", "x"),
        lambda: hard_link("link/marker", "mine"), lambda: file("link/deep/er"),
    ]  # fmt: skip
    for number, one in enumerate(below):
        other = Place(place.path / str(number), place.canary)
        bad = layer(folder("a"), file("mine"), symlink("link", target), one())
        other.refuse(form, bad, match=r"leads out of the root by 'link', a link to ")


@both_forms
def test_l1_a_link_that_stays_in_the_root_is_followed_in_it(place: Place, form: str) -> None:
    """An absolute target begins at the root, not at the host's."""
    place.lay(form, layer(symlink("link", str(place.canary)), file("link/marker", b"new"), file("link/deep/er")))
    assert place.made(form, f"{place.canary}/marker".lstrip("/")).read_bytes() == b"new"
    assert place.made(form, "link").is_symlink()


def test_l1_a_link_of_a_layer_below_is_followed_in_the_root(place: Place) -> None:
    """Whatever its text: the kernel's own `..` of `/` is `/`."""
    place.lay(
        FLAT,
        layer(symlink("one", "../../canary"), symlink("two", str(place.canary))),
        layer(file("one/x"), file("two/y")),
    )
    assert (place.path / "canary/x").is_file() and (place.path / f"{place.canary}/y".lstrip("/")).is_file()


def test_l1_links_that_lead_to_each_other_end(place: Place) -> None:
    place.refuse(
        FLAT, layer(symlink("a", "b"), symlink("b", "a"), file("a/x")), match="too many levels of symbolic links"
    )
    chain = [symlink(f"c{number}", f"c{number + 1}") for number in range(45)]
    other = Place(place.path / "other", place.canary)
    other.refuse(FLAT, layer(*chain, file("c0/x")), match="too many levels of symbolic links")


@both_forms
@pytest.mark.parametrize(
    "target", ["../canary/marker", "/{canary}/marker", "link/marker", "up", "d", "", "missing", "self", "x/../marker"]
)
def test_l1_hard_links_to_what_is_not_a_file_of_the_root(place: Place, form: str, target: str) -> None:
    """CVE-2014-9356: a write to the link would be one to the host's file."""
    members = [
        folder("d"),
        symlink("link", str(place.canary)),
        hard_link("self", target.format(canary=str(place.canary)[1:])),
    ]
    place.refuse(
        form, layer(*members), match="leads out of the root|which this (layer|root) does not have|which can't be|folder"
    )


@both_forms
def test_l1_a_hard_link_to_a_link_is_one_to_the_link(place: Place, form: str) -> None:
    place.lay(form, layer(symlink("link", f"{place.canary}/marker"), hard_link("h", "link")))
    assert place.made(form, "h").is_symlink() and place.made(form, "h").lstat().st_nlink == 2


def test_l1_a_whiteout_below_a_link_removes_nothing(place: Place) -> None:
    lower = layer(
        symlink("link", str(place.canary)), symlink("up", "../canary"), folder("in"), file("in/x"), symlink("to", "in")
    )
    marks = [
        file(f"{link}/{name}") for link in ("link", "up", "to") for name in (".wh.marker", ".wh.x", ".wh..wh..opq")
    ]
    facts = place.lay(FLAT, lower, layer(*marks))
    assert (place.path / "in/x").exists() and len(facts.warnings) == 9
    assert sorted(one.name for one in place.path.iterdir()) == ["in", "link", "to", "up"]


def test_l1_a_whiteout_of_a_link_is_not_one_of_its_target(place: Place) -> None:
    place.lay(FLAT, layer(symlink("link", str(place.canary)), folder("d")), layer(file(".wh.link"), file(".wh.d")))
    assert list(place.path.iterdir()) == []


@both_forms
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.d/x", ".wh.../x"])
def test_l1_a_whiteout_of_no_name(place: Place, form: str, name: str) -> None:
    """umoci 0.4.7 removed the folder, and then saw that something was wrong."""
    place.refuse(
        form, layer(folder("d"), file("d/kept"), file(name)), match="a whiteout of no name|is below a whiteout"
    )
    assert place.made(form, "d/kept").read_text() == "content"


@both_forms
def test_l1_what_aufs_kept_beside_its_files_is_passed_over(place: Place, form: str) -> None:
    place.lay(form, layer(folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("x")))
    assert [one.name for one in place.made(form, "x").parent.iterdir()] == ["x"]


# ---- L2, L3: owners and modes through links; the root itself


@both_forms
def test_l2_a_folder_where_a_link_was_is_a_folder(place: Place, form: str) -> None:
    """CVE-2021-32760: the mode and owner of the member went to the link's target."""
    bad = layer(symlink("d", str(place.canary)), folder("d", 0o777, uid=1234))
    place.refuse(form, bad, match="'d' more than once")
    again = Place(place.path / "again", place.canary)
    again.lay(form, bad, policy=Policy(lenient=True))
    about = again.made(form, "d").lstat()
    assert stat.S_ISDIR(about.st_mode) and about.st_uid == 1234
    below = Place(place.path / "below", place.canary)
    below.lay(FLAT, layer(symlink("d", str(place.canary))), layer(folder("d", 0o777, uid=1234)))
    assert (below.path / "d").lstat().st_uid == 1234 and not (below.path / "d").is_symlink()


def test_l2_a_link_where_a_folder_was_gets_nothing_of_the_folder(place: Place) -> None:
    """The folder's owner and mode are set at the very end, when a link has its name."""
    first = layer(folder("d", 0o777, uid=1234, xattrs={"user.note": b"x"}), file("d/x"))
    place.lay(FLAT, first, layer(symlink("d", str(place.canary))))
    assert (place.path / "d").is_symlink()


@both_forms
@pytest.mark.parametrize("name", ["./", ".", "/", "//", "./."])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_l3_the_root_is_a_folder(place: Place, form: str, name: str, kind: bytes) -> None:
    """CVE-2021-29136."""
    bad = symlink(name, str(place.canary))
    bad.info.type = kind
    place.refuse(form, layer(bad, file("marker")), match="member for the root is no folder")


# ---- L4, L5: one tar, two readers


def header(**fields: object) -> bytes:
    info = tarfile.TarInfo("x")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


def resealed(block: bytes) -> bytes:
    """A header with a right checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def extended(kind: bytes = b"x", **records: str) -> bytes:
    lines = b""
    for key, value in records.items():
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        lines += f"{length} {key}={value}\n".encode()
    return header(name="pax", type=kind, size=len(lines)) + lines + bytes(-len(lines) % 512)


HIDDEN = header(name="hidden", size=0) + bytes(512)


@both_forms
def test_l4_the_size_in_the_extended_header_counts(place: Place, form: str) -> None:
    """CVE-2025-62518: who takes the other one sees members in a file's content, or content as members."""
    swallowed = extended(size="1024") + header(name="outer", size=0) + HIDDEN
    shown = extended(size="0") + header(name="outer", size=1024) + HIDDEN[:512] + bytes(1024)
    place.lay(form, source(swallowed + bytes(1024)))
    assert place.made(form, "outer").read_bytes() == HIDDEN and not place.made(form, "hidden").exists()
    other = Place(place.path / "other", place.canary)
    other.lay(form, source(shown))
    assert other.made(form, "outer").read_bytes() == b"" and other.made(form, "hidden").exists()


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_l4_only_files_have_content(place: Place, kind: bytes) -> None:
    """As archive/tar of Go reads it, and so every engine."""
    plain = (
        header(name="target") + header(name="x", type=kind, linkname="target", size=1024) + HIDDEN[:512] + bytes(1024)
    )
    place.lay(FLAT, source(plain))
    assert (place.path / "hidden").exists()


DAMAGE = {
    "wrong checksum": header(name="x")[:-1] + b"x",
    "a broken record": header(name="pax", type=b"x", size=5) + b"9 a=b".ljust(512, b"\0") + header(),
    "is not a number": resealed(header(name="x")[:124] + b"0x10".ljust(12, b"\0") + header()[136:]),
    "ends in the middle": header(name="x", size=20_000) + bytes(1000),
    "an owner, a time": extended(uid=str(1 << 32)) + header(),
    "an owner, a": extended(gid=str((1 << 32) - 1)) + header(),
    "a size of -1": extended(size="-1") + header(),
    "out of range": extended(path="a\0b") + header(),
    "that are out of range": extended(linkpath="a\0b") + header(type=b"2", linkname="x"),
    "follows a single block of zeros": header(name="x") + bytes(512) + header(name="y"),
    "a global header that": extended(kind=b"g", path="y") + header(name="x"),
    "of an unknown type": header(name="x", type=b"Z"),
}


@both_forms
@pytest.mark.parametrize("what", list(DAMAGE))
def test_l5_damage_is_refused(place: Place, form: str, what: str) -> None:
    place.refuse(form, source(DAMAGE[what] + bytes(2048)), match=what)


def test_l5_a_comment_for_all_is_no_harm(place: Place) -> None:
    """git archive writes one."""
    place.lay(FLAT, source(extended(kind=b"g", comment="1234") + header(name="x") + bytes(1024)))
    assert [one.name for one in place.path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", [b"a\0b", b"a\0".ljust(100, b"z"), b"a".ljust(99, b"\0") + b"z"])
def test_l5_a_name_ends_at_a_nul(place: Place, name: bytes) -> None:
    place.lay(FLAT, source(resealed(name.ljust(100, b"\0") + header()[100:]) + bytes(1024)))
    assert [one.name for one in place.path.iterdir()] == ["a"]


def test_l5_escapes_are_quoted_where_they_are_shown(place: Place) -> None:
    name = "\x1b]0;owned\x07\x1b[2J\n"
    place.lay(FLAT, layer(file(name)))
    assert [one.name for one in place.path.iterdir()] == [name]
    with pytest.raises(Malformed) as error:
        place.lay(FLAT, layer(file(name), file(name)))
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


# ---- L6: bombs


@pytest.mark.parametrize(
    "name", ["d/" * 3000 + "x", "n" * 256, "d/" + "n" * 256 + "/x", "p" * 255 + ("/" + "p" * 255) * 20]
)
@both_forms
def test_l6_paths_too_long(place: Place, form: str, name: str) -> None:
    place.refuse(form, layer(file("first"), file(name)), match="file name too long|name too long")
    assert place.made(form, "first").exists()


def test_l6_folders_deeper_than_any_path_through_links(place: Place) -> None:
    """Each part is short, and a link leads to where the last one ended."""
    deep = "/".join("d" * 100 for _ in range(35))
    members = [file(f"{deep}/x"), symlink("link", deep), file(f"link/{deep}/y")]
    place.refuse(FLAT, layer(*members), match="name too long")


def a_bomb(mib: int) -> bytes:
    info = tarfile.TarInfo("zeros")
    info.size = mib << 20
    return info.tobuf(tarfile.USTAR_FORMAT)


def packed(plain: Iterator[bytes]) -> tuple[bytes, str, int]:
    """A gzip blob, and digest and length of what is in it, without having it all in memory."""
    import hashlib
    import zlib

    machine, found, length, blob = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.sha256(), 0, bytearray()
    for piece in plain:
        found.update(piece)
        length += len(piece)
        blob += machine.compress(piece)
    return bytes(blob + machine.flush()), f"sha256:{found.hexdigest()}", length


def in_a_child(work: Callable[[], None]) -> int:
    """Do it in a child; its peak memory in KiB, and this process's own when it was made."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return usage.ru_maxrss


def test_l6_a_bomb_takes_no_memory(place: Place) -> None:
    mib = 300

    def plain() -> Iterator[bytes]:
        yield a_bomb(mib)
        for _ in range(mib):
            yield bytes(1 << 20)
        yield bytes(1024)

    blob, diff_id, length = packed(plain())
    assert len(blob) < 2 << 20
    descriptor = Descriptor(media_types.OCI_LAYER_GZIP, digest.of(blob), len(blob))
    bomb = lambda: LayerSource(pieces(blob), descriptor, diff_id)  # noqa: E731
    place.refuse(FLAT, bomb(), match="grows beyond the 1000000 bytes", policy=Policy(limit_bytes=1_000_000))
    (place.path / "zeros").unlink()

    def lay() -> None:
        facts = place.lay(FLAT, bomb())
        assert facts.plain_bytes == length

    idle = in_a_child(lambda: None)
    assert in_a_child(lay) - idle < 20 << 10
    assert (place.path / "zeros").stat().st_size == mib << 20


def test_l6_the_file_system_is_not_filled_to_its_end(place: Place) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", place.path], check=True)
    try:
        plain = a_bomb(200) + bytes(200 << 20) + bytes(1024)
        place.refuse(FLAT, source(plain, media_types.OCI_LAYER_ZSTD), match=r"its file system has 1\d MiB left")
        assert os.statvfs(place.path).f_bavail * 4096 > 12 << 20
        large = LayerSource(iter([]), Descriptor(media_types.OCI_LAYER, digest.of(b""), 100 << 20), digest.of(b""))
        place.refuse(FLAT, large, match="the compressed layer alone has 100")
    finally:
        subprocess.run(["umount", place.path], check=True)


def test_l6_a_file_that_is_all_holes(place: Place) -> None:
    """It costs nothing, and whoever copies it pays."""
    info = tarfile.TarInfo("holes")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "holes",
        "GNU.sparse.realsize": str(1 << 60),
    }
    info.size = 512
    plain = info.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0") + bytes(1024)
    place.refuse(FLAT, source(plain), match="its file system has only")


@both_forms
@pytest.mark.parametrize("make", [lambda number: folder(f"d{number}"), lambda number: file(f"d{number}/x")])
def test_l6_folders_without_end(place: Place, form: str, make: Callable[[int], Member]) -> None:
    """What a folder gets in the end is kept until then."""
    many = layer(*(make(number) for number in range(11)))
    place.refuse(form, many, match="more than 10 folders", policy=Policy(limit_folders=10))
    other = Place(place.path / "other", place.canary)
    other.lay(form, many, policy=Policy(limit_folders=11))


def test_l6_many_folders_and_whiteouts_take_linear_time(place: Place) -> None:
    count = 500
    lower = [one for number in range(count) for one in (folder(f"d{number}"), folder(f"d{number}/in"))]
    upper = [one for number in range(count) for one in (file(f"d{number}/new/x"), file(f".wh.e{number}"))]
    third = [file(f".wh.d{number}") for number in range(count)]
    layers = [layer(*lower), layer(*upper), layer(*third)]
    begun = time.process_time()
    place.lay(FLAT, *layers)
    assert list(place.path.iterdir()) == []
    assert time.process_time() - begun < 3


# ---- L7: attributes and nodes


@both_forms
@pytest.mark.parametrize("devices", [False, True])
def test_l7_a_smuggled_whiteout(place: Place, form: str, devices: bool) -> None:
    bad = layer(folder("etc"), node("etc/shadow", tarfile.CHRTYPE, 0, 0))
    place.refuse(form, bad, match="'etc/shadow' is the device 0:0", policy=Policy(devices=devices))


@both_forms
def test_l7_attributes_that_are_the_hosts_to_give(place: Place, form: str) -> None:
    capability = bytes.fromhex("0100000200200000" + "00" * 12)
    allowed = {"user.note": b"x", "security.capability": capability}
    others = {
        "trusted.overlay.opaque": b"y", "trusted.overlay.redirect": b"/etc", "trusted.overlay.metacopy": b"",
        "user.overlay.opaque": b"y", "user.overlay.whiteout": b"", "user.overlay.redirect": b"/etc",
        "security.selinux": b"unconfined_u:object_r:shadow_t:s0", "security.ima": b"\4\4", "security.evm": b"\2",
        "trusted.note": b"x", "system.nfs4_acl": b"x", "btrfs.compression": b"zstd",
    }  # fmt: skip
    made = layer(
        folder("d", xattrs={**others, "user.note": b"x"}),
        file("f", xattrs={**allowed, **others}),
        symlink("l", "f", xattrs=others),
    )
    facts = place.lay(form, made)
    assert os.listxattr(place.made(form, "d")) == ["user.note"]
    assert {name: os.getxattr(place.made(form, "f"), name) for name in os.listxattr(place.made(form, "f"))} == allowed
    assert os.listxattr(place.made(form, "l"), follow_symlinks=False) == []
    assert facts.skipped_xattrs == 3 * len(others) and facts.refused_xattrs == 0


def test_l7_devices_are_made_only_where_they_are_asked_for(place: Place) -> None:
    nodes = layer(
        node("mem", tarfile.CHRTYPE, 1, 1, 0o666),
        node("sda", tarfile.BLKTYPE, 8, 0, 0o666),
        node("p", tarfile.FIFOTYPE),
    )
    facts = place.lay(FLAT, nodes, policy=Policy())
    assert facts.skipped_devices == 2 and [one.name for one in place.path.iterdir()] == ["p"]


# ---- L8: owners


def in_user_namespace(count: int, first: int, work: Callable[[], None]) -> None:
    """Do it as root of a user namespace of the ids 0 to count - 1, which are the host's from `first` on."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            import ctypes

            if ctypes.CDLL(None, use_errno=True).unshare(0x1000_0000):  # CLONE_NEWUSER
                raise OSError(ctypes.get_errno(), "unshare")
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        os.read(ready[0], 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {first} {count}\n")
        os.write(go[1], b"x")
    finally:
        assert os.waitpid(pid, 0)[1] == 0
        for fd in (*ready, *go):
            os.close(fd)


@pytest.fixture
def theirs(place: Place) -> Iterator[Place]:
    """A root of the user namespace's root."""
    with tempfile.TemporaryDirectory(prefix="ctk-layers-") as folder:  # pytest's own folders are closed to others
        os.chown(folder, 500_000, 500_000)
        place.path = Path(folder)
        yield place


OWNED = [file("ok", mode=0o4755, uid=999, gid=1), file("opt/far", mode=0o6755, uid=1000, gid=3_000_000)]


@both_forms
def test_l8_an_owner_that_is_not_mapped_is_told(theirs: Place, form: str) -> None:
    """It is never nobody's or root's without a word."""

    def work() -> None:
        with pytest.raises(CtkError) as error:
            theirs.lay(form, layer(*OWNED))
        told = f"{error.value} {error.value.hint}"
        assert "'opt/far' belongs to user 1000, and this user namespace holds only 0-999" in told
        assert "--squash-ids" in told
        with pytest.raises(CtkError, match="belongs to group 3000000, and this user namespace holds only 0-999"):
            theirs.lay(form, layer(file("x", gid=3_000_000)), first=7)

    in_user_namespace(1000, 500_000, work)


def test_l8_owners_that_are_squashed_are_noted(theirs: Place) -> None:
    def work() -> None:
        more = [
            folder("d", uid=70_000),
            symlink("l", "x", uid=70_000),
            node("p", tarfile.FIFOTYPE, mode=0o4644, gid=70_000),
        ]
        facts = theirs.lay(FLAT, layer(*OWNED, *more), policy=Policy(squash_ids=True, devices=True))
        assert facts.squashed_owners == 4

    in_user_namespace(1000, 500_000, work)
    root = theirs.path
    assert (root / "ok").stat().st_uid == 500_999 and stat.S_IMODE((root / "ok").stat().st_mode) == 0o4755
    far = (root / "opt/far").stat()
    # A setuid file would be a stranger's program with the rights of whoever laid it out.
    assert (far.st_uid, far.st_gid, stat.S_IMODE(far.st_mode)) == (500_000, 500_000, 0o755)
    assert os.getxattr(root / "opt/far", "user.rootlesscontainers") == bytes.fromhex("08e80710c08db701")
    assert os.getxattr(root / "d", "user.rootlesscontainers") == bytes.fromhex("08f0a204")
    assert {(root / name).lstat().st_uid for name in "dlp"} == {500_000}
    assert stat.S_IMODE((root / "p").stat().st_mode) == 0o644


def test_l8_devices_in_a_user_namespace_are_counted(theirs: Place) -> None:
    def work() -> None:
        facts = theirs.lay(FLAT, layer(node("c", tarfile.CHRTYPE, 1, 3), file("x")))
        assert facts.skipped_devices == 1

    in_user_namespace(1000, 500_000, work)


def test_l8_whiteouts_in_a_user_namespace(theirs: Place) -> None:
    """mknod(2) of 0:0 needs no capability since Linux 5.8; trusted.* attributes do."""

    def work() -> None:
        marks = [folder("d"), file("d/.wh.x"), folder("o"), file("o/.wh..wh..opq")]
        made = layer(*marks, file("locked/x", mode=0), folder("locked", 0))
        on(theirs.path, lambda fd: apply.one(fd, *made, apply.USERXATTR))

    in_user_namespace(1000, 500_000, work)
    assert stat.S_ISCHR((theirs.path / "d/x").lstat().st_mode)
    assert os.getxattr(theirs.path / "o", "user.overlay.opaque") == b"y"


def test_l8_an_ordinary_user_gives_nothing_away(theirs: Place) -> None:
    os.chown(theirs.path, 65534, 65534)

    def work() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(CtkError, match="'x' belongs to user 0, and an ordinary user can't give files away"):
            theirs.lay(FLAT, layer(file("x")))
        facts = theirs.lay(
            FLAT,
            layer(
                folder("d", 0), folder("d/e", 0o500), file("d/e/f", mode=0), file("d/y", mode=0o4755), file("z", uid=7)
            ),
            policy=Policy(squash_ids=True),
        )
        assert facts.squashed_owners == 1

    in_a_child(work)
    assert (theirs.path / "z").stat().st_uid == 65534
    assert stat.S_IMODE((theirs.path / "d/y").stat().st_mode) == 0o755
    assert stat.S_IMODE((theirs.path / "d").stat().st_mode) == 0


def test_l8_the_largest_ids_are_kept_as_they_are(place: Place) -> None:
    place.lay(FLAT, layer(file("a", uid=(1 << 31) + 5, gid=(1 << 32) - 2)))
    about = (place.path / "a").stat()
    assert (about.st_uid, about.st_gid) == ((1 << 31) + 5, (1 << 32) - 2)


def test_l9_an_error_names_the_file(place: Place) -> None:
    big = {"user.big": bytes(65_537)}
    place.refuse(FLAT, layer(file("x", xattrs=big)), match=r"^lay out the layer sha256:\w+: 'x': ")
