"""`ctk bootstrap --tag` under kill -9: the image is whole or not there, and the next build is like any other."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.killed import audited, spread
from tests.fixtures.often import tries
from tests.fixtures.small import World
from toolkit.image.store import check, collect
from toolkit.image.store.store import Store

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path, ctk: Command) -> Iterator[World]:
    made = World(tmp_path, ctk)
    yield made
    made.server.close()


def names(folder: Path) -> set[str]:
    """What is there, without the contents of the cache of packages."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.match("cache/files/??/*")}


def clean(ctk: Command, env: dict[str, str], store: Store) -> None:
    """`ctk gc` and `ctk image prune`, a minute later: what is new is taken for the work of a living process."""
    cache = Path(env["CTK_CACHE"])
    for path in (*cache.glob("building/.*.new"), *cache.glob("trees.new/new.*")):
        os.utime(path, (0, 0))
    ctk("gc", env=env).ok()
    collect.prune(store)


@pytest.mark.timeout(900)
def test_a_build_of_an_image_is_killed_at_any_moment(world: World, ctk: Command, tmp_path: Path) -> None:
    words = (
        "bootstrap", "bookworm", f"--mirror={world.server.url}", f"--keyring={world.archive.keyring}",
        "--variant=extract", "--arch=amd64", "--include=alpha", "--tag=deb:12",
    )  # fmt: skip

    def environment(folder: Path) -> dict[str, str]:
        folder.mkdir()
        places = {name: str(folder / name[4:].lower()) for name in ("CTK_CACHE", "CTK_IMAGES", "CTK_DATA")}
        return {**ctk.environment, **places, "SOURCE_DATE_EPOCH": "1700000000"}

    report, whole = tmp_path / "count", tmp_path / "whole"
    assert audited(environment(whole), 0, report, *words) == 0
    (image,) = Store(str(whole / "images")).entries()
    killed, wanted, left_trees = 0, tries(6, 40), 0
    for number, point in enumerate(spread(int(report.read_text()), wanted)):
        folder = tmp_path / f"at{point}"
        env = environment(folder)
        killed += audited(env, point, report, *words) != 0
        store = Store(str(folder / "images"))
        assert [one for one in check.check(store) if not one.harmless] == [], point  # `ctk image check`
        assert store.entries() in ([], [image]), point
        left_trees += any(folder.glob("cache/trees.new/*/root/usr"))
        if number % 2:  # the next build finds nothing of it
            clean(ctk, env, store)
            assert names(folder) <= names(whole), point
        last = ctk(*words, "--json", env=env).ok().out.splitlines()[-1]
        assert json.loads(last)["result"]["digest"] == image.descriptor.digest
        if not number % 2:  # it has found all of it
            clean(ctk, env, store)
        assert names(folder) == names(whole), point
        assert list(check.check(store)) == [], point
    assert killed >= wanted - 1 and left_trees >= wanted // 4
