"""acquire/repacked.py: a package's copy is made at its second use, and stands in for it while it is whole."""

import errno
import functools
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import debs
from toolkit.bootstrap.acquire.repacked import Repacked
from toolkit.bootstrap.facts.model import Package
from toolkit.deb.archive import Deb
from toolkit.fetch.cache import Cache
from toolkit.kernel import atomic

FILES = {f"./usr/share/demo/{number}": os.urandom(64 << 10) for number in range(8)}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"))


@functools.cache
def demo(suffix: str) -> bytes:
    return debs.make({"Package": "demo"}, FILES, suffix=suffix)


def stored(cache: Cache, suffix: str = "xz") -> Package:
    data = demo(suffix)
    digest = hashlib.sha256(data).hexdigest()
    os.close(cache.store([data], digest, len(data), doing="store"))
    return Package("demo", "1.0", "amd64", "pool/demo.deb", len(data), digest, 0, {})


def use(cache: Cache, package: Package, *, cached: bool = True) -> bytes:
    """One build's use of the package; the tar stream that it read."""
    repacked = Repacked(cache)
    fd = repacked.open(package)
    if fd is None:
        fd = cache.open(package.sha256, package.size_bytes)
        assert fd is not None
        if cached:
            repacked.cached(package)
    blocks: list[bytes] = []
    try:
        deb = Deb(fd, "demo")
        with repacked.writing(package, deb) as copy:

            def both(block: bytes) -> None:
                blocks.append(block)
                if copy:
                    copy(block)

            for _ in deb.data(0, both):
                pass
    finally:
        os.close(fd)
    return b"".join(blocks)


def copies(cache: Cache) -> Iterator[Path]:
    return Path(cache.folder).rglob("*.zst")


def test_the_second_use_keeps_a_copy_and_the_third_takes_it(cache: Cache) -> None:
    package = stored(cache)
    fresh = use(cache, package, cached=False)
    assert list(copies(cache)) == []
    assert use(cache, package) == fresh
    (copy,) = copies(cache)
    # A package in every sense: another reader than ours finds what is in it.
    members = debs.members(copy.read_bytes())
    assert list(members) == ["debian-binary", "control.tar.xz", "data.tar.zst", "_sha256"]
    with tarfile.open(fileobj=io.BytesIO(debs._decompress(members["data.tar.zst"], "zst"))) as tar:
        found = {entry.name: file.read() for entry in tar if (file := tar.extractfile(entry)) is not None}
    assert found == FILES
    os.unlink(cache.path(package.sha256))  # so that only the copy can answer
    assert use(cache, package) == fresh
    assert [path.name for path in Path(cache.folder).iterdir() if path.is_file()] == []


@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_what_is_quick_already_gets_no_copy(cache: Cache, suffix: str) -> None:
    package = stored(cache, suffix)
    use(cache, package)
    assert list(copies(cache)) == []


@pytest.mark.parametrize("place", [0, 100, -1, -70])
def test_a_copy_that_changed_is_removed_and_made_anew(cache: Cache, place: int) -> None:
    package = stored(cache)
    fresh = use(cache, package)
    (copy,) = copies(cache)
    data = bytearray(copy.read_bytes())
    whole = bytes(data)
    data[place] ^= 1
    copy.write_bytes(data)
    assert Repacked(cache).open(package) is None and not copy.exists()
    assert use(cache, package) == fresh
    assert copy.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 1, 123, 124, 5000])
def test_a_torn_copy_is_none(cache: Cache, size: int) -> None:
    package = stored(cache)
    use(cache, package)
    (copy,) = copies(cache)
    os.truncate(copy, size)
    assert Repacked(cache).open(package) is None and not copy.exists()


def test_a_link_in_the_copys_place_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    package = stored(cache)
    use(cache, package)
    (copy,) = copies(cache)
    elsewhere = copy.rename(tmp_path / "elsewhere")
    copy.symlink_to(elsewhere)
    assert Repacked(cache).open(package) is None


def test_a_build_that_fails_keeps_no_half_copy(cache: Cache) -> None:
    package = stored(cache)
    repacked = Repacked(cache)
    fd = cache.open(package.sha256, package.size_bytes)
    assert fd is not None
    repacked.cached(package)
    with pytest.raises(RuntimeError), repacked.writing(package, Deb(fd, "demo")) as copy:
        assert copy is not None
        copy(b"half of it")
        raise RuntimeError
    os.close(fd)
    assert list(copies(cache)) == []
    assert [path.name for path in Path(cache.folder).iterdir() if path.is_file()] == []


def test_no_room_for_the_copy_is_no_error(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    package = stored(cache)
    fresh = use(cache, package, cached=False)
    writing = Cache.writing

    def full(self: Cache) -> atomic.Writing:
        new = writing(self)
        new.close()
        new.fd = os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC)  # every write to it fails with ENOSPC (full(4))
        return new

    monkeypatch.setattr(Cache, "writing", full)
    assert use(cache, package) == fresh
    assert list(copies(cache)) == []

    def none_at_all(self: Cache) -> atomic.Writing:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Cache, "writing", none_at_all)
    assert use(cache, package) == fresh
    assert [path.name for path in Path(cache.folder).iterdir() if path.is_file()] == []
