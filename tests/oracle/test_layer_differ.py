"""The changes in an overlay's upper folder as a layer: on the layers below it gives what the mount has shown."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from tests.fixtures.layers import look
from tests.fixtures.overlay import mount_overlay
from toolkit.archive.entries import Entry
from toolkit.errors import CtkError
from toolkit.image.document import manifest, media_types
from toolkit.image.endpoint import Raw
from toolkit.image.layer import apply, differ, write
from toolkit.image.layer.apply import OVERLAY, USERXATTR, LayerSource, Policy
from toolkit.image.layout.folder import FolderDestination
from toolkit.image.name import locate
from toolkit.oci import json_text

pytestmark = pytest.mark.root

# setfattr(1) is not everywhere.
ATTRIBUTES = """
setfattr() { python3 -c 'import os, sys; os.setxattr(sys.argv[5], sys.argv[2], sys.argv[4].encode())' "$@"; }
"""
FIRST = """
mkdir -p etc/conf.d usr/bin usr/lib home/me/deep/er data/old data/kept spool tmp
for name in passwd hosts conf.d/a conf.d/b; do echo "base $name" > etc/$name; done
echo tool > usr/bin/tool; chmod 4755 usr/bin/tool; setfattr -n user.note -v it usr/bin/tool
echo lib > usr/lib/lib.so; ln usr/lib/lib.so usr/lib/lib.so.1; ln -s usr/lib lib
echo x > home/me/deep/er/file; echo x > data/old/x; echo x > data/kept/x; echo x > spool/file; mkfifo spool/fifo
chmod 1777 tmp; chown 1000:2000 home/me
"""
SECOND = """
rm etc/hosts; echo changed >> etc/passwd; rm -r etc/conf.d; mkdir etc/conf.d; echo new > etc/conf.d/c
rm -r data/old; echo "a file" > data/old; mkdir -p new/folder; echo n > new/folder/n; chmod 700 home/me
setfattr -n user.more -v x home/me/deep
"""
THIRD = """
echo again > etc/hosts; rm etc/conf.d/c; mkdir data/new data/empty; mv usr/bin/tool usr/bin/tool2; rm data/old
mkdir data/old; echo y > data/old/y; rm spool/*; rm -r new; rm -r home/me/deep/er; rm lib; mkdir lib; echo l > lib/l
echo t > tmp/t; rm tmp/t; ln usr/bin/tool2 usr/bin/tool3; mknod spool/null c 1 3; chmod 711 .; ln -s nowhere etc/link
rm -r data/kept; mkdir data/kept
"""


@contextlib.contextmanager
def mounted(folder: Path, lowers: Sequence[Path], upper: Path, more: str = "") -> Iterator[Path]:
    """The overlay of these folders."""
    point, work = folder / "merged", folder / f"{upper.name}-work"
    for one in (point, work, upper):
        one.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(map(str, lowers))},upperdir={upper},workdir={work}{more}"
    mount_overlay(point, options)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def sh(folder: Path, script: str) -> None:
    subprocess.run(["sh", "-ec", ATTRIBUTES + script], cwd=folder, check=True)


def members(upper: Path, lowers: Sequence[Path], form: str = OVERLAY) -> list[Entry]:
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return list(differ.changes(fd, list(map(str, lowers)), form, "commit it"))
    finally:
        os.close(fd)


def layer(upper: Path, lowers: Sequence[Path], out: Path, form: str = OVERLAY) -> LayerSource:
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    to = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        entries = differ.changes(fd, list(map(str, lowers)), form, "commit it")
        made = write.write(fd, entries, to, "commit it")
    finally:
        os.close(fd)
        os.close(to)
    return LayerSource([out.read_bytes()], made.descriptor, made.diff_id)


def seen(top: Path) -> dict[str, tuple[object, ...]]:
    """As layers have it: whole seconds. The names of a file are left out where the overlay has several inodes."""
    return {path: (*facts[:3], int(str(facts[3])) // 10**9, *facts[4:]) for path, facts in look(top).items()}


@pytest.fixture(params=[OVERLAY, USERXATTR])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> "tuple[list[LayerSource], dict[str, tuple[object, ...]]]":
    """Three layers, each made of a mount's upper folder; and what the last mount showed."""
    form = request.param
    found, lowers = [], []
    shown = {}
    for number, script in enumerate((FIRST, SECOND, THIRD)):
        upper = tmp_path / f"upper{number}"
        bottom = tmp_path / "nothing"
        bottom.mkdir(exist_ok=True)
        with mounted(tmp_path, lowers or [bottom], upper, ",userxattr" if form == USERXATTR else "") as point:
            sh(point, script)
            shown = seen(point)
        found.append(layer(upper, lowers, tmp_path / f"layer{number}", form))
        lowers.insert(0, upper)
    return found, shown


def test_on_the_layers_below_it_is_what_the_mount_showed(
    made: "tuple[list[LayerSource], dict[str, tuple[object, ...]]]", tmp_path: Path
) -> None:
    layers, shown = made
    root = tmp_path / "root"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    facts = apply.flat(fd, layers, Policy(devices=True))
    os.close(fd)
    assert facts.warnings == ()  # no whiteout of nothing
    assert seen(root) == shown
    again = {path for path in shown if path.startswith("data/")}
    assert again == {"data/old", "data/old/y", "data/new", "data/empty", "data/kept"}


def test_umoci_sees_the_same(made: "tuple[list[LayerSource], dict[str, tuple[object, ...]]]", tmp_path: Path) -> None:
    layers, shown = made
    config = json_text.dumps(
        {"architecture": "amd64", "os": "linux",
         "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]}}
    ).encode()  # fmt: skip
    described = manifest.described(config, media_types.OCI_CONFIG)
    data = manifest.write(described, [one.descriptor for one in layers])
    destination = FolderDestination(locate(f"oci:{tmp_path / 'layout'}:it"))
    destination.put_blob(described, iter([config]))
    for one in layers:
        destination.put_blob(one.descriptor, iter(one.pieces))
    destination.put_manifest(Raw(data, media_types.OCI_MANIFEST, manifest.described(data, "").digest), "it")
    destination.commit()
    destination.close()
    words = [tool("umoci"), "raw", "unpack", "--image", f"{tmp_path / 'layout'}:it", tmp_path / "root"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert seen(tmp_path / "root") == shown


def test_marks_come_first_and_only_for_what_is_below(tmp_path: Path) -> None:
    base, upper = tmp_path / "base", tmp_path / "upper"
    sh(tmp_path, "mkdir base upper; cd base; mkdir -p d/in e; echo a > a; echo z > z; echo k > d/in/k")
    with mounted(tmp_path, [base], upper) as point:
        sh(point, "rm a z; echo b > b; rm -r d; mkdir d; echo n > d/n; rm -r e; mkdir e; echo x > e/x; mkdir f")
    sh(upper, "mknod never c 0 0; setfattr -n trusted.overlay.opaque -v y f")
    found = [one.name for one in members(upper, [base])]
    assert found == [b"", b".wh.a", b".wh.z", b"b", b"d", b"d/.wh..wh..opq", b"d/n", b"e", b"e/x", b"f"]
    # user.* attributes are the container's own where the mount has trusted.* ones.
    os.setxattr(upper / "e", "user.overlay.opaque", b"y")
    os.setxattr(upper / "e", "user.own", b"1")
    here = {one.name: one for one in members(upper, [base])}
    assert b"e/.wh..wh..opq" not in here and dict(here[b"e"].xattrs) == {"user.own": b"1"}
    (tmp_path / "no").mkdir()
    assert members(tmp_path / "no", [base]) == []


@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_what_lies_elsewhere_is_refused(tmp_path: Path, mark: str) -> None:
    sh(tmp_path, "mkdir base upper upper/d; echo f > upper/d/f")
    os.setxattr(tmp_path / "upper/d" / ("f" if mark == "metacopy" else ""), f"trusted.overlay.{mark}", b"/x")
    with pytest.raises(CtkError, match=mark):
        members(tmp_path / "upper", [tmp_path / "base"])


def test_a_name_that_is_a_whiteout_is_refused(tmp_path: Path) -> None:
    sh(tmp_path, "mkdir -p base upper/d; echo f > upper/d/.wh.f")
    with pytest.raises(CtkError, match="removes a file"):
        members(tmp_path / "upper", [tmp_path / "base"])
