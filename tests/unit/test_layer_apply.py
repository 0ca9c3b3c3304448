"""What layers become, by image-spec's layer.md and for overlayfs: toolkit.image.layer.apply."""

import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.layers import MTIME_S, file, folder, hard_link, layer, look, node, source, symlink, tar
from toolkit.errors import CtkError, Malformed, Untrusted
from toolkit.image.document import media_types
from toolkit.image.layer import apply
from toolkit.image.layer.apply import OVERLAY, USERXATTR, Facts, LayerSource, Policy

pytestmark = pytest.mark.root


class Root:
    """An empty folder, and layers laid out onto it."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def flat(self, *layers: LayerSource, policy: Policy = Policy()) -> Facts:  # noqa: B008
        return apply.flat(self.fd, iter(layers), policy)

    def one(self, layer: LayerSource, form: str, policy: Policy = Policy()) -> Facts:  # noqa: B008
        return apply.one(self.fd, *layer, form, policy)

    def names(self) -> list[str]:
        return sorted(str(one.relative_to(self.path)) for one in self.path.rglob("*"))

    def text(self, name: str) -> str:
        return (self.path / name).read_text()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = Root(tmp_path / "root")
    yield made
    os.close(made.fd)


@pytest.mark.parametrize("media_type", [media_types.OCI_LAYER, media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER_ZSTD])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_everything_that_a_layer_may_hold(root: Root, media_type: str, umask: int, tmp_path: Path) -> None:
    """Beside GNU tar, which is told to restore it all."""
    capability = bytes.fromhex("0100000200200000" + "00" * 12)
    plain = tar(
        [
            folder("./", 0o700),
            folder("./d", 0o2775, uid=3, gid=70_000),
            file("./d/f", b"text" * 40_000, 0o4751, uid=1000, gid=0, xattrs={"user.note": b"a\0\xff"}),
            file("./d/cap", b"", xattrs={"security.capability": capability}),
            hard_link("./d/g", "./d/f", mode=0o4751, uid=1000, gid=0, xattrs={"user.note": b"a\0\xff"}),
            symlink("./l", "d/../nowhere", uid=7, gid=7),
            node("./p", tarfile.FIFOTYPE, mode=0o606, uid=8),
            node("./c", tarfile.CHRTYPE, 1, 3, 0o666),
            node("./b", tarfile.BLKTYPE, 7, 200, 0o640, gid=6),
            folder("./closed", 0),
            file(b"./closed/\xe9\n" + b"n" * 200, b"x", 0, mtime=-315_619_200.25),
            file("./far", b"", mtime=4_102_444_800.5),
        ]
    )
    before = os.umask(umask)
    try:
        facts = root.flat(source(plain, media_type), policy=Policy(devices=True))
    finally:
        os.umask(before)
    (tmp_path / "peer").mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "--same-owner"]
    subprocess.run(["tar", "-xf", "-", *options, "-C", tmp_path / "peer"], input=plain, check=True)
    found, peer = look(root.path), look(tmp_path / "peer")
    assert found == peer
    assert (facts.layers, facts.members, facts.plain_bytes, facts.implicit, facts.warnings) == (
        1,
        12,
        len(plain),
        (),
        (),
    )
    assert facts.skipped_xattrs == facts.refused_xattrs == facts.skipped_devices == facts.squashed_owners == 0


def test_a_whiteout_removes_what_lies_below_it(root: Root) -> None:
    lower = layer(
        folder("a"), file("a/one"), file("a/two"), folder("b"), folder("b/c"), file("b/c/x"), symlink("l", "a")
    )
    facts = root.flat(lower, layer(file("a/.wh.one"), file(".wh.b"), file(".wh.l")))
    assert root.names() == ["a", "a/two"]
    assert facts.warnings == () and facts.layers == 2


@pytest.mark.parametrize("late", [False, True])
def test_an_opaque_folder_keeps_what_its_own_layer_has(root: Root, late: bool) -> None:
    """Wherever in its layer the marker stands (layer.md, "Opaque Whiteout")."""
    lower = layer(folder("a", 0o700), file("a/x"), folder("a/s", 0o700), file("a/s/y"), file("b"))
    upper = [folder("a", 0o711), file("a/new"), folder("a/s", 0o711), file("a/s/new")]
    upper.insert(len(upper) if late else 0, file("a/.wh..wh..opq"))
    root.flat(lower, layer(*upper))
    assert root.names() == ["a", "a/new", "a/s", "a/s/new", "b"]


@pytest.mark.parametrize("late", [False, True])
def test_a_whiteout_is_not_for_its_own_layer(root: Root, late: bool) -> None:
    lower = layer(file("f", b"old"), folder("d"), file("d/old"), file("both"), hard_link("other", "both"))
    upper = [file("f", b"new"), folder("d"), file("d/new"), file("both", b"new")]
    marks = [file(".wh.f"), file(".wh.d"), file(".wh.both")]
    root.flat(lower, layer(*(upper + marks if late else marks + upper)))
    assert root.names() == ["both", "d", "d/new", "f", "other"]
    assert root.text("f") == root.text("both") == "new" and root.text("other") == "content"


def test_what_a_member_takes_the_place_of(root: Root) -> None:
    """Each kind onto each kind."""
    make = {
        "file": lambda name: [file(name, b"new")],
        "folder": lambda name: [folder(name)],
        "link": lambda name: [symlink(name, "target")],
        "fifo": lambda name: [node(name, tarfile.FIFOTYPE)],
        "hard": lambda name: [hard_link(name, "target")],
        "full": lambda name: [folder(name), file(f"{name}/in"), folder(f"{name}/deep"), file(f"{name}/deep/in")],
    }
    lower, upper = [file("target", b"linked")], []
    for one in make:
        for other in make:
            lower += make[one](f"{one}-{other}")
            upper += make[other](f"{one}-{other}")
    root.flat(layer(*lower), layer(*upper))
    kinds = {
        "file": stat.S_IFREG,
        "folder": stat.S_IFDIR,
        "link": stat.S_IFLNK,
        "fifo": stat.S_IFIFO,
        "hard": stat.S_IFREG,
    }
    for one in make:
        for other in make:
            path = root.path / f"{one}-{other}"
            assert stat.S_IFMT(path.lstat().st_mode) == kinds.get(other, stat.S_IFDIR)
            if stat.S_ISDIR(path.lstat().st_mode):
                expected = {"deep", "in"} if "full" in (other, one if other == "folder" else "") else set()
                assert {inner.name for inner in path.iterdir()} == expected
    assert root.text("target") == "linked" and root.text("full-hard") == "linked"


def test_hard_links_reach_into_the_layers_below(root: Root) -> None:
    root.flat(
        layer(folder("d"), file("d/one", b"same"), symlink("s", "d/one")),
        layer(hard_link("two", "d/one"), hard_link("t", "s")),
    )
    assert (root.path / "two").samefile(root.path / "d/one")
    assert os.readlink(root.path / "t") == "d/one" and (root.path / "s").lstat().st_nlink == 2


def test_folders_are_finished_when_all_is_in_them(root: Root) -> None:
    """A later layer that puts something into a folder does not say that the folder changed."""
    lower = layer(folder("a", 0o500, uid=5, mtime=7), folder("a/b", 0, mtime=8), file("a/b/x"))
    facts = root.flat(lower, layer(file("a/b/y"), file("a/c/z")))
    about, inner = (root.path / "a").stat(), (root.path / "a/b").stat()
    assert (about.st_mtime, stat.S_IMODE(about.st_mode), about.st_uid) == (7, 0o500, 5)
    assert (inner.st_mtime, stat.S_IMODE(inner.st_mode)) == (8, 0)
    made_up = (root.path / "a/c").stat()
    assert facts.implicit == (b"a/c",) and (stat.S_IMODE(made_up.st_mode), made_up.st_mtime) == (0o755, 0)


def test_a_folder_that_was_removed_is_forgotten(root: Root) -> None:
    facts = root.flat(
        layer(folder("a", 0o700, uid=5), folder("a/b", 0o700, uid=5), file("a/b/x")),
        layer(file(".wh.a")),
        layer(file("a/b/y")),
    )
    assert root.names() == ["a", "a/b", "a/b/y"]
    assert {(stat.S_IMODE(one.stat().st_mode), one.stat().st_uid) for one in root.path.rglob("[ab]")} == {(0o755, 0)}
    assert facts.implicit == (b"a", b"a/b")


def test_merged_usr_is_followed(root: Root) -> None:
    """A layer that has `lib/x` where the layers below have `lib -> usr/lib`."""
    lower = layer(
        folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr/lib"), symlink("up", "../usr")
    )
    upper = layer(file("lib/x"), file("abs/y"), file("lib/new/z"), file("up/lib/w"), file("usr/lib/v"))
    facts = root.flat(lower, upper)
    assert (root.path / "lib").is_symlink() and sorted(os.listdir(root.path / "usr/lib")) == ["new", "v", "w", "x", "y"]
    assert facts.implicit == (b"usr/lib/new",)


def test_a_link_that_is_replaced_leads_nowhere_any_more(root: Root) -> None:
    lower = layer(folder("real"), symlink("way", "real"))
    root.flat(lower, layer(file("way/one")), layer(folder("way"), file("way/two")), layer(file("way/three")))
    assert root.names() == ["real", "real/one", "way", "way/three", "way/two"]


def test_opaque_and_white_in_the_form_of_overlayfs(root: Root) -> None:
    upper = layer(
        folder("a"), file("a/.wh.gone"), folder("o"), file("o/.wh..wh..opq"), file("o/x"), file("deep/.wh.gone")
    )
    facts = root.one(upper, OVERLAY)
    for name in ("a/gone", "deep/gone"):
        about = (root.path / name).lstat()
        assert stat.S_ISCHR(about.st_mode) and about.st_rdev == 0
    assert os.getxattr(root.path / "o", "trusted.overlay.opaque") == b"y"
    assert os.listxattr(root.path / "a") == [] and facts.implicit == (b"deep",)


@pytest.mark.parametrize("form", [OVERLAY, USERXATTR])
@pytest.mark.parametrize("late", [False, True])
def test_a_folder_that_is_white_as_well_hides_what_is_below(root: Root, form: str, late: bool) -> None:
    members = [folder("d"), file("d/x"), file("f"), file("i/x")]
    marks = [file(".wh.d"), file(".wh.f"), file(".wh.i")]
    root.one(layer(*(members + marks if late else marks + members)), form)
    name = "trusted.overlay.opaque" if form == OVERLAY else "user.overlay.opaque"
    assert root.names() == ["d", "d/x", "f", "i", "i/x"]
    assert [os.getxattr(root.path / one, name) for one in "di"] == [b"y", b"y"]
    assert stat.S_ISREG((root.path / "f").lstat().st_mode)


@pytest.mark.parametrize("late", [False, True])
def test_an_opaque_folder_has_no_whiteouts(root: Root, late: bool) -> None:
    """Overlayfs merges nothing into it, and so it listed them: names of files that are not there."""
    members = [folder("d"), folder("d/e"), file("d/.wh.x"), file("d/e/.wh.x"), file(".wh.x")]
    marks = [file("d/.wh..wh..opq")]
    root.one(layer(*(members + marks if late else marks + members)), OVERLAY)
    assert root.names() == ["d", "d/e", "x"]


def test_a_layer_for_overlayfs_has_a_folder_of_its_own(root: Root) -> None:
    (root.path / "x").touch()
    with pytest.raises(CtkError, match="not empty"):
        root.one(layer(), OVERLAY)


def test_a_root_that_is_not_empty_is_a_layer_below(root: Root) -> None:
    (root.path / "old").mkdir(mode=0o2777)
    (root.path / "old").chmod(0o2777)
    os.chown(root.path / "old", 0, 77)
    (root.path / "gone").touch()
    root.flat(layer(file("old/x", mode=0o600), file(".wh.gone")))
    assert root.names() == ["old", "old/x"]
    about = (root.path / "old/x").stat()
    assert (about.st_gid, stat.S_IMODE(about.st_mode), about.st_mtime) == (0, 0o600, MTIME_S)


def test_owners_are_numbers_whatever_their_names(root: Root) -> None:
    root.flat(layer(file("x", uid=12, gid=13, uname="root", gname="root")))
    assert ((root.path / "x").stat().st_uid, (root.path / "x").stat().st_gid) == (12, 13)


def test_a_whiteout_of_nothing_is_told(root: Root) -> None:
    facts = root.flat(layer(file("a/x"), symlink("l", "a")), layer(file("a/.wh.y"), file("no/.wh.y"), file("l/.wh.x")))
    assert root.names() == ["a", "a/x", "l"]
    assert [one.rpartition(": ")[2] for one in facts.warnings] == [
        f"'{name}' is a whiteout of nothing" for name in ("a/y", "no/y", "l/x")
    ]
    many = root.flat(layer(*(file(f"a/.wh.{number}") for number in range(100))))
    assert len(many.warnings) == 21 and many.warnings[-1] == "… and 80 more"


def test_a_layer_that_is_not_what_it_was_does_not_count(root: Root) -> None:
    plain = tar([file("x")])
    pieces, descriptor, _ = source(plain)
    with pytest.raises(Untrusted, match="diff id"):
        root.flat(LayerSource(pieces, descriptor, source(b"other").diff_id))


def test_members_without_end(root: Root) -> None:
    with pytest.raises(CtkError, match="more than 3 members"):
        root.flat(layer(*(file(str(number)) for number in range(4))), policy=Policy(limit_members=3))
    with pytest.raises(CtkError, match="beyond the 5000 bytes"):
        root.flat(layer(file("big", bytes(6000))), policy=Policy(limit_bytes=5000))


def test_the_same_path_twice(root: Root) -> None:
    doubles = [
        [file("x"), file("./x", b"new")],
        [folder("x"), folder("x/")],
        [folder("x"), file("x")],
        [file("x/y"), file("x")],
    ]
    for form in ("flat", OVERLAY):
        for number, members in enumerate(doubles):
            for lower in ((), (layer(file("x")),)):
                if form == OVERLAY and lower:
                    continue
                other = Root(root.path / f"{form}{number}{len(lower)}")
                with pytest.raises(Malformed, match=r"'x' more than once$"):
                    other.flat(*lower, layer(*members)) if form == "flat" else other.one(layer(*members), form)
                os.close(other.fd)
    root.flat(layer(file("x"), file("x", b"new"), folder("d", 0o700), folder("d", 0o711)), policy=Policy(lenient=True))
    assert root.text("x") == "new" and stat.S_IMODE((root.path / "d").stat().st_mode) == 0o711
