"""umoci makes the bundle, ctk runs it, umoci takes what changed back into the image."""

import json
from pathlib import Path

import pytest

from tests.clients.room import Room
from tests.fixtures.command import Command

pytestmark = pytest.mark.root


def test_unpack_run_repack(room: Room, image: dict[str, Path], ctk: Command, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    room.run("umoci", "unpack", "--image", f"{image['layout']}:1", str(bundle)).ok()
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["sh", "-c", "echo $PATH; echo changed > /changed"]
    config["root"]["readonly"] = False
    (bundle / "config.json").write_text(json.dumps(config))
    assert ctk("run", "--bundle", str(bundle), ctk.id()).ok().out == "/bin\n"
    copy = tmp_path / "oci"
    room.run("cp", "-a", str(image["layout"]), str(copy)).ok()
    room.run("umoci", "repack", "--image", f"{copy}:2", str(bundle)).ok()
    again = tmp_path / "again"
    room.run("umoci", "unpack", "--image", f"{copy}:2", str(again)).ok()
    assert (again / "rootfs/changed").read_text() == "changed\n"
