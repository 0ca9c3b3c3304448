"""Laid-out layers: whole or not there, compared in a new boot, and laid out once however many want them."""

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from tests.fixtures.waiting import until
from toolkit.errors import CtkError
from toolkit.image.store import facts
from toolkit.image.store.store import Store

ONE, TWO = "sha256:" + 64 * "1", "sha512:" + 128 * "2"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


def lay_out(store: Store, diff_id: str = ONE, text: str = "one", folders: int = 8) -> Path:
    """A layer with a file, a hard link and a link to it, and `folders` folders."""
    with store.layers.laying_out(diff_id) as making:
        assert not making.there
        top = Path(f"/proc/self/fd/{making.rootfd}")
        (top / "a/b").mkdir(parents=True)
        (top / "a/b/file").write_text(text)
        os.link(top / "a/b/file", top / "a/second")
        os.symlink("b/file", top / "a/link")
        (top / "a/\udcff\n/").mkdir()
        (top / "many").mkdir()
        for number in range(folders):
            (top / f"many/{number}").mkdir()
    return Path(store.layers.path(diff_id))


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.kernel.process.boot_id", lambda: "another boot")


def below(store: Store, folder: str) -> list[str]:
    return sorted(os.listdir(store.place.path(folder)))


def test_a_layer_is_there_when_it_is_whole(store: Store) -> None:
    with store.layers.laying_out(ONE) as making:
        Path(f"/proc/self/fd/{making.rootfd}/file").write_text("x")
        assert not store.layers.has(ONE) and store.layers.use(ONE) == ""
    tree = store.layers.use(ONE)
    assert tree == store.layers.path(ONE) and os.listdir(tree) == ["file"]
    with store.layers.laying_out(ONE) as making:
        assert making.there
    lay_out(store, TWO)
    assert below(store, "making") == [] and below(store, "layers") == sorted(
        [64 * "1" + ".overlay", 128 * "2" + ".overlay"]
    )
    assert [one.diff_id for one in store.layers.all()] == [ONE, TWO]
    for folder in ("layers", "layers/" + 64 * "1" + ".overlay"):
        assert os.stat(store.place.path(folder)).st_mode & 0o777 == 0o700


def test_more_folders_than_descriptors(store: Store) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        lay_out(store, folders=300)
        assert store.layers.differences(ONE) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_nothing_is_left_of_a_layer_that_failed(store: Store) -> None:
    with pytest.raises(KeyError), store.layers.laying_out(ONE) as making:
        Path(f"/proc/self/fd/{making.rootfd}/locked").mkdir(mode=0)
        Path(f"/proc/self/fd/{making.rootfd}/file").write_text("x")
        raise KeyError
    assert not store.layers.has(ONE)
    assert below(store, "making") == below(store, "layers") == []


def test_what_a_killed_one_has_left_is_not_part_of_the_next(store: Store) -> None:
    pid = os.fork()
    if pid == 0:
        with store.layers.laying_out(ONE) as making:
            Path(f"/proc/self/fd/{making.rootfd}/old").write_text("x")
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert store.layers.abandoned() == [store.place.path("making", 64 * "1" + ".overlay")]
    with store.layers.laying_out(ONE) as making:
        assert store.layers.abandoned() == []  # it is at work
        assert os.listdir(making.rootfd) == []
        store.layers.remove_set_aside(store.place.path("making", 64 * "1" + ".overlay"))  # and is left alone
    assert store.layers.has(ONE)


def test_the_second_waits_and_then_finds_it(store: Store) -> None:
    told: list[object] = []
    found: list[bool] = []

    def second() -> None:
        with store.layers.laying_out(ONE, emit=told.append) as making:
            found.append(making.there)

    with store.layers.laying_out(ONE):
        other = threading.Thread(target=second)
        other.start()
        until(lambda: told, "the second")
        assert not found
    other.join()
    assert found == [True] and below(store, "making") == []


