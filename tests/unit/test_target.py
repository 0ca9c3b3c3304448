"""Whose a target folder is: empty, foreign, half made, whole, or somebody's at this moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.bootstrap.facts.model import Lock, Request, Result
from toolkit.bootstrap.output import target as targets
from toolkit.bootstrap.output.target import MARKER, Target, half_made, read_result, result_path, write_result
from toolkit.errors import CtkError, InUse

LOCK = Lock("bookworm", "debian", "minbase", "amd64", (), (), (), "0" * 64)


def request(path: Path, *, restart: bool = False) -> Request:
    return Request("bookworm", str(path), restart=restart)


def result(path: Path) -> Result:
    return Result(str(path), "bookworm", "debian", "minbase", "amd64", 0, 0, 1.0, "0" * 64)


def fill(path: Path) -> None:
    (path / "usr/bin").mkdir(parents=True)
    (path / "usr/bin/true").write_text("x")
    for name in ("bin", "sbin"):
        (path / name).symlink_to("usr/" + name)  # sbin dangles
    (path / "absolute").symlink_to("/etc")


def refused(wanted: Request) -> None:
    """Try to take the folder as a build does: what `open` raises comes out, after `remove`."""
    target = Target(wanted)
    try:
        target.open()
    finally:
        target.remove()


@pytest.fixture(autouse=True)
def notes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which targets are being filled is noted in the cache: one of the tests' own."""
    monkeypatch.setenv("CTK_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_new_folder_is_made_and_all_of_it_goes_again(tmp_path: Path) -> None:
    target = Target(request(tmp_path / "a/b/root"))
    fd = target.open()
    assert os.fstat(fd).st_ino == (tmp_path / "a/b/root").stat().st_ino
    assert json.loads((tmp_path / "a/b/root" / MARKER).read_text())["whole"] is False
    fill(tmp_path / "a/b/root")
    target.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_of_somebody_stays(tmp_path: Path) -> None:
    (tmp_path / "root/lost+found").mkdir(parents=True)
    target = Target(request(tmp_path / "root"))
    target.open()
    fill(tmp_path / "root")
    target.remove()
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["lost+found"]
    assert Path("/etc/passwd").exists()


def test_a_finished_tree_holds_nothing_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "root"
    target = Target(request(path))
    target.open()
    fill(path)
    written = target.close(result(path), LOCK)
    assert sorted(one.name for one in path.iterdir()) == ["absolute", "bin", "sbin", "usr"]
    assert written == result_path(str(path)) == str(tmp_path / ".root.ctk.json")
    assert read_result(str(path)) == result(path)


def test_a_result_that_can_not_be_written_leaves_the_tree_half_made_never_whole(tmp_path: Path) -> None:
    # Were the marker gone by then, the next build would find a folder that is "not empty" and nobody's.
    path = tmp_path / "root"
    (tmp_path / ".root.ctk.json").mkdir()
    target = Target(request(path))
    target.open()
    fill(path)
    with pytest.raises(CtkError, match="is a directory"):
        target.close(result(path), LOCK)
    assert (path / MARKER).exists()
    target.remove()
    assert [one.name for one in tmp_path.iterdir()] == [".root.ctk.json"]


def test_a_name_too_long_for_the_files_about_it_is_cut_and_told_from_others_like_it(tmp_path: Path) -> None:
    paths = [tmp_path / ("あ" * 84 + end) for end in ("x", "y")]
    for path in paths:
        target = Target(request(path))
        target.open()
        target.close(result(path), LOCK)
        assert len(os.path.basename(result_path(str(path)))) < 255
    assert [read_result(str(path)) for path in paths] == [result(path) for path in paths]


@pytest.mark.parametrize("restart", [False, True])
def test_a_foreign_folder_is_refused_always(restart: bool, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InUse, match="not empty"):
        refused(request(tmp_path, restart=restart))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(CtkError, match="not a directory"):
        refused(request(tmp_path / "mine.txt", restart=restart))
    with pytest.raises(InUse, match="this system's own root"):
        refused(request(Path("/"), restart=restart))


def test_half_made_is_refused_or_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "root"
    first = Target(request(path))
    first.open()
    fill(path)
    first.leave()  # as after kill -9: the lock goes with the process, the marker stays
    with pytest.raises(InUse, match="half made") as caught:
        refused(request(path))
    assert "--force" in caught.value.hint
    assert (path / "usr/bin/true").exists()
    again = Target(request(path, restart=True))
    again.open()
    assert [one.name for one in path.iterdir()] == [MARKER]
    again.remove()
    assert path.is_dir()  # it was there before


def test_a_whole_tree_is_made_anew_only_if_it_is_the_one_we_made(tmp_path: Path) -> None:
    path = tmp_path / "root"
    first = Target(request(path))
    first.open()
    fill(path)
    first.close(result(path), LOCK)
    with pytest.raises(InUse, match="complete root file system"):
        refused(request(path))
    again = Target(request(path, restart=True))
    again.open()
    assert not Path(result_path(str(path))).exists()
    again.remove()
    # Another folder under the same name is not ours, whatever the file beside it says.
    write_result(str(path), result(path), LOCK)
    path.rename(tmp_path / "moved")
    path.mkdir()
    (path / "mine.txt").write_text("precious")
    assert read_result(str(path)) is None
    with pytest.raises(InUse, match="not empty"):
        refused(request(path, restart=True))


def test_two_at_once_into_one_target(tmp_path: Path) -> None:
    path = tmp_path / "root"
    code = (
        "import sys\nfrom toolkit.bootstrap.output.target import Target\n"
        "from toolkit.bootstrap.facts.model import Request\n"
        f"Target(Request('bookworm', {str(path)!r})).open()\nprint('open', flush=True)\nsys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        for restart in (False, True):
            with pytest.raises(InUse, match="another ctk is making one there now"):
                refused(request(path, restart=restart))
        assert (path / MARKER).exists()
    finally:
        other.kill()
        other.communicate()
    refused(request(path, restart=True))


@pytest.mark.root
def test_b10_what_is_mounted_below_is_never_emptied(tmp_path: Path) -> None:
    path, precious = tmp_path / "root", tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    target = Target(request(path))
    target.open()
    (path / "a b").mkdir()
    subprocess.run(["mount", "--bind", precious, path / "a b"], check=True)
    try:
        with pytest.raises(CtkError, match="something is mounted on") as caught:
            target.remove()
        assert "umount" in caught.value.hint and (precious / "file").exists()
        with pytest.raises(CtkError, match="something is mounted on"):
            refused(request(path, restart=True))
        assert (precious / "file").exists() and (path / MARKER).exists()
    finally:
        subprocess.run(["umount", "-l", path / "a b"], check=True)


@pytest.mark.root
@pytest.mark.parametrize(("option", "word"), [("noexec", "programs could not run"), ("nodev", "/dev/null")])
def test_a_file_system_that_can_carry_no_root(option: str, word: str, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "none", tmp_path], check=True)
    try:
        with pytest.raises(CtkError, match=word):
            refused(request(tmp_path / "root"))
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    targets.check_space(str(tmp_path), 1)
    with pytest.raises(CtkError, match=r"needs about \d+ MiB, the disk has \d+ MiB left"):
        targets.check_space(str(tmp_path), 1 << 60)


@pytest.mark.parametrize("kind", ["file", "fifo", "folder", "link"])
def test_a_marker_in_a_whole_tree_decides_nothing(kind: str, tmp_path: Path) -> None:
    """Who lives in the tree can make one: `ctk gc` would take the tree away from under him (attack of round 5)."""
    path = tmp_path / "root"
    first = Target(request(path))
    first.open()
    fill(path)
    first.close(result(path), LOCK)
    marker = path / MARKER
    {"file": marker.touch, "fifo": lambda: os.mkfifo(marker), "folder": marker.mkdir,
     "link": lambda: marker.symlink_to("/etc/passwd")}[kind]()  # fmt: skip
    assert read_result(str(path)) == result(path) and not half_made(str(path))
    with pytest.raises(InUse, match="a complete root file system is there already"):
        refused(request(path))
    assert read_result(str(path)) == result(path)
    if kind == "file":
        again = Target(request(path, restart=True))
        again.open()
        assert [one.name for one in path.iterdir()] == [MARKER] and half_made(str(path))
        again.remove()
    else:
        with pytest.raises(CtkError, match="is not a file of ours"):
            refused(request(path, restart=True))
        assert read_result(str(path)) == result(path)


@pytest.mark.root
def test_a_result_that_somebody_else_wrote_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "root"
    path.mkdir()
    write_result(str(path), result(path), LOCK)
    assert read_result(str(path)) == result(path)
    os.chown(result_path(str(path)), 65534, 65534)
    assert read_result(str(path)) is None
    os.unlink(result_path(str(path)))
    os.mkfifo(result_path(str(path)))
    assert read_result(str(path)) is None
