"""Files that strangers made where ctk reads or writes: roots, results, locks, caches, terminals (B13 to B16)."""

import json
import os
import stat
import subprocess
import sys
import zlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Command, own_ctk
from tests.fixtures.small import World
from tests.security.conftest import Canary
from toolkit.archive import walk
from toolkit.bootstrap import beside
from toolkit.bootstrap.compat import second_stage
from toolkit.bootstrap.facts.debootstrap_files import FOLDER, LISTS
from toolkit.bootstrap.facts.hooks_config import NOTHING
from toolkit.bootstrap.facts.model import Lock
from toolkit.bootstrap.install import base_files, cleanup
from toolkit.bootstrap.output import manifest, target
from toolkit.bootstrap.output.tree_cache import _has_secrets
from toolkit.bootstrap.resolve import diff
from toolkit.errors import BuildFailed, CtkError, NotFound
from toolkit.events import Event, Line, Note, Progressed
from toolkit.fetch.cache import FOLDERS, Cache, check_private
from toolkit.text import one_line
from toolkit.ui import failure, plain

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
LOCK = Lock("bookworm", "debian", "minbase", "amd64", (), (), (), "id")


@pytest.fixture
def world(tmp_path: Path, ctk: Command) -> Iterator[World]:
    made = World(tmp_path, ctk)
    yield made
    made.server.close()


def nest(folder: Path, depth: int) -> None:
    """Folders in folders, deeper than a path can say."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


@pytest.fixture(scope="module")
def believed(tmp_path_factory: pytest.TempPathFactory, shared_cache: str) -> Iterator[World]:
    """A world with a cache that a build is laid out from. Tests take a copy of the cache."""
    folder = tmp_path_factory.mktemp("believed")
    made = World(folder, own_ctk(folder, str(folder / "state"), shared_cache))
    assert made.build("a").rc == 0
    assert "cached tree" in made.build("b").err
    yield made
    made.server.close()


@pytest.mark.parametrize("which", ["", "trees", "locks", "files", "logs", "building"])
@pytest.mark.parametrize("how", ["mode", "owner", "link"])
def test_b13_a_cache_that_others_may_write_to_is_not_believed(
    believed: World, tmp_path: Path, which: str, how: str
) -> None:
    """Its cached trees and locks have hashes of their own making: whoever writes them writes what is laid out."""
    cache = tmp_path / "cache"
    subprocess.run(["cp", "-a", str(believed.folder / "cache"), str(cache)], check=True)
    if which == "" and how == "link":
        pytest.skip("the caller's own link")
    folder = cache / which
    folder.mkdir(exist_ok=True, mode=0o700)
    if how == "mode":
        folder.chmod(0o777)
    elif how == "owner":
        os.chown(folder, 12345, -1)
    else:
        folder.rename(tmp_path / "moved")
        os.chown(tmp_path / "moved", 12345, -1)
        folder.symlink_to(tmp_path / "moved")
        os.lchown(folder, 12345, -1)
    refused = believed.build("c", env={"CTK_CACHE": str(cache)})
    assert refused.rc == 1 and "other users can write" in refused.err, refused.err
    assert not (believed.folder / "c").exists()


def test_b13_a_copy_of_a_cache_is_believed(believed: World, tmp_path: Path) -> None:
    """What the test above changes is why it is refused."""
    subprocess.run(["cp", "-a", str(believed.folder / "cache"), str(tmp_path / "cache")], check=True)
    copied = believed.build("d", env={"CTK_CACHE": str(tmp_path / "cache")})
    assert copied.rc == 0 and "cached tree" in copied.err, copied.err


def test_b13_an_index_is_not_taken_from_a_shared_cache(tmp_path: Path) -> None:
    """It is mapped: whoever may write to the file changes it after it was hashed."""
    cache = tmp_path / "cache"
    (cache / "files").mkdir(parents=True, mode=0o700)
    check_private(str(cache))
    cache.chmod(0o1777)
    check_private(str(cache))  # as /tmp
    (cache / "files").chmod(0o770)
    with pytest.raises(CtkError, match="other users can write"):
        check_private(str(cache))
    with pytest.raises(CtkError, match="other users can write"):
        Cache(str(cache)).prepare()
    assert "files" in FOLDERS


@pytest.mark.parametrize("status", ["link", "fifo", "folder", "device", "huge"])
def test_b15_the_packages_of_a_hostile_root(tmp_path: Path, status: str, canary: Canary) -> None:
    root = tmp_path / "root"
    path = root / "var/lib/dpkg/status"
    path.parent.mkdir(parents=True)
    (canary.path / "status").write_text("Package: of-the-host\nStatus: install ok installed\nVersion: 1\n")
    canary.before.clear()
    from tests.security.conftest import facts

    canary.before.update(facts(canary.path))
    if status == "link":
        path.symlink_to(canary.path / "status")
    elif status == "fifo":
        os.mkfifo(path)
    elif status == "folder":
        path.mkdir()
    elif status == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    with pytest.raises(NotFound):
        diff.inventory(str(root))


def test_b15_a_link_for_a_folder_of_the_root_leads_nowhere(tmp_path: Path, canary: Canary) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/var").symlink_to(canary.path)
    with pytest.raises(NotFound):
        diff.inventory(str(tmp_path / "root"))


def test_b15_the_hosts_log_is_not_moved_into_a_hostile_root(tmp_path: Path, canary: Canary) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (canary.path / "debootstrap.log").write_text("of the host")
    from tests.security.conftest import facts

    canary.before = facts(canary.path)
    (root / FOLDER).symlink_to(canary.path)
    rootfd = opened(root)
    try:
        with pytest.raises(OSError):
            second_stage._clear(rootfd, {"debpaths": ""}, keep=False)
    finally:
        os.close(rootfd)
    assert canary.changes() == []


def test_b15_a_fifo_among_the_indexes_of_a_hostile_root(tmp_path: Path) -> None:
    lists = tmp_path / "root" / LISTS
    lists.mkdir(parents=True)
    os.mkfifo(lists / "x_Packages")
    rootfd = opened(tmp_path / "root")
    try:
        assert [len(index) for index in second_stage._indexes(rootfd)] == [0]
    finally:
        os.close(rootfd)


@pytest.mark.parametrize("name", ["resolv.conf", "hostname", "fstab"])
def test_b9_the_first_files_of_etc_follow_no_link(tmp_path: Path, canary: Canary, name: str) -> None:
    """A required package's links are there before: those of an included one come later."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc" / name).symlink_to(canary.path / "marker")
    rootfd = opened(tmp_path / "root")
    try:
        base_files.etc(rootfd, LOCK, NOTHING)
    finally:
        os.close(rootfd)
    assert (tmp_path / "root/etc" / name).is_symlink() and canary.changes() == []


