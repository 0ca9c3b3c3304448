"""Images of trees, as the kernel and the formats' own programs read them."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.fixtures import loop
from tests.fixtures.command import tool
from tests.fixtures.trees import a_tree, facts
from toolkit.archive import ext4, squashfs, walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return a_tree(tmp_path)


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
    loop.mount(image, tmp_path / "mnt")
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
    loop.mount(image, tmp_path / "mnt")
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
