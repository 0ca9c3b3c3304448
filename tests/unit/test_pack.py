"""Trees as files and back: what is written is what other programs read, and depends on nothing but the tree."""

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.fixtures.command import tool
from tests.fixtures.trees import facts
from toolkit.archive import ext4, extract_tree, squashfs, streams, tar_write, walk
from toolkit.errors import Malformed

LONG = "l" * 90 + "/" + "n" * 200


def a_tree(folder: Path) -> Path:
    """One of each kind, with all that a header has to carry."""
    root = folder / "tree"
    (root / "dir").mkdir(parents=True)
    (root / LONG).parent.mkdir()
    (root / LONG).write_bytes(b"long")
    (root / "dir" / "big").write_bytes(os.urandom(1 << 20) * 9)
    (root / "dir" / "empty").write_bytes(b"")
    (root / "dir" / "zz-first-name").write_bytes(b"twice")
    os.link(root / "dir" / "zz-first-name", root / "dir" / "zzz-second-name")
    os.symlink("../" + "t" * 150, root / "dir" / "link")
    os.mkfifo(root / "fifo", 0o640)
    (root / b"latin-\xe9".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    os.setxattr(root / "dir" / "empty", "user.note", b"with a newline\n and \0")
    (root / "suid").write_bytes(b"s")
    os.chmod(root / "dir", 0o1777)
    if os.geteuid() == 0:
        os.chown(root / "suid", 7, 3_000_000)
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(root / "suid", 0o4755)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    os.utime(root, (1_000_000_000, 1_000_000_000))
    return root


def segments(root: Path, latest_s: "int | None" = None) -> Iterator[bytes]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from tar_write.segments(fd, walk.walk(fd, latest_s=latest_s))
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return a_tree(tmp_path)


def test_a_tree_laid_out_again_is_the_same(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    fd = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0o022)
    try:
        count = extract_tree.extract_tree(fd, segments(tree), "a tree")
    finally:
        os.umask(before)
        os.close(fd)
    assert facts(copy) == facts(tree)
    assert count == len(facts(tree))
    assert all(path.lstat().st_ino != (tree / path.relative_to(copy)).lstat().st_ino for path in copy.rglob("*"))


def test_gnu_tar_and_python_read_it(tree: Path, tmp_path: Path) -> None:
    data = b"".join(segments(tree))
    copy = tmp_path / "gnu"
    copy.mkdir()
    subprocess.run([tool("tar"), "-C", copy, "--xattrs", "--xattrs-include=*", "-xpf", "-"], input=data, check=True)
    assert facts(copy) == facts(tree)
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        names = file.getnames()
    assert len(names) == len(facts(tree)) and "./" + LONG in names


def test_compressed_streams_are_one_stream_to_others(tree: Path) -> None:
    data = b"".join(segments(tree))
    packed = b"".join(streams.zstd(segments(tree)))
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True) as reader:
        assert reader.read() == data
    assert gzip.decompress(b"".join(streams.gzip(segments(tree)))) == data


@pytest.mark.parametrize("threads", [1, 5])
def test_the_stream_depends_on_the_tree_only(tree: Path, tmp_path: Path, threads: int) -> None:
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run([tool("cp"), "-a", f"{tree}/.", other], check=True)
    first = b"".join(streams.zstd(segments(tree), 2))
    assert b"".join(streams.zstd(segments(other), threads)) == first
    os.utime(other / "suid", (2_000_000_000, 2_000_000_000))
    assert b"".join(streams.zstd(segments(other), threads)) != first
    os.utime(tree / "suid", (1_500_000_000, 1_500_000_000))
    assert list(segments(tree, 1_400_000_000)) == list(segments(other, 1_400_000_000))


