"""`ctk commit` under kill -9: the container goes on, the store is whole, and the next commit is like any other."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.fixtures.command import Command

pytestmark = pytest.mark.root

_KILLS = 12
_LIMIT_S = 10.0


def status(ctk: Command, name: str) -> str:
    return str(json.loads(ctk("state", name).ok().out)["status"])


def test_a_commit_is_killed_at_any_moment(ctk: Command, busybox_rootfs: Path, tmp_path: Path) -> None:
    name = ctk.id()
    ctk("pack", str(busybox_rootfs), "web:1").ok()
    ctk(
        "up", "-d", "web:1", name, "--", "sh", "-c", "mkdir /srv; echo here > /srv/done; while :; do sleep 1; done"
    ).ok()
    layer = tmp_path / "data/bundles" / name / "writable/upper"
    try:
        deadline = time.monotonic() + _LIMIT_S
        while not (layer / "srv/done").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        (layer / "srv/large").write_bytes(os.urandom(40 << 20))  # so that most of the time is spent reading
        began = time.monotonic()
        ctk("commit", name, "web:2").ok()
        whole_s = time.monotonic() - began
        ctk("image", "rm", "web:2").ok()
        killed, left_frozen = 0, []
        for at in range(_KILLS):
            victim = ctk.popen("commit", name, f"killed:{at}", start_new_session=True)
            time.sleep(whole_s * (at + 1) / (_KILLS + 1))
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            killed += victim.returncode == -signal.SIGKILL
            deadline = time.monotonic() + _LIMIT_S
            while (now := status(ctk, name)) != "running" and time.monotonic() < deadline:
                time.sleep(0.05)
            if now != "running":
                left_frozen.append(at)
                ctk("resume", name).ok()
            ctk("image", "check").ok()
        assert killed >= _KILLS // 2 and left_frozen == []
        ctk("commit", name, "web:2").ok()
        ctk("unpack", "web:2", "-b", str(tmp_path / "two")).ok()
        assert (tmp_path / "two/rootfs/srv/large").read_bytes() == (layer / "srv/large").read_bytes()
        ctk("image", "check").ok()
    finally:
        ctk("rm", "-f", name)
