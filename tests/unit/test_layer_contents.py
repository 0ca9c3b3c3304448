"""What layers put at each path, in a table: which paths are added, changed, deleted, and which layers are refused."""

import contextlib
import hashlib
import re
import tarfile
from collections.abc import Iterable

import pytest

from tests.fixtures.layers import Member, file, folder, hard_link, node, symlink, tar
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import CtkError, Malformed
from toolkit.image.layer import contents
from toolkit.image.layer.contents import Contents, Root

BASE = [
    folder("etc"), file("etc/hosts", b"hosts"), file("etc/passwd", b"passwd"), folder("usr"), folder("usr/lib"),
    file("usr/lib/a", b"a"), symlink("lib", "usr/lib"), folder("old"), folder("old/deep"), file("old/deep/x"),
]  # fmt: skip


def put(root: Root, *layers: Iterable[Member], times: bool = False, rewritten: bool = False) -> None:
    for members in layers:
        data = AnyTar(iter([tar(members)]), "a layer", global_headers=False)
        root.layer(data, "read it", times=times, rewritten=rewritten)


def between(old: Iterable[Iterable[Member]], new: Iterable[Iterable[Member]]) -> list[str]:
    with contextlib.closing(Contents()) as both:
        put(both.old, *old)
        put(both.new, *new)
        return [" ".join(one) for one in both.changes()]


def over(members: Iterable[Member], below: Iterable[Member] = ()) -> list[str]:
    """What one layer changes over BASE."""
    with contextlib.closing(Contents()) as both:
        put(both.old, below or BASE, times=True)
        both.copy()
        put(both.new, members, times=True, rewritten=True)
        return [" ".join(one) for one in both.changes()]


def test_a_layer_over_nothing_adds_all_but_the_root() -> None:
    assert between([], [[folder("./"), folder("./a"), file("./a/b")]]) == ["A /a", "A /a/b"]


def test_a_folder_in_which_a_name_came_or_went_has_changed() -> None:
    assert over([file("etc/new")]) == ["C /etc", "A /etc/new"]
    assert over([file("etc/.wh.hosts", b"")]) == ["C /etc", "D /etc/hosts"]
    assert over([file("new")]) == ["A /new"]


def test_a_deleted_folder_stands_for_all_in_it() -> None:
    assert over([file(".wh.old", b"")]) == ["D /old"]
    assert over([file("old", b"now a file"), file("etc/hosts", b"2")]) == ["C /etc/hosts", "C /old", "D /old/deep"]


def test_what_a_layer_carries_is_changed_and_a_folder_only_if_it_is_different() -> None:
    assert over([folder("etc"), file("etc/hosts", b"hosts")]) == ["C /etc/hosts"]
    assert over([folder("etc", mode=0o700)]) == ["C /etc"]
    later = folder("etc")
    later.info.mtime += 1
    assert over([later]) == ["C /etc"]


def test_an_opaque_folder_hides_what_is_below_and_nothing_of_its_own_layer() -> None:
    white = file("etc/.wh..wh..opq", b"")
    for members in ([folder("etc"), file("etc/new"), white], [white, folder("etc"), file("etc/new")]):
        assert over(members) == ["C /etc", "D /etc/hosts", "A /etc/new", "D /etc/passwd"]


def test_a_whiteout_beside_its_file_leaves_the_file() -> None:
    assert over([file("etc/hosts", b"2"), file("etc/.wh.hosts", b"")]) == ["C /etc/hosts"]
    assert over([folder("old/new"), file(".wh.old", b"")]) == ["C /old", "D /old/deep", "A /old/new"]


def test_a_member_below_a_link_is_where_the_link_leads() -> None:
    assert over([file("lib/b"), file("lib/.wh.a", b"")]) == ["C /usr/lib", "A /usr/lib/b"]
    assert over([symlink("lib", "etc"), file("lib/b")]) == ["C /etc", "A /etc/b", "C /lib"]


