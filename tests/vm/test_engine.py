"""podman of an ordinary user runs its containers with ctk."""

import json

import pytest

from tests.vm import guest
from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "user/engine"


def test_its_limits_are_in_the_kernel(case: Case) -> None:
    seen = case(THEME, "limits")
    assert seen["code"] == 7
    assert seen["out"].splitlines()[:4] == [str(40 << 20), "25", "50000 100000", "0"]


def test_its_own_network(case: Case) -> None:
    assert "lo" in case(THEME, "limits")["out"].splitlines()[4:]


def test_it_learns_of_an_oom_kill(case: Case) -> None:
    seen = case(THEME, "oom")
    assert seen["code"] == 137
    assert seen["inspect"] == "true 137"
    assert not seen["stays"]


def test_a_whole_life(case: Case) -> None:
    seen = case(THEME, "life")
    assert seen["runtime"].endswith("/ctk") and seen["manager"] == "systemd"
    assert f"/user@{guest.USER_ID}.service/" in seen["cgroup"] and "libpod-" in seen["cgroup"]
    assert seen["uid_map"][:3] == ["0", str(guest.USER_ID), "1"]
    assert (seen["exec"]["code"], seen["exec"]["out"]) == (3, "through\nb\n0::/\n")
    assert seen["rm"]["code"] == 0
    assert seen["left"] == []


@pytest.mark.slow
def test_a_pid_namespace_is_shared(case: Case) -> None:
    """Slow, as each of its commands takes seconds: tests/clients does it with podman of root."""
    seen = case(THEME, "changed")["pod"]
    assert seen["code"] == 0
    assert "sleep 300" in seen["out"] and "ps -o args" in seen["out"]


@pytest.mark.slow
def test_it_pauses_and_updates_a_container(case: Case) -> None:
    """Slow: a user's pause and update without podman are in test_rootless.py, podman's own in tests/clients."""
    seen = case(THEME, "changed")
    assert seen["frozen"]
    assert seen["memory.max"] == str(64 << 20)


@pytest.mark.slow
def test_it_tells_of_a_container(case: Case) -> None:
    """Slow: most of it podman reads by itself, and each of its commands takes seconds under emulation."""
    seen = case(THEME, "watched")
    assert seen["logs"]["out"] == "up\n"
    assert "sleep 301" in seen["top"]["out"]
    assert json.loads(seen["stats"]["out"])[0]["name"] == "watched"
    assert seen["wait"]["out"] == "137\n"
    assert seen["rm"]["code"] == 0
