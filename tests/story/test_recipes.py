"""The shipped recipes, played for real: a page that no longer tells the truth fails here."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command, Result
from tests.fixtures.debian import Mirror
from tests.fixtures.leaks import cgroups
from tests.fixtures.terminal import Terminal
from tests.fixtures.user import ID, prefix
from toolkit.recipe import shelf

pytestmark = [pytest.mark.root, pytest.mark.archive]

RECIPES = [shelf.load(path) for path in shelf.paths()]


# An architecture that is translated takes minutes.
SLOW = {"another-architecture"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(recipe.name, marks=[pytest.mark.slow, pytest.mark.timeout(1900)] if recipe.name in SLOW else [])
        for recipe in RECIPES
        if "user" not in recipe.needs
    ],
)
def test_a_recipe_does_what_it_says(ctk: Command, debian_mirror: Mirror, name: str) -> None:
    played = ctk("recipe", "run", "--yes", name, env={"CTK_MIRROR": debian_mirror.url}, timeout=1800)
    assert played.rc == 0, played.out + played.err
    _is_whole(played, name)


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES if "user" in recipe.needs])
def test_a_recipe_for_an_ordinary_user_does_what_it_says(ctk: Command, debian_mirror: Mirror, name: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ctk-test-"))  # of the user's own, where he may go
    os.chown(folder, ID, ID)
    run = folder / "run"
    run.mkdir()
    os.chown(run, ID, ID)
    environment = {**os.environ, "CTK_MIRROR": debian_mirror.url, "HOME": str(folder), "XDG_RUNTIME_DIR": str(run)}
    argv = [*prefix(str(folder)), ctk.program, "recipe", "run", "--yes", name]
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280
        )
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    _is_whole(Result(tuple(argv), done.returncode, done.stdout, done.stderr), name)


def _is_whole(played: Result, name: str) -> None:
    """Every step ran but those that say that they are not for this host, and the last line says so."""
    recipe = shelf.find(name)
    elsewhere = played.out.count("is not for this host: ")
    assert elsewhere < recipe.numbered / 2
    ran = recipe.numbered - elsewhere
    assert played.out.endswith(f"{name}: {ran} of {recipe.numbered} steps, and nothing left behind\n")


_SAME_NAME = """\
# A page with the name of somebody's container

```console
# echo $CTK_ROOT >>{rooms}; cp -a {rootfs} rootfs
# ctk spec --no-tty -- sleep 600
...
# ctk run -d {name}
# ctk list -q
{name}
```

```console cleanup
# ctk delete --force {name}
# rm -rf rootfs config.json
# ls -A | wc -l
0
```
"""


def test_a_readers_container_survives_a_recipe_that_makes_one_of_its_name(
    ctk: Command, busybox_bundle: Bundle, busybox_rootfs: Path, tmp_path: Path
) -> None:
    name = ctk.id("mine")
    ctk("run", "-d", "-b", str(busybox_bundle.args("sleep", "600")), name).ok()
    try:
        whole = ctk("state", name).json()
        cgroup = Path(f"/proc/{whole['pid']}/cgroup").read_text()
        page = tmp_path / "page.md"
        page.write_text(_SAME_NAME.format(rootfs=busybox_rootfs, name=name, rooms=tmp_path / "rooms"))
        played = ctk("recipe", "run", "--yes", str(page))
        assert played.rc == 0, played.out + played.err
        page.write_text(page.read_text().replace(f"# ctk delete --force {name}\n", ""))
        forgot = ctk("recipe", "run", "--yes", "--work", str(tmp_path / "work"), str(page))
        assert f"the clean-up left '{name}'" in forgot.err
        assert ctk("state", name).json() == whole
        assert Path(f"/proc/{whole['pid']}/cgroup").read_text() == cgroup
    finally:
        ctk("delete", "--force", name)
    rooms = (tmp_path / "rooms").read_text().split()
    assert len(rooms) == 2
    names = [f"/ctk-recipe-{os.path.basename(room)}" for room in rooms]
    assert not [path for path in cgroups() if path.endswith(tuple(names))]
    assert not os.path.exists(ctk.root + "-recipes")


def test_a_recipe_is_played_with_enter_and_left_with_q(
    ctk: Command, debian_mirror: Mirror, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    environment = {**ctk.environment, "CTK_MIRROR": debian_mirror.url, "TERM": "xterm"}
    argv = ctk.argv("recipe", "run", "--work", str(work), "first-container")
    screen = terminal(argv, env=environment, columns=100)
    screen.read_until("(?s)step 1 of .*q: stop", 30)
    assert list(work.iterdir()) == []
    screen.send("\r")
    screen.read_until("(?s)step 2 of .*q: stop", 240)  # what is typed before the question is thrown away
    assert (work / "debianfs/etc/os-release").exists()
    screen.send("s")
    screen.send("\r")  # out of habit: it must not run the next step
    screen.read_until("step 3 of ")
    screen.read_until("q: stop")
    screen.send("q")
    screen.read_until("stopped before step 3", 60)
    assert screen.wait() == 0
    assert (work / "debianfs/etc/os-release").exists()
    again = terminal(ctk.argv("recipe", "run", "--clean-up", "first-container"), env=environment, columns=100)
    again.read_until("nothing left behind", 60)
    assert again.wait() == 0
    assert not work.exists()
