"""The cache within its limit: the longest unused goes first, and what goes with a file goes with it."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from toolkit.bootstrap.output import prune
from toolkit.errors import Usage
from toolkit.fetch import limits
from toolkit.fetch.cache import Cache


def stored(cache: Cache, data: bytes, used_s: int) -> str:
    digest = hashlib.sha256(data).hexdigest()
    os.close(cache.store(iter([data]), digest, len(data), doing="store"))
    os.utime(cache.path(digest), (used_s, used_s))
    return digest


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    old, middle, young = (stored(cache, bytes([n]) * 100_000, 1_000_000 + n) for n in range(3))
    cache.note(old, "offsets", b"table")
    os.utime(cache.path(old) + ".offsets", (1_000_000, 1_000_000))
    fd = cache.open(old, 100_000)  # used just now
    assert fd is not None
    removed = prune.prune(str(tmp_path), 230_000)
    assert [item.path for item in removed] == [cache.path(middle)]
    assert prune.prune(str(tmp_path), 230_000) == []
    # What is open stays readable; the note goes with its file.
    assert len(prune.prune(str(tmp_path), 0)) == 2
    assert os.pread(fd, 10, 0) == bytes(10)
    os.close(fd)
    assert cache.open(young, 100_000) is None
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    stored(cache, b"x", 1)
    (tmp_path / "files/tmp.1.abc").write_bytes(b"half")
    prune.prune(str(tmp_path), 0)
    assert [path.name for path in (tmp_path / "files").rglob("*") if path.is_file()] == ["tmp.1.abc"]


def test_builds_and_prunings_at_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def build(seed: int) -> None:
        try:
            cache = Cache(str(tmp_path))
            for number in range(60):
                data = f"{number % 10}".encode() * 5000
                digest = hashlib.sha256(data).hexdigest()
                fd = cache.open(digest, 5000)
                if fd is None:
                    fd = cache.store(iter([data]), digest, 5000, doing="store")
                assert os.pread(fd, 5000, 0) == data
                os.close(fd)
                if number % 7 == seed:
                    prune.prune(str(tmp_path), 20_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=build, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_what_another_build_finishes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(str(tmp_path))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/tmp.1.abc").write_bytes(b"half")
    scandir = os.scandir

    class Finishing:
        """The folder as it was listed, its half file renamed before anybody looked at it."""

        def __init__(self, path: str) -> None:
            self.entries = list(scandir(path))
            os.rename(f"{path}/tmp.1.abc", f"{path}/whole")

        def __enter__(self) -> "list[os.DirEntry[str]]":
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("toolkit.fetch.cache.os.scandir", Finishing)
    monkeypatch.setattr("toolkit.fetch.cache.check_private", lambda _: None)
    cache.prepare()
    assert (tmp_path / "files/whole").exists()


def test_an_empty_cache_has_nothing(tmp_path: Path) -> None:
    assert prune.items(str(tmp_path / "none")) == [] and prune.prune(str(tmp_path / "none"), 0) == []


@pytest.mark.parametrize(
    ("written", "size"), [("0", 0), ("10", 10), ("2K", 2048), ("3m", 3 << 20), ("10GiB", 10 << 30), ("1TB", 1 << 40)]
)
def test_sizes(written: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prune.VARIABLE, written)
    assert prune.limit() == size


@pytest.mark.parametrize("written", ["-1", "1.5G", "G", "ten", "1P", "٣"])
def test_what_is_no_size(written: str) -> None:
    with pytest.raises(Usage):
        limits.size(written, what="it")
