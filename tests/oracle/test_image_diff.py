"""Two random images, laid out and compared path by path: `ctk image diff` finds the same in their layers."""

import contextlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures import layers as made
from tests.fixtures.layers import Member, look
from tests.oracle.test_layers import images, lay_flat
from toolkit.archive.tar_read_any import AnyTar
from toolkit.image.layer.contents import Contents, Root

pytestmark = pytest.mark.root

Facts = dict[str, tuple[object, ...]]


def compared(facts: Facts, *, times: bool) -> Facts:
    """Without times, except those of folders if they count, and without the names that are of the same file."""
    found = {}
    for path, (mode, uid, gid, mtime_ns, *rest) in facts.items():
        is_folder = str(mode).startswith("d")
        found[path] = (mode, uid, gid, mtime_ns if is_folder and times else 0, *(rest if is_folder else rest[:-1]))
    return found


def by_hand(old: Facts, new: Facts, carried: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    found = {path: "A" for path in new if path not in old}
    found |= {path: "C" for path in new if path in old and (new[path] != old[path] or path in carried)}
    for path in old:
        above = path.rpartition("/")[0]
        if path not in new and (not above or above in new):
            found[path] = "D"
    for path in [path for path, kind in found.items() if kind != "C"]:
        if above := path.rpartition("/")[0]:
            found.setdefault(above, "C")
    return sorted((f"/{path}", kind) for path, kind in found.items())


def put(root: Root, layers: Iterable[list[Member]], *, times: bool = False, rewritten: bool = False) -> None:
    for members in layers:
        root.layer(AnyTar(iter([made.tar(members)]), "a layer"), "read it", times=times, rewritten=rewritten)


def told(both: Contents) -> list[tuple[str, str]]:
    return sorted((path, kind) for kind, path in both.changes())


few = settings(deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(images(), images(), st.integers(0, 2))
def test_two_images(one: list[list[Member]], more: list[list[Member]], common: int) -> None:
    other = one[:common] + more
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Contents()) as both:
        old, new = (lay_flat(Path(folder) / name, image) for name, image in (("old", one), ("new", other)))
        put(both.old, one[:common])
        both.copy()
        put(both.old, one[common:])
        put(both.new, more)
        assert told(both) == by_hand(compared(old, times=False), compared(new, times=False))


@few
@given(images())
def test_the_topmost_layer(image: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Contents()) as both:
        old, new = (lay_flat(Path(folder) / name, one) for name, one in (("old", image[:-1]), ("new", image)))
        put(both.old, image[:-1], times=True)
        both.copy()
        put(both.new, image[-1:], times=True, rewritten=True)
        carried = frozenset(one.info.name for one in image[-1] if not one.info.isdir() and ".wh." not in one.info.name)
        assert told(both) == by_hand(compared(old, times=True), compared(new, times=True), carried)


def test_the_comparison_by_hand_sees_what_it_should(tmp_path: Path) -> None:
    """The judge is judged: an image of each kind of change."""
    old = lay_flat(
        tmp_path / "old", [[made.folder("d"), made.file("d/a", b"1"), made.file("d/b"), made.file("c", b"1")]]
    )
    new = lay_flat(
        tmp_path / "new", [[made.folder("d"), made.file("d/a", b"2"), made.file("d/n"), made.file("c", b"1")]]
    )
    found = by_hand(compared(old, times=True), compared(new, times=True))
    assert found == [("/d", "C"), ("/d/a", "C"), ("/d/b", "D"), ("/d/n", "A")]
    assert look(tmp_path / "old")["d/a"][4] != look(tmp_path / "new")["d/a"][4]
