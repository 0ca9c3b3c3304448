"""`ctk doctor` on this host and on a crippled one; `ctk gc` after what is killed."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.leaks import cgroups
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import until
from toolkit.bootstrap.output import builds_in_progress
from toolkit.runtime.cgroups import layout

pytestmark = pytest.mark.root

# The limit is each user namespace's own (namespaces(7)): in one of our own we may set it to nothing.
CRIPPLED = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
NO_NAMESPACES = "echo 0 >/proc/sys/user/max_user_namespaces; exec "


def test_this_host_can_run_containers(ctk: Command) -> None:
    found = ctk("doctor", "--offline", "--json").json()
    states = {one["topic"]: one["state"] for one in found}
    assert states["kernel"] == states["namespaces"] == states["seccomp"] == "ok"
    assert "mirrors" not in states
    shown = ctk("doctor", "--for", "run").ok().out
    assert shown.startswith("✓ kernel: Linux ") and "criu" not in shown


def test_what_does_not_work_is_told_with_its_line_and_the_exit_code(ctk: Command) -> None:
    done = ctk("doctor", "--for", "mirrors", env={"CTK_MIRROR": "http://127.0.0.1:1/debian"})
    assert done.rc == 1
    assert "✗ mirrors: no archive answers" in done.out and "ctk bootstrap host ./fs" in done.out
    words = [*CRIPPLED, NO_NAMESPACES + f"{ctk.program} doctor --for rootless"]
    told = subprocess.run(words, env=ctk.environment, capture_output=True, text=True).stdout
    assert "forbidden: sysctl user.max_user_namespaces is 0" in told
    assert "    sudo sysctl -w user.max_user_namespaces=15000" in told.splitlines()


def test_root_of_an_ordinary_container_is_told_what_it_lacks(ctk: Command, new_bundle: Callable[..., Bundle]) -> None:
    without = ["capsh", "--drop=cap_sys_admin", "--", "-c"]
    told = subprocess.run(
        [*without, f"{ctk.program} doctor --for run"], env=ctk.environment, capture_output=True, text=True
    )
    assert told.returncode == 1 and "✗ namespaces: root here lacks CAP_SYS_ADMIN" in told.stdout
    bundle = new_bundle()
    run = subprocess.run(
        [*without, f"{ctk.program} run -b {bundle.path} lacks-it"], env=ctk.environment, capture_output=True, text=True
    )
    assert run.returncode == 1 and "root here lacks CAP_SYS_ADMIN: is this a container?" in run.stderr
    assert "only root" not in run.stderr


def test_it_speaks_up_when_a_step_fails_on_a_terminal_and_only_there(
    ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]
) -> None:
    ctk("spec", "--update", "--uid-map", "0:0:1", "--gid-map", "0:0:1", cwd=busybox_bundle.path).ok()
    ctk("spec", "--update", "--unset", "linux.resources", cwd=busybox_bundle.path).ok()
    argv = [*CRIPPLED, NO_NAMESPACES + f"{ctk.program} run {ctk.id()}"]
    piped = subprocess.run(argv, cwd=busybox_bundle.path, env=ctk.environment, capture_output=True, text=True)
    assert piped.returncode == 1 and "doctor" not in piped.stderr
    screen = terminal(argv, cwd=str(busybox_bundle.path), env={**ctk.environment, "TERM": "xterm"}, columns=200)
    assert screen.wait() == 1
    assert "doctor:" in screen.shown and "sudo sysctl -w user.max_user_namespaces=15000" in screen.shown


def gc(ctk: Command, *words: str) -> list[str]:
    return ctk("gc", *words).ok().out.splitlines()


def test_a_folder_that_is_not_there(ctk: Command, tmp_path: Path) -> None:
    assert f"left alone: tree {tmp_path}/none: there is no such folder" in gc(ctk, str(tmp_path / "none"))


def test_records_of_the_dead_go_and_those_of_the_living_stay(ctk: Command, new_bundle: Callable[..., Bundle]) -> None:
    alive, ended, old, torn = (ctk.id(name) for name in ("alive", "ended", "old", "torn"))
    ctk("run", "-d", alive, cwd=new_bundle("a").sh("sleep 1000").path).ok()
    quick = new_bundle("b").path
    for name in (ended, old):
        ctk("run", "--keep", name, cwd=quick).ok()
    state = Path(ctk.root, old, "state.json")
    facts = json.loads(state.read_text())
    # The boot before this one; and a cgroup path that by now is another's, whose processes must live on.
    for path in facts["cgroups"].get("paths", {"": facts["cgroups"].get("path")}).values():
        os.rmdir(path)  # as a reboot does
    other = json.loads(Path(ctk.root, alive, "state.json").read_text())["cgroups"]
    state.write_text(json.dumps({**facts, "boot_id": "0" * 36, "cgroups": other}))
    os.mkdir(Path(ctk.root, torn))
    expected = {
        f"left alone: record {alive}: it runs, as process {ctk('state', alive).json()['pid']}  "
        f"(ctk delete --force {alive})",
        f"left alone: record {ended}: it has stopped; its owner decides when to delete its record  "
        f"(ctk delete {ended})",
    }
    said = {line for line in gc(ctk, "--dry-run") if " record " in line}
    assert said - expected == {
        f"would remove record {old}: it ran before this boot",
        f"would remove record {torn}: its create was killed",
    }
    assert sorted(os.listdir(ctk.root)) == sorted([alive, ended, old, torn])
    assert expected <= set(gc(ctk))
    assert sorted(os.listdir(ctk.root)) == sorted([alive, ended])
    assert ctk("state", alive).json()["status"] == "running"
    gc(ctk, "--stopped")
    assert os.listdir(ctk.root) == [alive]
    ctk("delete", "--force", alive).ok()


def test_a_killed_build_is_found_wherever_it_was(ctk: Command, tmp_path: Path) -> None:
    target = tmp_path / "far/away/fs"
    environment = {"CTK_CACHE": str(tmp_path / "cache")}
    with socket.create_server(("127.0.0.1", 0)) as silent_mirror:
        url = f"http://127.0.0.1:{silent_mirror.getsockname()[1]}/debian"
        words = ("bootstrap", "bookworm", str(target), url)
        build = ctk.popen(*words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until((target / ".ctk-bootstrap").exists, "the build", of=build)
        assert f"left alone: tree {target}: it is being made now" in ctk("gc", env=environment).ok().out
        build.send_signal(signal.SIGKILL)
        build.wait()
    said = ctk("gc", "--dry-run", env=environment).ok().out
    assert f"would remove tree {target}: its bootstrap was killed" in said and target.exists()
    assert f"removed tree {target}" in ctk("gc", env=environment).ok().out
    assert not target.exists() and os.listdir(tmp_path / "cache/building") == []


def test_a_note_of_a_build_that_was_killed_while_it_was_written(ctk: Command, tmp_path: Path) -> None:
    old, new = (tmp_path / "cache/building" / f".{name * 16}.new" for name in "ab")
    old.parent.mkdir(parents=True)
    for path in (old, new):  # a new one may be another's work
        path.write_text("/some/tr")
    os.utime(old, (0, 0))
    assert (
        f"removed file {old}: half-written, its bootstrap was killed"
        in ctk("gc", env={"CTK_CACHE": str(tmp_path / "cache")}).ok().out
    )
    assert os.listdir(old.parent) == [new.name]


def test_what_it_can_not_remove_is_told_and_the_rest_goes_on(
    ctk: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, other = tmp_path / "held", tmp_path / "other"
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    for tree in (held, other):
        (tree / "mnt").mkdir(parents=True)
        (tree / ".ctk-bootstrap").touch()
        builds_in_progress.note(str(tree))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(held / "mnt")], check=True)
    try:
        done = ctk("gc", env={"CTK_CACHE": str(tmp_path / "cache")})
    finally:
        subprocess.run(["umount", str(held / "mnt")], check=True)
    assert done.rc == 1
    assert f"not removed: tree {held}" in done.out and "something is mounted on" in done.out
    assert not other.exists()


def test_a_marker_that_who_lives_in_a_tree_made_removes_nothing(ctk: Command, tmp_path: Path) -> None:
    """A tree of somebody's own, looked at by hand: the file in it is no proof that a bootstrap of ours began it."""
    tree = tmp_path / "mine"
    (tree / "home").mkdir(parents=True)
    (tree / ".ctk-bootstrap").write_text('{"whole": false}')
    hint = f"ctk bootstrap --remove {tree}"
    told = f"left alone: tree {tree}: only a file in it says that a bootstrap started it  ({hint})"
    assert told in gc(ctk, str(tree))
    assert (tree / "home").is_dir()


