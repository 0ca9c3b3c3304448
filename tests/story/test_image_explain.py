"""`ctk image explain`: an image in sentences, and a script whose lines show that they are true."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images
from tests.fixtures.command import Command
from tests.fixtures.images import AMD64, ARM64, Image
from tests.fixtures.layers import file, folder, tar
from toolkit.image.document import media_types
from toolkit.image.layer import apply
from toolkit.image.store import leases
from toolkit.image.store.store import Store

pytestmark = pytest.mark.root

BASE = tar([folder("a"), file("a/x"), file("a/stays")])
TOP = tar([file("a/.wh.x", b""), file("new"), file(".wh..wh.plnk", b"")])
RUN = {
    "Cmd": ["sh"], "Entrypoint": [], "Env": ["A=b"], "User": "7:8", "WorkingDir": "/a", "Labels": {"x.y": "z"},
    "Volumes": {"/v": {}}, "Healthcheck": {"Test": ["x"]}, "StopSignal": "SIGINT",
}  # fmt: skip
ONE = images.image(BASE, TOP, config=RUN)


@pytest.fixture
def store(ctk: Command) -> Store:
    return Store(os.path.join(ctk.environment["CTK_DATA"], "images"))


def put(store: Store, name: str, *made: Image) -> None:
    place = store.destination()
    for one in made:
        images.put(place, one, name if len(made) == 1 else "")
    if len(made) > 1:
        place.put_manifest(images.index(*made, platforms=(AMD64, ARM64)), name)
    place.commit()
    place.close()


def steps(ctk: Command, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ctk("image", "explain", "--json", *words).json()["steps"]
    return found


def run(script: str) -> str:
    done = subprocess.run(["unshare", "-m", "sh", "-eu"], input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_line_of_the_script_shows_what_its_comment_says(ctk: Command, store: Store, tmp_path: Path) -> None:
    put(store, "web:1", ONE)
    lease = leases.take(store.place, "a test")
    images.lay_out(store, "web:1", lease)
    lease.release()
    told = ctk("image", "explain", "web:1").ok().out
    out = run(f"export TMPDIR={tmp_path}\n{told}").splitlines()
    assert out[0] == ONE.digest
    good = [line.rpartition(": ")[0].rpartition("/")[2] for line in out if line.endswith(": OK")]
    assert good == [
        one.partition(":")[2] for one in (ONE.digest, ONE.config.digest, *(one.digest for one in ONE.layers))
    ]
    assert out[-2:] == ["a", "new"]  # of the mount, which the script's mount namespace takes along
    assert "2 layers by type" in told and "Its tar has 3 members, 1 of them whiteouts, which hide" in told
    assert "a/.wh.x" in out


def test_the_fields_become_what_the_conversion_makes_of_them(ctk: Command, store: Store) -> None:
    put(store, "web:1", ONE)
    (fields,) = [
        dict(line.split(" -> ") for line in one["facts"]) for one in steps(ctk, "web:1") if "field by" in one["what"]
    ]
    annotation = 'annotations["org.opencontainers.image.{}"]'
    nothing = "nothing: config.json is the same without it"
    assert fields == {
        "architecture": annotation.format("architecture"), "os": annotation.format("os"),
        "created": annotation.format("created"), "config.Cmd": "process.args", "config.Entrypoint": nothing,
        "config.Env": "process.env", "config.Healthcheck": nothing, "config.Labels": 'annotations["x.y"]',
        "config.StopSignal": annotation.format("stopSignal"), "config.User": "process.user.gid, process.user.uid",
        "config.Volumes": "mounts (if the root is read-only)", "config.WorkingDir": "process.cwd",
        "rootfs.diff_ids": "the layers, below",
    }  # fmt: skip
    put(store, "web:2", images.image(BASE, config={"User": "www-data"}))
    (named,) = [one["facts"] for one in steps(ctk, "web:2") if "field by" in one["what"]]
    assert "config.User -> process.user, by the image's own etc/passwd and etc/group" in named


def test_an_index_and_layers_that_are_not_laid_out(ctk: Command, store: Store) -> None:
    other = images.image(BASE, codec=media_types.PLAIN, platform=ARM64)
    put(store, "web:1", ONE, other)
    told = steps(ctk, "--platform", "linux/arm64", "web:1")
    assert "is an index: one manifest for each platform. For linux/arm64/v8 it is " + other.digest in told[1]["what"]
    assert told[1]["facts"][1].endswith("<- this one")
    assert told[-1]["facts"] == [store.layers.path(other.diff_ids[0], apply.OVERLAY)] and told[-1]["shell"] == []
    out = run("\n".join(line for one in told for line in one["shell"]))
    assert out.count(": OK\n") == 4  # the index, the manifest, the configuration, the layer


def test_what_is_damaged_is_not_explained(ctk: Command, store: Store) -> None:
    put(store, "web:1", images.image(BASE, rootfs={"type": "layers", "diff_ids": [ONE.diff_ids[1]]}))
    wrong = ctk("image", "explain", "web:1")
    assert (wrong.rc, wrong.out) == (1, "") and "the image's configuration says" in wrong.err


def test_what_an_image_says_of_itself_is_no_line_of_the_script(ctk: Command, store: Store, tmp_path: Path) -> None:
    """A key of its configuration with a line break in it, as of R8 (docs/security.md)."""
    mark = tmp_path / "run"
    put(
        store,
        "web:1",
        images.image(BASE, config={f"x\ntouch {mark}\n": 1, "Labels": {f"l\ntouch {mark}\n": "\x1b[1m"}}),
    )
    told = ctk("image", "explain", "web:1").ok().out
    run(told)
    assert not mark.exists() and "touch" in told and "\x1b" not in told
