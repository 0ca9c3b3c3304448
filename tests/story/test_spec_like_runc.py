"""`ctk spec` writes what the distribution's `runc spec` writes, through either door."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.fixtures.command import Command


@pytest.mark.parametrize("options", [(), ("--rootless",)], ids=["plain", "rootless"])
def test_the_default_spec_is_runcs_to_the_byte(ctk: Command, tmp_path: Path, options: tuple[str, ...]) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    ctk("spec", *options, cwd=ours).ok()
    ctk.like("runc")("spec", *options, cwd=theirs).ok()
    spec = (ours / "config.json").read_bytes()
    # Only the version of the standard is the reference's own: 1.1.5 names 1.0.2-dev, 1.1.15 names 1.2.0.
    reference = (theirs / "config.json").read_bytes()
    version = re.search(rb'"ociVersion": ".*?"', reference)
    assert version and re.sub(rb'"ociVersion": ".*?"', version[0], spec) == reference


def test_the_second_door_begins_from_the_same_spec(ctk: Command, tmp_path: Path) -> None:
    fast, slow = tmp_path / "fast", tmp_path / "slow"
    fast.mkdir()
    slow.mkdir()
    ctk("spec", cwd=fast).ok()
    ctk("spec", "--hostname", "runc", cwd=slow).ok()
    assert (fast / "config.json").read_bytes() == (slow / "config.json").read_bytes()


def test_both_doors_refuse_to_overwrite_and_force_does_not(ctk: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    for options in ((), ("--writable",)):
        refused = ctk("spec", *options, cwd=tmp_path)
        assert refused.rc == 1
        assert "exists" in refused.err
        assert (tmp_path / "config.json").read_text() == "mine"
    ctk("spec", "--force", cwd=tmp_path).ok()
    assert json.loads((tmp_path / "config.json").read_text())["hostname"] == "runc"


def test_the_options_of_the_pipeline(ctk: Command, tmp_path: Path, busybox_rootfs: Path) -> None:
    ctk("spec", "--rootfs", str(busybox_rootfs), "--writable", "--share-net", "--bundle", str(tmp_path)).ok()
    spec = json.loads((tmp_path / "config.json").read_text())
    assert spec["root"] == {"path": str(busybox_rootfs)}
    assert "network" not in [entry["type"] for entry in spec["linux"]["namespaces"]]
    bound = {mount["destination"]: mount for mount in spec["mounts"] if mount["type"] == "bind"}
    assert bound["/etc/resolv.conf"]["source"] == os.path.realpath("/etc/resolv.conf")
    assert "ro" in bound["/etc/resolv.conf"]["options"]


def test_a_spec_for_a_tree_has_its_best_shell_and_the_runs_name(
    ctk: Command, tmp_path: Path, busybox_rootfs: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(busybox_rootfs, tree, symlinks=True)
    ctk("spec", "--rootfs", "tree", "--no-tty", cwd=tmp_path).ok()
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"] == ["sh"]
    (tree / "bin/bash").symlink_to("busybox")
    ctk("spec", "--rootfs", "tree", "--no-tty", "--force", cwd=tmp_path).ok()
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"] == ["bash"]
    ctk("spec", "--update", "--", "hostname", cwd=tmp_path).ok()
    name = ctk.id("box")
    assert ctk("run", name, cwd=tmp_path).ok().out == name[:64] + "\n"
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hostname": "by-hand"}))
    assert ctk("run", name, cwd=tmp_path).ok().out == "by-hand\n"
    ctk("spec", "--update", "--hostname", "container", cwd=tmp_path).ok()
    assert ctk("run", name, cwd=tmp_path).ok().out == "container\n"
    assert ctk.like("runc")("run", name, cwd=tmp_path).ok().out == "container\n"


def test_a_missing_root_and_a_missing_command_are_told_and_nothing_is_written(
    ctk: Command, tmp_path: Path, busybox_rootfs: Path
) -> None:
    missing = ctk("spec", "--rootfs", "nowhere", cwd=tmp_path)
    assert (missing.rc, missing.err.splitlines()) == (
        1,
        [
            "ctk: use 'nowhere' as the root file system: no such folder",
            "hint: make one: ctk bootstrap bookworm nowhere",
        ],
    )
    command = ctk("spec", "--rootfs", str(busybox_rootfs), "--", "bash", cwd=tmp_path)
    assert command.rc == 1
    assert "ctk: find 'bash' in" in command.err
    assert not (tmp_path / "config.json").exists()


def test_update_and_diff(ctk: Command, tmp_path: Path) -> None:
    ctk("spec", cwd=tmp_path).ok()
    before = (tmp_path / "config.json").read_text()
    shown = ctk("spec", "--update", "--diff", "--memory", "64M", cwd=tmp_path).ok()
    assert f'+\t\t\t\t"limit": {64 << 20}' in shown.out
    assert (tmp_path / "config.json").read_text() == before
    ctk("spec", "--update", "--memory", "64M", cwd=tmp_path).ok()
    assert json.loads((tmp_path / "config.json").read_text())["linux"]["resources"]["memory"] == {"limit": 64 << 20}
