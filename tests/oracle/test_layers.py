"""Random images, laid out by us and by umoci; and for overlayfs, mounted, and compared with the flat tree."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fixtures import layers as made
from tests.fixtures.command import tool
from tests.fixtures.layers import LayerSource, Member, look
from tests.fixtures.overlay import mount_overlay
from toolkit.image import digest
from toolkit.image.document import media_types
from toolkit.image.layer import apply
from toolkit.image.layer.apply import OVERLAY, USERXATTR, Policy

pytestmark = pytest.mark.root

NAMES = ["a", "b", "\xe4" + "long" * 30]
CAPABILITY = bytes.fromhex("0100000200200000" + "00" * 12)

owners = st.sampled_from([(0, 0), (0, 42), (1000, 1000), (70_000, 0), (3_000_000, 4_000_000)])
modes = st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o000, 0o6711])
times = st.sampled_from([0, 1, 1_234_567_890, 1_700_000_000.5, 4_102_444_800.25])
attributes = st.sampled_from([{}, {}, {}, {"user.note": b"a\0\xff"}, {"user.a": b"1", "user.b": b"x" * 300}])


@st.composite
def images(draw: st.DrawFn) -> list[list[Member]]:
    """The members of two to four layers. Each layer has its folders before what is in them, as builders write them."""
    below: dict[str, str] = {}  # what is there before a layer, by kind
    layers = []
    for _ in range(draw(st.integers(2, 4))):
        members, ours = draw(_a_layer(below))
        layers.append(members)
        below = ours
    return layers


@st.composite
def _a_layer(draw: st.DrawFn, below: dict[str, str]) -> tuple[list[Member], dict[str, str]]:
    members: list[Member] = []
    mine: dict[str, str] = {}
    white: list[str] = []
    opaque: list[str] = []

    def add(path: str, sort: str) -> None:
        uid, gid = draw(owners)
        about = {"uid": uid, "gid": gid, "mtime": draw(times)}
        if sort == "dir":
            members.append(made.folder(path, draw(modes), xattrs=draw(attributes), **about))
        elif sort == "file":
            xattrs = dict(draw(attributes))
            if draw(st.booleans()):
                xattrs["security.capability"] = CAPABILITY
            data = draw(st.binary(max_size=600)) * draw(st.sampled_from([1, 1, 50]))
            members.append(made.file(path, data, draw(modes), xattrs=xattrs, **about))
        elif sort == "link":
            members.append(made.symlink(path, draw(st.sampled_from(["a", "../b", "/c", "no/where", "\xff"])), **about))
        elif sort == "hard":
            targets = [one.info for one in members if mine[one.info.name] == "file"]
            if not targets:
                return
            like = draw(st.sampled_from(targets))
            xattrs = {key[13:]: value.encode("utf-8", "surrogateescape") for key, value in like.pax_headers.items()}
            about = {"uid": like.uid, "gid": like.gid, "mtime": like.mtime}
            members.append(made.hard_link(path, like.name, like.mode, xattrs=xattrs, **about))
        elif sort == "fifo":
            members.append(made.node(path, b"6", mode=draw(modes), **about))
        else:
            members.append(made.node(path, b"3", 1, draw(st.integers(3, 9)), draw(modes), **about))
        mine[path] = sort

    for _ in range(draw(st.integers(2, 12))):
        fresh = "/".join(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)))
        path = draw(st.sampled_from([fresh, *sorted(below)])) if below and draw(st.booleans()) else fresh
        above = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        if path in mine or any(mine.get(one, "dir") != "dir" for one in above):
            continue
        for one in above:
            if one not in mine:
                add(one, "dir")
        sort = draw(
            st.sampled_from(["dir", "dir", "file", "file", "link", "hard", "fifo", "char", "white", "white", "opaque"])
        )
        if sort == "white":
            if path in below and path not in white:
                white.append(path)
        elif sort == "opaque":
            if above and above[-1] not in opaque:
                opaque.append(above[-1])
        else:
            add(path, sort)
    marks = [made.file(f"{path.rpartition('/')[0]}/.wh.{path.rpartition('/')[2]}".lstrip("/"), b"") for path in white]
    marks += [made.file(f"{path}/.wh..wh..opq", b"") for path in opaque]
    for mark in marks:
        # Where a folder of the layer's own is above it, it comes after that folder, and else anywhere.
        folder = mark.info.name.rpartition("/")[0]
        first = next((at + 1 for at, one in enumerate(members) if one.info.name == folder), 0)
        members.insert(draw(st.integers(first, len(members))), mark)
    return members, _after(below, mine, white, opaque)


def _after(below: dict[str, str], mine: dict[str, str], white: list[str], opaque: list[str]) -> dict[str, str]:
    """What is there when the layer has been laid out."""

    def stays(path: str) -> bool:
        above = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        gone = any(one in white for one in (path, *above)) or any(one in opaque for one in above)
        hidden = any(mine.get(one, "dir") != "dir" for one in above)
        return not gone and not hidden

    return {path: kind for path, kind in below.items() if stays(path)} | mine


def layout(top: Path, layers: Iterable[LayerSource]) -> Path:
    """An OCI layout with one image, called 1."""
    blobs = top / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        (blobs / digest.of(data)[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest.of(data), "size": len(data)}

    sources = list(layers)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in sources]},
        "history": [{"created_by": "a test"} for _ in sources],
    }
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), media_types.OCI_CONFIG),
        "layers": [put(b"".join(one.pieces), one.descriptor.media_type) for one in sources],
    }
    found = put(json.dumps(manifest).encode(), media_types.OCI_MANIFEST)
    found["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (top / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [found]}))
    (top / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return top / "layout"


def opened(path: Path) -> int:
    path.mkdir(parents=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def lay_flat(path: Path, image: list[list[Member]]) -> dict[str, tuple[object, ...]]:
    fd = opened(path)
    try:
        facts = apply.flat(fd, (made.layer(*members) for members in image), Policy(devices=True))
    finally:
        os.close(fd)
    assert facts.implicit == () and facts.skipped_xattrs == facts.refused_xattrs == facts.skipped_devices == 0
    return without_root(look(path))


def without_root(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """No layer of these has a member for the root."""
    del found["."]
    return found


def same(ours: dict[str, tuple[object, ...]], theirs: dict[str, tuple[object, ...]], image: list[list[Member]]) -> None:
    different = {
        name: (ours.get(name), theirs.get(name)) for name in ours | theirs if ours.get(name) != theirs.get(name)
    }
    shown = "\n".join(f"  {[(one.info.name, one.info.type) for one in members]}" for members in image)
    assert not different, f"{different}\n{shown}"


def beside_umoci(image: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top, begun_ns = Path(folder), time.time_ns() - 10**9
        place = layout(top, [made.layer(*members) for members in image])
        subprocess.run(
            [tool("umoci"), "raw", "unpack", "--image", f"{place}:1", top / "umoci"],
            stderr=subprocess.DEVNULL,
            check=True,
        )
        ours, theirs = lay_flat(top / "ours", image), without_root(look(top / "umoci"))
        for name, facts in theirs.items():
            # A folder that a whiteout has emptied after it was made has no time of the layer's.
            if str(facts[0]).startswith("d") and name in ours and begun_ns <= int(str(facts[3])) <= time.time_ns():
                theirs[name] = (*facts[:3], ours[name][3], *facts[4:])
        same(ours, theirs, image)


def beside_overlayfs(image: list[list[Member]], form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", top], check=True)
        try:
            for number, members in enumerate(image):
                fd = opened(top / str(number))
                try:
                    apply.one(fd, *made.layer(*members), form, Policy(devices=True))
                finally:
                    os.close(fd)
            lower = ":".join(str(top / str(number)) for number in reversed(range(len(image))))
            (top / "mounted").mkdir()
            options = f"lowerdir={lower}" + (",userxattr" if form == USERXATTR else "")
            mount_overlay(top / "mounted", options)
            try:
                same(lay_flat(top / "ours", image), without_root(look(top / "mounted")), image)
            finally:
                subprocess.run(["umount", top / "mounted"], check=True)
        finally:
            subprocess.run(["umount", top], check=True)


# An example is short as it is; making it shorter takes minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES)
many = settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)


@few
@given(images())
def test_umoci_makes_the_same_tree(image: list[list[Member]]) -> None:
    beside_umoci(image)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(images())
def test_umoci_makes_the_same_tree_of_many_more(image: list[list[Member]]) -> None:
    beside_umoci(image)


@few
@given(images(), st.sampled_from([OVERLAY, USERXATTR]))
def test_overlayfs_shows_the_same_tree(image: list[list[Member]], form: str) -> None:
    beside_overlayfs(image, form)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(images(), st.sampled_from([OVERLAY, USERXATTR]))
def test_overlayfs_shows_the_same_tree_of_many_more(image: list[list[Member]], form: str) -> None:
    beside_overlayfs(image, form)
