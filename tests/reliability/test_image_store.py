"""The store under kill -9, in a crowd, and on a full disk: it is whole afterwards, whatever happened."""

import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.images import Image
from toolkit.errors import CtkError, InUse, NotFound, Untrusted
from toolkit.image.store import check, collect, leases, limit
from toolkit.image.store.store import Store
from toolkit.kernel import atomic

BASE = images.layer({"base/": b"", "base/file": b"b" * 5000})


def image(text: str) -> Image:
    return images.image(BASE, images.layer({f"{text}/": b"", f"{text}/file": random.Random(text).randbytes(70_000)}))


ONE, TWO = image("one"), image("two")


def pull(store: Store, made: Image, name: str) -> None:
    """As a pull does: blobs, manifest, name; laid out; and all of it is there until the end."""
    place = store.destination()
    try:
        images.put(place, made, name)
        place.commit()
        with leases.take(store.place, "a pull", [made.digest]) as lease:
            for path in images.lay_out(store, made.digest, lease):
                assert os.listdir(path)
            for what in (made.config, *made.layers):
                os.close(store.blobs.open(what))
    finally:
        place.close()


def damage(store: Store) -> list[check.Finding]:
    return [one for one in check.check(store) if not one.harmless]


def kinds(store: Store) -> set[str]:
    return {one.kind for one in check.check(store)}


