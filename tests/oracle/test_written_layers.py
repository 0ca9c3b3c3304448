"""A tree written as a layer: umoci, skopeo and we ourselves read the same tree out of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from tests.fixtures.layers import look
from toolkit.archive.entries import Entry
from toolkit.errors import CtkError
from toolkit.image import digest
from toolkit.image.document import manifest, media_types
from toolkit.image.document.media_types import GZIP, PLAIN, ZSTD
from toolkit.image.endpoint import Raw
from toolkit.image.layer import apply, write
from toolkit.image.layer.apply import FLAT, Policy
from toolkit.image.layer.write import Written
from toolkit.image.layout.folder import FolderDestination
from toolkit.image.name import locate
from toolkit.oci import json_text

pytestmark = pytest.mark.root

CAPABILITY = bytes.fromhex("0100000200200000" + "00" * 12)
LATEST_S = 1_700_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """All that a layer can hold, with whole seconds."""
    top = tmp_path / "tree"
    for name in ("bin", "deep/" + "x" * 200 + "/" + "y" * 200, "closed", "empty"):
        (top / name).mkdir(parents=True)
    (top / "bin/su").write_bytes(b"#!" + os.urandom(300))
    os.chmod(top / "bin/su", 0o4755)
    os.setxattr(top / "bin/su", "user.note", b"a\0\n=\xff")
    os.setxattr(top / "bin/su", "security.capability", CAPABILITY)
    os.chown(top / "bin", 3_000_000, 70_000)
    os.setxattr(top / "bin", "user.of", b"a folder")
    (top / "big").write_bytes(os.urandom(5 << 20) + bytes(3 << 20))
    (top / "closed/in").write_text("it")
    os.link(top / "closed/in", top / "also in")
    (top / ("deep/" + "x" * 200 + "/" + "y" * 200) / "file").write_text("deep")
    os.symlink("../../etc/shadow", top / "out")
    os.symlink("z" * 180, top / "long link")
    (top / os.fsdecode(b"latin \xe9\nand newline")).write_text("")
    os.mkfifo(top / "fifo", 0o600)
    os.mknod(top / "null", 0o20666, os.makedev(1, 3))
    os.mknod(top / "disk", 0o60660, os.makedev(250, 260))
    (top / "old").write_text("1960")
    (top / "new").write_text("2100")
    os.chmod(top / "closed", 0)
    os.chmod(top, 0o711)
    for above, folders, files in os.walk(top):
        for name in (*folders, *files):
            os.utime(os.path.join(above, name), (1_234_567_890, 1_234_567_890), follow_symlinks=False)
    os.utime(top / "old", (0, -300_000_000))
    os.utime(top / "new", (0, 4_102_444_800))
    os.utime(top, (1_234_567_000, 1_234_567_000))
    return top


def written(tree: Path, out: Path, codec: str = GZIP, **options: int) -> Written:
    rootfd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return write.write(rootfd, write.whole(rootfd, "pack it", **options), fd, "pack it", codec)
    finally:
        os.close(fd)
        os.close(rootfd)


def layout(folder: Path, made: Written, blob: Path) -> str:
    """An image of this layer in an OCI layout."""
    config = json_text.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [made.diff_id]}}
    ).encode()
    described = manifest.described(config, media_types.OCI_CONFIG)
    data = manifest.write(described, [made.descriptor])
    destination = FolderDestination(locate(f"oci:{folder}:it"))
    destination.put_blob(described, iter([config]))
    destination.put_blob(made.descriptor, iter([blob.read_bytes()]))
    destination.put_manifest(Raw(data, media_types.OCI_MANIFEST, manifest.described(data, "").digest), "it")
    destination.commit()
    destination.close()
    return f"{folder}:it"


@pytest.mark.parametrize("codec", [GZIP, ZSTD, PLAIN])
def test_we_read_the_same_tree(tree: Path, tmp_path: Path, codec: str) -> None:
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(tree / "socket"))
    os.utime(tree, (1_234_567_000, 1_234_567_000))
    made = written(tree, tmp_path / "blob", codec)
    (tmp_path / "root").mkdir()
    rootfd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    blob = (tmp_path / "blob").read_bytes()
    facts = apply.one(rootfd, [blob], made.descriptor, made.diff_id, FLAT, Policy(devices=True))
    os.close(rootfd)
    os.unlink(tree / "socket")
    os.utime(tree, (1_234_567_000, 1_234_567_000))
    assert facts.members == made.members and not facts.warnings and not facts.implicit
    assert look(tmp_path / "root") == look(tree)


def test_umoci_and_skopeo_read_the_same_tree(tree: Path, tmp_path: Path) -> None:
    place = layout(tmp_path / "layout", written(tree, tmp_path / "blob"), tmp_path / "blob")
    for words in (["skopeo", "copy", "-q", f"oci:{place}", f"oci:{tmp_path / 'copied'}:it"],
                  ["umoci", "raw", "unpack", "--image", f"{tmp_path / 'copied'}:it", tmp_path / "root"]):  # fmt: skip
        done = subprocess.run([tool(str(words[0])), *words[1:]], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert look(tmp_path / "root") == look(tree)


@pytest.mark.parametrize("codec", [GZIP, ZSTD])
def test_the_same_bytes_on_one_processor_and_of_a_copy(tree: Path, tmp_path: Path, codec: str) -> None:
    made = written(tree, tmp_path / "one", codec, latest_s=LATEST_S)
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    os.utime(tmp_path / "copy/new", (0, LATEST_S + 5))  # both are after the latest time
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert written(tmp_path / "copy", tmp_path / "two", codec, latest_s=LATEST_S) == made
    finally:
        os.sched_setaffinity(0, mine)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    os.utime(tmp_path / "copy/empty", (0, 1))
    assert written(tmp_path / "copy", tmp_path / "two", codec, latest_s=LATEST_S).diff_id != made.diff_id


def test_what_cannot_be_in_a_layer(tree: Path, tmp_path: Path) -> None:
    (tree / "bin/.wh.su").write_text("")
    with pytest.raises(CtkError, match="removes a file"):
        written(tree, tmp_path / "blob")
    os.unlink(tree / "bin/.wh.su")
    os.mknod(tree / "bin/gone", 0o20000, 0)
    with pytest.raises(CtkError, match="0:0"):
        written(tree, tmp_path / "blob")
    os.unlink(tree / "bin/gone")
    os.setxattr(tree / "empty", "user.overlay.opaque", b"y")
    made = written(tree, tmp_path / "blob", PLAIN)
    assert made.members and b"overlay" not in (tmp_path / "blob").read_bytes()
    subprocess.run(["mount", "--bind", tree / "bin", tree / "empty"], check=True)
    try:
        with pytest.raises(CtkError, match="there is a mount in it"):
            written(tree, tmp_path / "blob")
    finally:
        subprocess.run(["umount", tree / "empty"], check=True)


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(tree: Path, tmp_path: Path) -> None:
    """CVE-2020-10696: what works in the tree swaps a folder for a link to the host's while it is packed."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/su").write_text("secret" * 100)
    rootfd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT, 0o600)
    members = iter(list(write.whole(rootfd, "pack it")))
    os.rename(tree / "bin", tree / "was")
    os.symlink(tmp_path / "host", tree / "bin")
    with pytest.raises(CtkError, match="bin/su"):
        write.write(rootfd, members, fd, "pack it", PLAIN)
    os.rename(tree / "bin", tree / "link")
    os.rename(tree / "was", tree / "bin")
    os.unlink(tree / "bin/su")
    os.mkfifo(tree / "bin/su")  # nobody will ever write to it
    with pytest.raises(CtkError, match="no file any more"):
        write.write(rootfd, write_members(tree), fd, "pack it", PLAIN)
    os.close(fd)
    os.close(rootfd)
    assert b"secret" not in (tmp_path / "blob").read_bytes()


def write_members(tree: Path) -> "list[Entry]":
    """The members as they were while bin/su was a file."""
    entry = Entry(b"bin/su", b"0", 302)
    assert (tree / "bin/su").is_fifo()
    return [entry]


def test_without_isal_the_diff_id_is_the_same(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = written(tree, tmp_path / "fast")
    write._gzip_member.cache_clear()
    monkeypatch.setitem(sys.modules, "isal", None)
    try:
        slow = written(tree, tmp_path / "slow")
    finally:
        write._gzip_member.cache_clear()
    assert slow.diff_id == fast.diff_id and slow.descriptor.digest != fast.descriptor.digest
    for name in ("fast", "slow"):
        plain = subprocess.run(["gzip", "-dc", tmp_path / name], stdin=subprocess.DEVNULL, capture_output=True)
        assert plain.returncode == 0, plain.stderr
        assert digest.of(plain.stdout) == fast.diff_id