def test_errors_of_other_threads_arrive(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(streams.zstd(broken()))
    with pytest.raises(OSError, match="disk is gone"):
        list(streams.ahead(broken()))
    endless = streams.ahead(iter(int, 1))
    assert next(endless) == 0
    endless.close()  # the thread ends with it  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [b"../out", b"/out", b"a/../../out"])
def test_s1_no_name_leads_out(name: bytes, tmp_path: Path) -> None:
    member = walk.Member(name, walk.FILE, os.stat(__file__))
    member.size_bytes = 0
    (tmp_path / "in").mkdir()
    fd = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(Malformed):
        extract_tree.extract_tree(fd, iter([tar_write.header(member, prefix=b""), tar_write.END]), "an archive")
    os.close(fd)
    assert [path.name for path in tmp_path.iterdir()] == ["in"] and not list((tmp_path / "in").iterdir())


def written(format: str, root: Path, image: Path) -> Path:
    module = {"squashfs": squashfs, "ext4": ext4}[format]
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    out = os.open(image, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    module.write(fd, out, walk.walk(fd), time_s=1_000_000_000)
    os.close(out)
    os.close(fd)
    return image


def whole(image: Path) -> None:
    """Let the format's own checker have a look."""
    if image.suffix == ".ext4":
        done = subprocess.run([tool("e2fsck"), "-fn", image], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    else:
        # Stops at what it can't make without root, so only its listing is asked for.
        subprocess.run([tool("unsquashfs"), "-lls", image], check=True, stdout=subprocess.DEVNULL)


def busy(root: Path) -> None:
    """What makes the tables of an image grow beyond their first block."""
    many = root / "many"
    many.mkdir()
    for number in range(1500):
        (many / f"a-file-with-a-name-of-some-length-{number:04}").write_bytes(b"%d" % number * (number % 40))
        if number % 5 == 0:
            os.setxattr(many / f"a-file-with-a-name-of-some-length-{number:04}", "user.n", b"%d" % number)
    os.setxattr(root / "suid", "user.long", os.urandom(700))
    os.setxattr(root / "suid", "user.another", b"x")
    (root / "block").write_bytes(os.urandom(128 << 10))
    (root / "block-and-one").write_bytes(os.urandom((128 << 10) + 1))
    for path in (*many.iterdir(), many, root / "block", root / "block-and-one", root):
        os.utime(path, (1_200_000_000, 1_200_000_000))


@pytest.mark.parametrize("format", ["squashfs", "ext4"])
def test_images_are_whole_and_the_same_twice(format: str, tree: Path, tmp_path: Path) -> None:
    busy(tree)
    first = written(format, tree, tmp_path / f"a.{format}")
    whole(first)
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run([tool("cp"), "-a", f"{tree}/.", other], check=True)
    assert written(format, other, tmp_path / f"b.{format}").read_bytes() == first.read_bytes()


@pytest.mark.root
@pytest.mark.parametrize("format", ["squashfs", "ext4"])
def test_the_kernel_reads_an_image_as_the_tree(format: str, tree: Path, tmp_path: Path) -> None:
    busy(tree)
    image = written(format, tree, tmp_path / f"a.{format}")
    (tmp_path / "mnt").mkdir()
    subprocess.run([tool("mount"), "-o", "loop,ro", image, tmp_path / "mnt"], check=True)
    try:
        found = facts(tmp_path / "mnt")
    finally:
        subprocess.run([tool("umount"), tmp_path / "mnt"], check=True)
    found.pop("lost+found", None)
    assert found == facts(tree)


@pytest.mark.root
def test_ext4_keeps_access_lists(tree: Path, tmp_path: Path) -> None:
    # user::rw-, user:5:r--, group::r--, mask::r--, other::r--, as the kernel shows it (acl(5))
    words = [(1, 6, 0xFFFFFFFF), (2, 4, 5), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in words)
    os.setxattr(tree / "suid", "system.posix_acl_access", value)
    image = written("ext4", tree, tmp_path / "a.ext4")
    whole(image)
    (tmp_path / "mnt").mkdir()
    subprocess.run([tool("mount"), "-o", "loop,ro", image, tmp_path / "mnt"], check=True)
    try:
        assert os.getxattr(tmp_path / "mnt/suid", "system.posix_acl_access") == value
    finally:
        subprocess.run([tool("umount"), tmp_path / "mnt"], check=True)


def test_ext4_with_many_groups_and_deep_extents(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "lost+found").mkdir(parents=True)
    (root / "holes").touch()
    os.truncate(root / "holes", 900 << 20)  # more than four groups
    (root / "after").write_bytes(b"after it")
    image = written("ext4", root, tmp_path / "a.ext4")
    whole(image)
    assert image.stat().st_blocks * 512 < 32 << 20
    shown = subprocess.run([tool("debugfs"), "-R", "cat /after", image], capture_output=True)
    assert shown.stdout == b"after it"
