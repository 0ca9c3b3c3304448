"""podman of an ordinary user runs its containers with ctk."""

import json

import pytest

from tests.vm import guest
from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "user/engine"


def test_podman_uses_ctk_and_systemd_without_root(case: Case) -> None:
    seen = case(THEME, "runtime")
    assert seen["runtime"]["path"].endswith("/ctk")
    assert seen["manager"] == "systemd"
    assert seen["rootless"] is True


def test_its_limits_are_in_the_kernel(case: Case) -> None:
    seen = case(THEME, "limits")
    assert seen["code"] == 7
    assert seen["out"].splitlines() == [str(40 << 20), "25", "50000 100000", "0"]


def test_its_own_network(case: Case) -> None:
    seen = case(THEME, "network")
    assert seen["code"] == 0
    assert "lo" in seen["out"].split()


def test_it_learns_of_an_oom_kill(case: Case) -> None:
    seen = case(THEME, "oom")
    assert seen["code"] == 137
    assert seen["inspect"] == "true 137"
    assert not seen["stays"]


def test_a_pid_namespace_is_shared(case: Case) -> None:
    seen = case(THEME, "pod")
    assert seen["code"] == 0
    assert "sleep 301" in seen["out"] and "ps -o args" in seen["out"]


def test_a_whole_life(case: Case) -> None:
    seen = case(THEME, "life")
    assert f"/user@{guest.USER_ID}.service/" in seen["cgroup"] and "libpod-" in seen["cgroup"]
    assert seen["uid_map"][:3] == ["0", str(guest.USER_ID), "1"]
    assert seen["logs"]["out"] == "up\n"
    assert (seen["exec"]["code"], seen["exec"]["out"]) == (3, "b\n0::/\n")
    assert seen["input"]["out"] == "through\n"
    assert "sleep 300" in seen["top"]["out"]
    assert json.loads(seen["stats"]["out"])[0]["name"] == "life"
    assert seen["frozen"]
    assert seen["memory.max"] == str(64 << 20)
    assert seen["rm"]["code"] == 0
    assert seen["left"] == []