@pytest.mark.parametrize("kind", ["fifo", "link", "file", "folder"])
@pytest.mark.parametrize("name", ["etc/machine-id", "var/log/dpkg.log"])
def test_b14_what_tidying_finds_in_a_files_place(
    tmp_path: Path, canary: Canary, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    path = tmp_path / "root" / name
    path.parent.mkdir(parents=True)
    (tmp_path / "root/etc").mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(canary.path / "marker")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("0123")
    rootfd = opened(tmp_path / "root")
    try:
        if kind == "folder":
            with pytest.raises(OSError):
                cleanup.tidy(rootfd, LOCK, lambda _: None)
        else:
            cleanup.tidy(rootfd, LOCK, lambda _: None)
            assert not path.exists() or path.read_bytes() == b""
    finally:
        os.close(rootfd)


def test_b14_folders_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading such a tree is an error and no traceback; removing it works."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    nest(root / "etc", 3000)
    rootfd = opened(root)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    try:
        for read in (
            lambda: list(walk.walk(rootfd)),
            lambda: list(walk.folders(rootfd)),
            lambda: cleanup.tidy(rootfd, LOCK, lambda _: None),
            lambda: _has_secrets(rootfd),
        ):
            with pytest.raises(OSError, match="nested more than"):
                read()
        target.empty(str(root), rootfd)
        assert os.listdir(rootfd) == []
    finally:
        os.close(rootfd)


def test_b15_what_is_written_beside_a_tree_follows_no_planted_link(tmp_path: Path, canary: Canary) -> None:
    """Who knows our process's number knows the name that is written first."""
    path = tmp_path / ".fs.ctk.json"
    planted = Path(f"{path}.{os.getpid()}")
    planted.symlink_to(canary.path / "marker")
    beside.write(str(path), "ours\n")
    assert path.read_text() == "ours\n" and not path.is_symlink()
    planted.unlink()
    os.mkfifo(planted)
    beside.write(str(path), "again\n")
    assert path.read_text() == "again\n"


RESULTS = {
    "fifo": lambda path: os.mkfifo(path),
    "deep": lambda path: path.write_text("[" * 200_000),
    "another kind": lambda path: path.write_text('{"directory": 7, "result": []}'),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS.keys())
def test_b15_a_hostile_result_file_is_none(tmp_path: Path, make: object) -> None:
    (tmp_path / "fs").mkdir()
    assert callable(make)
    make(tmp_path / ".fs.ctk.json")
    assert target.read_document(str(tmp_path / "fs")) == {}
    assert target.read_result(str(tmp_path / "fs")) is None


def test_b15_a_hostile_lock_is_refused(ctk: Command, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("[" * 200_000)
    said = ctk("bootstrap", "--diff", str(tmp_path / "lock"), str(tmp_path / "lock"))
    assert said.rc == 1 and "not JSON" in said.err and "Traceback" not in said.err


def test_b15_the_names_of_a_record_have_an_end(tmp_path: Path) -> None:
    # After a full flush nothing refers to what was before: the same bytes again are as many zeros more. The program
    # ends at its limit, before it comes to a checksum.
    machine = zlib.compressobj(9)
    head = machine.compress(b"") + machine.flush(zlib.Z_FULL_FLUSH)
    packed = head + (machine.compress(bytes(1 << 20)) + machine.flush(zlib.Z_FULL_FLUSH)) * 2000
    assert len(zlib.decompressobj().decompress(packed, 3 << 20)) == 3 << 20
    record = {"finished_ns": 1, "names": b64encode(packed).decode()}
    program = (
        "import json, resource, sys\nfrom toolkit.bootstrap.output import manifest\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    list(manifest.changes(json.load(sys.stdin), sys.argv[1]))\n"
        "except ValueError as error:\n    print('refused', error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], input=json.dumps(record), capture_output=True, text=True
    )
    assert said.stdout.startswith("refused"), said.stderr[-300:]
    assert list(manifest.changes({"finished_ns": 1 << 62, "names": b64encode(zlib.compress(b"/x")).decode()},
                                 str(tmp_path))) == [("D", "/x")]  # fmt: skip


ESCAPES = "\x1b]0;title\x07 \x1b[2J \x9b31m \u202e \x7f \r"


@pytest.mark.parametrize(
    "event",
    [Line("configure", ESCAPES + "end"), Note(ESCAPES + "end"), Progressed("configure", 1, 2, "packages", ESCAPES)],
    ids=["line", "note", "item"],
)
def test_b16_no_package_talks_to_the_terminal(event: Event) -> None:
    import io

    from rich.console import Console

    from toolkit.ui.live import LiveScreen, picture

    out = io.StringIO()
    with plain.PlainLines(out, verbose=True) as emit:
        emit(event)
    screen = LiveScreen(out, verbose=True)
    screen(event)
    console = Console(file=out, width=200, force_terminal=False)
    console.print(picture(screen._screen, 1.0))
    assert not set("\x1b\x07\x9b\u202e\x7f\r") & set(out.getvalue())


def test_b16_no_error_talks_to_the_terminal() -> None:
    error = BuildFailed(ESCAPES, because=ESCAPES, tail=(ESCAPES, "last"), log="/log")
    error.hint = ESCAPES
    text = failure.text(error)
    assert not set("\x1b\x07\x9b\u202e\x7f\r") & set(text) and "\n  | last\n" in text
    assert one_line("a\nb") == "a\\nb"