class Kill:
    """Kills this process at the moment `at`: before a change of the store's files, or in the middle of a write."""

    def __init__(self, folder: str, at: int) -> None:
        self.folder, self.at, self.count = folder, at, 0
        self._write = atomic.write

    def __enter__(self) -> "Kill":
        sys.addaudithook(self._hook)
        atomic.write = self._halved  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        self.folder = ""

    def _moment(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hook(self, event: str, words: tuple[object, ...]) -> None:
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod")
        creates = event == "open" and isinstance(words[2], int) and words[2] & os.O_CREAT
        if self.folder and (changes or creates):
            self._moment()

    def _halved(self, fd: int, data: bytes) -> None:
        self._write(fd, data[: len(data) // 2])
        if self.folder:
            self._moment()
        self._write(fd, data[len(data) // 2 :])


def child(act: Callable[[], object]) -> int:
    """Do it in a process of its own; its wait status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def killed_at(folder: str, at: int, act: Callable[[], object]) -> bool:
    """Whether it was killed before it was done."""

    def work() -> None:
        with Kill(folder, at):
            act()

    status = child(work)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def moments(folder: str, act: Callable[[], object]) -> int:
    """How many moments there are in it."""
    ours, theirs = os.pipe()

    def work() -> None:
        with Kill(folder, 0) as kill:
            act()
            os.write(theirs, str(kill.count).encode())

    assert child(work) == 0
    count = int(os.read(ours, 100))
    os.close(ours)
    os.close(theirs)
    return count


def pulling(store: Store) -> None:
    pull(store, TWO, "two")


def moving(store: Store) -> None:
    pull(store, TWO, "one")


def pruning(store: Store) -> None:
    if store.entries():
        collect.remove(store, ["one"])
    collect.prune(store, everything=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("act", [pulling, moving, pruning], ids=lambda act: act.__name__)
def test_killed_at_any_moment_it_is_whole(act: Callable[[Store], None], tmp_path: Path) -> None:
    def prepared(name: str) -> Store:
        store = Store(str(tmp_path / name))
        pull(store, ONE, "one")
        return store

    first = prepared("first")
    count = moments(first.place.folder, lambda: act(Store(first.place.folder)))
    assert count >= 20, "hardly a moment was seen"
    points = sorted({1 + round(n * (count - 1) / 29) for n in range(30)})
    assert len(points) >= 20
    killed = 0
    for point in points:
        store = prepared(f"at{point}")
        killed += killed_at(store.place.folder, point, lambda store=store: act(Store(store.place.folder)))  # type: ignore[misc]
        assert damage(store) == [], point
        assert kinds(store) <= {check.LEFT, check.UNREFERENCED}
        for one in store.entries():
            assert one.descriptor.digest in (ONE.digest, TWO.digest)
        act(store)  # once more, and it is as if nothing had been
        collect.prune(store)
        assert list(check.check(store)) == [], point
        assert os.listdir(store.place.path("parts")) == os.listdir(store.place.path("making")) == []
        assert list(Path(store.place.folder).rglob(".*.new")) == [], point
    assert killed >= 20


@pytest.mark.timeout(300)
def test_a_crowd_pulls_and_prunes_the_same(tmp_path: Path) -> None:
    folder = str(tmp_path / "images")
    made = [ONE, TWO, image("three")]

    def work(seed: int) -> None:
        chance = random.Random(seed)
        store = Store(folder)
        for _ in range(12):
            try:
                act = chance.randrange(6)
                if act < 3:
                    at = chance.randrange(3)
                    pull(store, made[at], f"name{chance.randrange(2)}")
                elif act == 3:
                    collect.prune(store, everything=chance.random() < 0.5)
                elif act == 4:
                    limit.keep_within(store, 0)
                else:
                    collect.remove(store, [f"name{chance.randrange(2)}"])
            except (NotFound, InUse) as error:
                assert "name" in str(error), error  # another has removed the name, or is using it

    pids = []
    for seed in range(8):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(seed)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    store = Store(folder)
    assert damage(store) == []
    collect.prune(store, everything=True)
    assert list(check.check(store)) == []
    assert list(store.blobs.all()) == [] and store.layers.all() == []
    for name in ("parts", "making", "leases"):
        assert os.listdir(store.place.path(name)) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.root
def test_a_full_disk_leaves_nothing_half_made(small_disk: Path) -> None:
    store = Store(str(small_disk / "images"))
    large = images.image(images.layer({"random": random.Random(1).randbytes(25 << 20)}))
    unpacks = images.image(images.layer({"zeroes": b"0" * (40 << 20)}))
    with pytest.raises(CtkError, match="no space left on device: 26 MiB are needed"):
        store.place.check_room(large.layers)
    with pytest.raises(CtkError, match=r"write to the image store .*no space left on device"):
        pull(store, large, "large")
    assert os.listdir(store.place.path("parts")) == []
    collect.prune(store)
    assert list(check.check(store)) == [] and store.entries() == []
    with pytest.raises(CtkError, match=r"no space left|MiB left"):
        pull(store, unpacks, "unpacks")
    assert os.listdir(store.place.path("making")) == [] and store.layers.all() == []
    assert damage(store) == []
    # With no block left nothing is lost, either.
    (small_disk / "filler").write_bytes(bytes(4 << 20))
    with pytest.raises(OSError), open(small_disk / "filler", "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    store.place.check_room(unpacks.layers)  # all of it is there
    before = [one.name for one in store.entries()]
    with pytest.raises(CtkError, match="no space left on device"):
        pull(store, ONE, "one")
    assert [one.name for one in store.entries()] == before and damage(store) == []
    os.unlink(small_disk / "filler")
    collect.prune(store, everything=True)
    pull(store, ONE, "one")
    assert damage(store) == []


def test_a_poisoned_blob_is_not_laid_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "images"))
    place = store.destination()
    images.put(place, ONE, "one")
    place.close()
    path = Path(store.place.blob(ONE.layers[1].digest))
    path.write_bytes(path.read_bytes()[::-1])
    with leases.take(store.place, "a test") as lease, pytest.raises(Untrusted, match="not what its digest says"):
        images.lay_out(store, "one", lease)
    assert [one.diff_id for one in store.layers.all()] == [ONE.diff_ids[0]]
    assert os.listdir(store.place.path("making")) == []
    pull(store, ONE, "one")
    assert list(check.check(store)) == []
