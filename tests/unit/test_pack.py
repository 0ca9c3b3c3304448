"""Trees as tar streams and back; tests/oracle/test_images.py has the images."""

import gzip
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.fixtures.command import tool
from tests.fixtures.trees import LONG, a_tree, facts
from toolkit.archive import extract_tree, streams, tar_write, walk
from toolkit.archive.entries import FILE, Entry
from toolkit.errors import Malformed


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
    entry = Entry(name, FILE, 0)
    (tmp_path / "in").mkdir()
    fd = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(Malformed):
        extract_tree.extract_tree(fd, iter([tar_write.header(entry, prefix=b""), tar_write.END]), "an archive")
    os.close(fd)
    assert [path.name for path in tmp_path.iterdir()] == ["in"] and not list((tmp_path / "in").iterdir())
