"""`ctk.lock`: a tag that has moved in the registry does not move here, and that is said."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import Command, Result
from tests.fixtures.registry import DebianRegistry
from toolkit.image import layout, name

pytestmark = pytest.mark.root

OLD = images.image(images.layer({"bin/": b"", "bin/sh": b"#!old"}))
NEW = images.image(images.layer({"bin/": b"", "bin/sh": b"#!new"}))
ARM = images.image(images.layer({"arm": b"arm"}), platform=images.ARM64)
BOTH = (images.AMD64, images.ARM64)
OLD_INDEX, NEW_INDEX = images.index(OLD, ARM, platforms=BOTH), images.index(NEW, ARM, platforms=BOTH)


class Ours(Protocol):
    def __call__(self, *words: str) -> Result: ...


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def ours(ctk: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ours:
    """ctk in a folder of its own, with a store of its own, as a user without settings."""
    registry.own_home(tmp_path, monkeypatch)
    (tmp_path / "project").mkdir()

    def call(*words: str) -> Result:
        env = {key: os.environ[key] for key in ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")}
        env |= {"CTK_IMAGES": str(tmp_path / "images"), "COLUMNS": "400"}
        return ctk(*words, env=env, cwd=tmp_path / "project")

    return call


def push(running: DebianRegistry, index: "images.Raw", of: "tuple[images.Image, ...]", folder: Path) -> str:
    """Let the tag `moving:1` name this index; skopeo does it."""
    destination = layout.open_destination(name.locate(f"oci:{folder}/{index.digest[7:15]}:it"))
    for one in of:
        images.put(destination, one)
    destination.put_manifest(index, "it")
    destination.commit()
    destination.close()
    where = f"{running.host}/moving:1"
    source = f"oci:{folder}/{index.digest[7:15]}:it"
    registry.skopeo("copy", "--all", "--dest-tls-verify=false", source, f"docker://{where}")
    return where


def test_a_moved_tag_stays_where_the_lock_holds_it(running: DebianRegistry, ours: Ours, tmp_path: Path) -> None:
    where = push(running, OLD_INDEX, (OLD, ARM), tmp_path)
    made = ours("pull", "--update-lock", where).ok()
    assert OLD_INDEX.digest in made.err
    path = tmp_path / "project/ctk.lock"
    assert json.loads(path.read_text()) == {"version": 1, "images": {where: {"digest": OLD_INDEX.digest}}}
    before = path.read_bytes()

    push(running, NEW_INDEX, (NEW, ARM), tmp_path)
    held = ours("pull", where).ok()
    assert NEW_INDEX.digest in held.err and "--update-lock" in held.err, "that the tag has moved is said"
    assert named(ours, where) == OLD_INDEX.digest

    # Another machine, whose store has nothing: it gets the image of the lock, for its own platform.
    ours("image", "rm", where).ok()
    ours("image", "prune", "--all").ok()
    ours("pull", "--platform", "linux/arm64", where).ok()
    assert named(ours, where) == OLD_INDEX.digest

    other = tmp_path / "other.lock"
    ours("pull", "--update-lock", "--lock-file", str(other), where).ok()
    assert named(ours, where) == NEW_INDEX.digest and path.read_bytes() == before
    assert json.loads(other.read_text())["images"][where]["digest"] == NEW_INDEX.digest
    ours("pull", where).ok()
    assert named(ours, where) == OLD_INDEX.digest, "the store's name follows the lock back"

    moved = ours("pull", "--update-lock", where).ok()
    assert OLD_INDEX.digest in moved.err and named(ours, where) == NEW_INDEX.digest
    assert path.read_bytes() == other.read_bytes()


def test_up_and_run_do_not_take_another_image(
    running: DebianRegistry, ours: Ours, tmp_path: Path, ctk: Command
) -> None:
    where = push(running, NEW_INDEX, (NEW, ARM), tmp_path)
    ours("pull", where).ok()
    path = tmp_path / "project/ctk.lock"
    push(running, OLD_INDEX, (OLD, ARM), tmp_path)
    push(running, NEW_INDEX, (NEW, ARM), tmp_path)
    path.write_text(json.dumps({"version": 1, "images": {where: {"digest": OLD_INDEX.digest}}}))
    refused = ours("up", "--pull", "never", where, ctk.id())
    assert refused.rc == 1 and OLD_INDEX.digest in refused.err and NEW_INDEX.digest in refused.err
    # Neither image has a program that could start: what matters is which of them was fetched and tried.
    other = str(tmp_path / "other.lock")
    for words in (("up", "--rm", where, ctk.id(), "--", "/bin/sh"), ("run", "--rm", "--image", where, ctk.id())):
        ours("pull", "--lock-file", other, "--update-lock", where).ok()
        assert named(ours, where) == NEW_INDEX.digest
        ours(*words)
        assert named(ours, where) == OLD_INDEX.digest


def test_a_build_begins_with_the_image_of_the_lock(running: DebianRegistry, ours: Ours, tmp_path: Path) -> None:
    where = push(running, OLD_INDEX, (OLD, ARM), tmp_path)
    (tmp_path / "project/Containerfile").write_text(f"FROM {where}\nENV A=b\n")

    def first_layer(*words: str) -> str:
        ours("build", "-t", "it", *words).ok()
        return str(json.loads(ours("image", "inspect", "it").ok().out)["layers"][0]["digest"])

    assert first_layer("--update-lock") == OLD.layers[0].digest
    push(running, NEW_INDEX, (NEW, ARM), tmp_path)
    ours("pull", "--lock-file", "other.lock", "--update-lock", where).ok()
    assert named(ours, where) == NEW_INDEX.digest
    refused = ours("build", "-t", "it", "--pull", "never")
    assert refused.rc == 1 and OLD_INDEX.digest in refused.err and NEW_INDEX.digest in refused.err
    assert first_layer() == OLD.layers[0].digest
    assert first_layer("--lock-file", "other.lock") == NEW.layers[0].digest
    held = ours("build", "-t", "it", "--lock-file", "absent.lock")
    assert held.rc == 1 and "absent.lock" in held.err


def test_a_digest_in_the_name_is_stronger_than_a_lock(running: DebianRegistry, ours: Ours, tmp_path: Path) -> None:
    where = push(running, NEW_INDEX, (NEW, ARM), tmp_path)
    path = tmp_path / "project/ctk.lock"
    path.write_text(json.dumps({"version": 1, "images": {where: {"digest": "sha256:" + "0" * 64}}}))
    ours("pull", f"{where}@{NEW_INDEX.digest}").ok()
    missing = ours("pull", where)
    assert missing.rc == 1 and "0" * 64 in missing.err
    path.write_text("{}")
    broken = ours("pull", where)
    assert broken.rc == 1 and "ctk.lock" in broken.err


def test_a_name_that_the_lock_lacks_is_told(running: DebianRegistry, ours: Ours, tmp_path: Path) -> None:
    where = push(running, NEW_INDEX, (NEW, ARM), tmp_path)
    (tmp_path / "project/ctk.lock").write_text('{"version": 1, "images": {}}')
    assert "--update-lock adds it" in ours("pull", where).ok().err
    absent = ours("pull", "--lock-file", "absent.lock", where)
    assert absent.rc == 1 and "absent.lock" in absent.err
    nowhere = ours("pull", "--lock-file", "absent/lock", "--update-lock", where)
    assert nowhere.rc == 1 and "absent/lock" in nowhere.err


def named(ours: Ours, where: str) -> str:
    """The digest that the store has for the name."""
    found = {one["name"]: one["digest"] for one in json.loads(ours("images", "--json").ok().out)}
    return str(found[where])
