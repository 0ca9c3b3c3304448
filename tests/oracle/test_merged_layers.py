"""What overlayfs shows of layers, and what is read of them without mounting it."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.overlay import mount_overlay
from toolkit.image.layer import merged

pytestmark = pytest.mark.root


def _file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR)


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[tuple[list[str], Path]]:
    """Four layers with every way of hiding, the topmost first; and where overlayfs shows them merged."""
    base, second, third, top = (tmp_path / name for name in ("base", "second", "third", "top"))
    for name in ("kept", "over", "gone", "again", "dir-gone/in", "opaque/in", "file-to-dir", "dir-to-file/in"):
        _file(base / "etc" / name, f"base {name}")
    _file(base / "usr/etc/there", "usr")
    (base / "link-dir").symlink_to("/usr/etc")
    (base / "etc/up").symlink_to("../../../usr/etc/there")
    (base / "etc/abs").symlink_to("/etc/kept")
    (base / "etc/loop").symlink_to("loop")
    (base / "etc/dangling").symlink_to("nothing")
    os.mkfifo(base / "etc/fifo")
    for name in ("over", "opaque/new"):
        _file(second / "etc" / name, f"second {name}")
    os.setxattr(second / "etc/opaque", "trusted.overlay.opaque", b"y")
    for name in ("gone", "again", "dir-gone", "file-to-dir"):
        _whiteout(second / "etc" / name)
    _file(third / "etc/again", "third again")
    _file(third / "etc/dir-to-file", "third file")
    _file(third / "etc/file-to-dir/in", "third in")
    _file(third / "usr/etc/new", "third new")
    _whiteout(top / "etc/kept2")
    _file(top / "etc/dir-gone/new", "top")
    lower = [str(one) for one in (top, third, second, base)]
    mount = tmp_path / "merged"
    mount.mkdir()
    mount_overlay(mount, "lowerdir=" + ":".join(lower))
    try:
        yield lower, mount
    finally:
        subprocess.run(["umount", mount], check=True)


PATHS = [
    *(f"etc/{name}" for name in "kept over gone again opaque/in opaque/new up abs loop dangling fifo none".split()),
    *("etc/dir-gone/in", "etc/dir-gone/new", "etc/file-to-dir", "etc/file-to-dir/in", "etc/dir-to-file", "etc"),
    *("etc/dir-to-file/in", "link-dir/there", "link-dir/new", "link-dir/../kept", "/etc/../usr/etc/there", "", ".."),
    *("etc/kept/x", "usr/etc"),
]


def test_it_reads_what_overlayfs_shows(layers: tuple[list[str], Path]) -> None:
    lower, mount = layers
    seen = 0
    for path in PATHS:
        expected = _in_root(mount, path)
        assert _read(lower, path) == expected, path
        seen += isinstance(expected, bytes)
    assert seen == 12


def _read(lower: list[str], path: str) -> bytes | str:
    try:
        return merged.read(lower, path, 100)
    except OSError as error:
        return type(error).__name__


def _in_root(mount: Path, path: str) -> bytes | str:
    """What a process reads whose root the mount is."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.chroot(mount)
            os.chdir("/")
            try:
                fd = os.open("/" + path, os.O_RDONLY | os.O_NONBLOCK)
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    answer = b"!" + (b"IsADirectoryError" if stat.S_ISDIR(os.fstat(fd).st_mode) else b"OSError")
                else:
                    answer = b"=" + os.read(fd, 100)
            except OSError as error:
                answer = b"!" + type(error).__name__.encode()
            os.write(writing, answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer[1:] if answer[:1] == b"=" else answer[1:].decode()


def test_it_is_bounded(tmp_path: Path) -> None:
    _file(tmp_path / "etc/passwd", "x" * 101)
    with pytest.raises(OSError, match="the limit is 100 bytes"):
        merged.read([str(tmp_path)], "etc/passwd", 100)
    os.truncate(tmp_path / "etc/passwd", 1 << 40)
    with pytest.raises(OSError, match="the limit is 100 bytes"):
        merged.read([str(tmp_path)], "etc/passwd", 100)