def test_empty_cgroups_and_temporary_files_of_the_dead_go(ctk: Command, tmp_path: Path) -> None:
    name, files = ctk.id("bundle"), tmp_path / "cache/files"
    (tmp_path / "data/bundles" / name).mkdir(parents=True)
    files.mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    (files / f"tmp.{gone.pid}.abc").touch()
    (files / f"tmp.{os.getpid()}.abc").touch()
    cgroup = Path(layout.hierarchies()[-1][1], name)
    (cgroup / "inner").mkdir(parents=True)
    said = ctk("gc", env={"CTK_CACHE": str(tmp_path / "cache")}).ok().out
    assert f"removed cgroup {cgroup}: it is empty" in said
    assert not cgroup.exists()
    assert os.listdir(files) == [f"tmp.{os.getpid()}.abc"]


RECIPE = """\
# A page whose player is killed

```console
# cp -a {rootfs} rootfs
# ctk spec --no-tty -- sleep 600
...
# ctk run -d {name}
# touch ready; sleep 600
```

```console cleanup
# ctk delete --force {name}
```
"""


def test_what_a_killed_recipe_left_goes_and_not_before(ctk: Command, busybox_rootfs: Path, tmp_path: Path) -> None:
    name, temporary, work = ctk.id("left"), tmp_path / "tmp", tmp_path / "work"
    temporary.mkdir()
    page = tmp_path / "page.md"
    page.write_text(RECIPE.format(rootfs=busybox_rootfs, name=name))
    environment = {"TMPDIR": str(temporary)}
    words = ("recipe", "run", "--yes", "--work", str(work), str(page))
    player = ctk.popen(*words, env={**ctk.environment, **environment}, stdout=subprocess.DEVNULL)
    try:
        until((work / "ready").exists, "the recipe", timeout_s=60, of=player)
        (room,) = Path(ctk.root + "-recipes").iterdir()
        (launcher,) = temporary.glob("ctk-bin-*")
        init = json.loads((room / name / "state.json").read_text())["pid"]
        said = ctk("gc", env=environment).ok().out
        assert f"left alone: recipe {room}: it is being played now" in said and str(launcher) not in said
        assert os.path.isdir(f"/proc/{init}")
    finally:
        player.kill()
        player.wait()
    said = ctk("gc", "--dry-run", env=environment).ok().out
    assert f"would remove recipe {room}: its player is gone; it worked in {work}" in said
    assert f"would remove folder {launcher}: " in said and room.exists() and launcher.exists()
    said = ctk("gc", env=environment).ok().out
    assert f"removed recipe {room}" in said and f"removed folder {launcher}" in said
    # It was killed; whoever inherited it has to notice.
    until(lambda: not os.path.isdir(f"/proc/{init}"), "the end of the container's process")
    assert not room.parent.exists() and not launcher.exists() and work.is_dir()
    assert not [path for path in cgroups() if path.endswith(f"/ctk-recipe-{room.name}")]


def test_a_recipe_that_its_reader_stopped_stays(
    ctk: Command, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    page, work = tmp_path / "page.md", tmp_path / "work"
    page.write_text(
        "# A page\n\n```console\n$ touch one\n```\n\n```console\n$ true\n```\n\n```console cleanup\n$ rm one\n```\n"
    )
    environment = {**ctk.environment, "CTK_DATA": str(tmp_path / "data"), "TERM": "xterm"}
    screen = terminal(ctk.argv("recipe", "run", "--work", str(work), str(page)), env=environment, columns=100)
    screen.read_until("(?s)step 1 of .*q: stop", 30)
    screen.send("\r")
    screen.read_until("(?s)step 2 of .*q: stop", 30)
    screen.send("q")
    screen.read_until("stopped before step 2", 30)
    assert screen.wait() == 0
    (room,) = Path(ctk.root + "-recipes").iterdir()
    again = f"ctk recipe run {page} --clean-up"
    assert f"left alone: recipe {room}: its reader stopped it, and can go on  ({again})" in gc(ctk)
    os.rename(work, tmp_path / "elsewhere")
    assert any(line.startswith(f"removed recipe {room}: ") for line in gc(ctk))
    assert not room.parent.exists()