def test_after_a_failure_the_second_lays_it_out(store: Store) -> None:
    told: list[object] = []
    found: list[bool] = []

    def second() -> None:
        with store.layers.laying_out(ONE, emit=told.append) as making:
            found.append(making.there)

    other = threading.Thread(target=second)
    with pytest.raises(KeyError), store.layers.laying_out(ONE):
        other.start()
        until(lambda: told, "the second")
        raise KeyError
    other.join()
    assert found == [False] and store.layers.has(ONE)


def change(tree: Path, what: str) -> str:
    """Change one thing; what is told of it."""
    file = tree / "a/b/file"
    if what == "content":
        about = file.stat()
        file.write_text("two")
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        return "'/a/b/file': it was changed or copied"
    if what == "size":
        file.write_text("")
        return "'/a/b/file': its size was 3, and is 0"
    if what == "mode":
        (tree / "a").chmod(0o700)
        return "'/a': its mode was 40755, and is 40700"
    if what == "new":
        (tree / "a/\udcff\n/new").touch()
        return "'/a/\\udcff\\n/new' is new"
    if what == "gone":
        (tree / "many/7").rmdir()
        return "'/many/7' is gone"
    assert what == "root"
    tree.chmod(0o700)
    return "'/': its mode was 40755, and is 40700"


@pytest.mark.parametrize("what", ["content", "size", "mode", "new", "gone", "root"])
def test_a_change_is_seen(store: Store, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    umask = os.umask(0o022)
    tree = lay_out(store)
    os.umask(umask)
    assert store.layers.differences(ONE) == []
    time.sleep(0.02)  # the kernel's clock for files ticks every 4 ms or less often
    told = change(tree, what)
    assert told in store.layers.differences(ONE)
    assert store.layers.use(ONE) == str(tree)  # not looked at in the same boot
    reboot(monkeypatch)
    assert store.layers.use(ONE) == ""
    assert below(store, "layers") == below(store, "making") == []
    lay_out(store)
    assert store.layers.use(ONE) == str(tree)


def test_an_unchanged_layer_is_compared_once_a_boot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = lay_out(store)
    reboot(monkeypatch)
    asked: list[object] = []
    real = facts.differences
    monkeypatch.setattr(facts, "differences", lambda *words: asked.append(1) or real(*words))
    assert store.layers.use(ONE) == store.layers.use(ONE) == str(tree)
    assert len(asked) == 1


def test_one_that_was_laid_out_again_meanwhile_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two come after a boot: the second has seen the old layer, and must not remove the first one's new one."""
    tree = lay_out(store)
    (tree / "a/b/file").unlink()
    reboot(monkeypatch)
    real = store.layers.differences

    def first_is_faster(*words: str) -> list[str]:
        found = real(*words)
        monkeypatch.setattr(store.layers, "differences", real)
        assert Store(store.place.folder).layers.use(ONE) == ""
        lay_out(store)
        return found

    monkeypatch.setattr(store.layers, "differences", first_is_faster)
    assert store.layers.use(ONE) == str(tree)
    assert (tree / "a/b/file").read_text() == "one"


def test_a_layer_without_facts_is_not_used_in_a_new_boot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = lay_out(store)
    (tree.parent / "facts").unlink()
    assert [one.diff_id for one in store.layers.all()] == [ONE]
    reboot(monkeypatch)
    assert store.layers.use(ONE) == ""


def test_the_size_counts_a_file_once(store: Store) -> None:
    with store.layers.laying_out(ONE) as making:
        top = Path(f"/proc/self/fd/{making.rootfd}")
        (top / "file").write_bytes(os.urandom(1 << 20))
        os.link(top / "file", top / "second")
        os.sync()
    (one,) = store.layers.all()
    assert 1 << 20 <= one.size_bytes < (1 << 20) + (64 << 10)


def test_a_folder_that_can_not_be_written_is_one_error(store: Store) -> None:
    store.place.prepare()
    os.rmdir(store.place.path("making"))
    Path(store.place.path("making")).write_text("")
    with pytest.raises(CtkError, match="write to the image store"), store.layers.laying_out(ONE):
        pass
