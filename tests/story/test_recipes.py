"""The shipped recipes, played for real: a page that no longer tells the truth fails here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.debian import Mirror
from tests.fixtures.terminal import Terminal
from toolkit.recipe import shelf

pytestmark = [pytest.mark.root, pytest.mark.archive]

RECIPES = [shelf.load(path) for path in shelf.paths()]


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
def test_a_recipe_does_what_it_says(ctk: Command, debian_mirror: Mirror, name: str) -> None:
    played = ctk("recipe", "run", "--yes", name, env={"CTK_MIRROR": debian_mirror.url}, timeout=280)
    assert played.rc == 0, played.out + played.err
    recipe = shelf.find(name)
    assert played.out.endswith(f"{name}: {recipe.numbered} of {recipe.numbered} steps, and nothing left behind\n")


def test_a_recipe_is_played_with_enter_and_left_with_q(
    ctk: Command, debian_mirror: Mirror, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    environment = {**ctk.environment, "CTK_MIRROR": debian_mirror.url, "TERM": "xterm"}
    argv = ctk.argv("recipe", "run", "--work", str(work), "first-container")
    screen = terminal(argv, env=environment, columns=100)
    screen.read_until("(?s)step 1 of .*q: quit ", 30)
    assert list(work.iterdir()) == []
    screen.send("\r")
    screen.read_until("step 2 of ", 240)
    assert (work / "debianfs/etc/os-release").exists()
    screen.send("s\r")
    screen.read_until("step 3 of ")
    screen.read_until("quit ")
    screen.send("q\r")
    screen.read_until("stopped before step 3", 60)
    assert screen.wait() == 0
    assert (work / "debianfs/etc/os-release").exists()
    again = terminal(ctk.argv("recipe", "run", "--clean-up", "first-container"), env=environment, columns=100)
    again.read_until("nothing left behind", 60)
    assert again.wait() == 0
    assert list(work.iterdir()) == []