def test_what_is_compared() -> None:
    one = file("x", b"one", xattrs={"user.a": b"1"})
    different: list[list[Member]] = [
        [file("x", b"two", xattrs={"user.a": b"1"})],
        [file("x", b"one", xattrs={"user.a": b"2"})],
        [file("x", b"one", mode=0o600, xattrs={"user.a": b"1"})],
        [file("x", b"one", uid=7, xattrs={"user.a": b"1"})],
        [file("x", b"one", gid=7, xattrs={"user.a": b"1"})],
        [symlink("x", "one")],
        [folder("x")],
    ]
    for members in different:
        assert between([[one]], [members]) == ["C /x"]
    later = file("x", b"one", xattrs={"user.a": b"1", "trusted.overlay.opaque": b"y", "user.overlay.opaque": b"y"})
    later.info.mtime += 100
    assert between([[one]], [[later]]) == []
    odd = symlink("x", "a")
    odd.info.mode = 0o755
    assert between([[odd]], [[symlink("x", "a")]]) == []
    assert between([[symlink("x", "a")]], [[symlink("x", "b")]]) == ["C /x"]
    null = node("x", tarfile.CHRTYPE, 1, 3)
    assert between([[null]], [[node("x", tarfile.CHRTYPE, 1, 3)]]) == []
    assert between([[null]], [[node("x", tarfile.CHRTYPE, 1, 5)]]) == ["C /x"]
    assert between([[null]], [[node("x", tarfile.BLKTYPE, 1, 3)]]) == ["C /x"]


def test_a_hard_link_is_the_file_that_it_was_made_of() -> None:
    linked, copied = [file("a", b"1"), hard_link("b", "a")], [file("a", b"1"), file("b", b"1")]
    assert between([linked], [copied]) == []
    # The layer replaces one name, and the other one keeps what it had.
    assert between([linked], [linked, [file("a", b"2")]]) == ["C /a"]


def sparse(name: str, size: int) -> bytes:
    """A file of GNU's format 1.0 that begins with ten bytes, and is a hole from there on."""
    stored = b"2\n0\n10\n%d\n0\n" % size
    data = stored.ljust(512, b"\0") + b"ten bytes!"
    one = file("GNUSparseFile.0/it", data)
    one.info.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": str(size),
    }  # fmt: skip
    return tar([one])


def test_holes_are_zeros_however_the_tar_stores_them() -> None:
    with contextlib.closing(Contents()) as both:
        both.old.layer(AnyTar(iter([sparse("x", 100_000)]), "a layer"), "read it")
        put(both.new, [file("x", b"ten bytes!".ljust(100_000, b"\0"))])
        assert list(both.changes()) == []


def test_a_hole_of_a_tebibyte_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = hashlib.sha256

    class Counted:
        def __init__(self, data: bytes = b"") -> None:
            self.inner = real(data)
            self.digest = self.inner.digest

        def update(self, data: bytes) -> None:
            hashed.append(len(data))
            self.inner.update(data)

    monkeypatch.setattr(contents.hashlib, "sha256", Counted)
    with contextlib.closing(Contents()) as both:
        both.old.layer(AnyTar(iter([sparse("x", 1 << 40)]), "a layer"), "read it")
        both.new.layer(AnyTar(iter([sparse("x", 1 << 41)]), "a layer"), "read it")
        assert list(both.changes()) == [("C", "/x")]
    assert sum(hashed) < 1000


REFUSED = {
    "leads out of the root": [file("../x")],
    "leads out of the root by 'link', a link to '../..'": [symlink("link", "../.."), file("link/x")],
    "member for the root is no folder": [symlink("./", "/etc")],
    "'x' more than once": [file("x"), file("x")],
    "'d' more than once": [folder("d"), folder("d")],
    "'e' more than once": [file("e/x"), file("e")],
    "which is a whiteout to overlayfs": [node("x", tarfile.CHRTYPE, 0, 0)],
    "a whiteout of no name": [file("a/.wh..", b"")],
    "is below a whiteout": [file(".wh.a/x", b"")],
    "and it is no folder": [file("f"), file("f/x")],
    "which can't be": [hard_link("x", "x")],
    "does not have, or only through a symbolic link": [
        folder("d"),
        file("d/x"),
        symlink("l", "d"),
        hard_link("h", "l/x"),
    ],
    "which is a folder": [folder("d"), hard_link("h", "d")],
    "file name too long": [file("n" * 256)],
    "file name too long ": [file("n/" * 2100 + "x")],
    "too many levels of symbolic links": [symlink("a", "b"), symlink("b", "a"), file("a/x")],
}


@pytest.mark.parametrize("what", REFUSED)
def test_layers_that_are_not_laid_out_are_not_compared(what: str) -> None:
    with contextlib.closing(Contents()) as both, pytest.raises(Malformed, match=re.escape(what.strip())):
        put(both.old, REFUSED[what])


def test_a_layer_has_so_many_members_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MEMBERS", 3)
    with contextlib.closing(Contents()) as both, pytest.raises(CtkError, match="more than 3 members"):
        put(both.old, [file(str(number)) for number in range(4)])
