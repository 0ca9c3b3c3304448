"""Containers as services of a real systemd: ready when they say so, stopped without a trace, sockets passed on."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "root/services"
NOTHING = {"record": False, "scope": "inactive", "cgroup": [], "processes": [], "mounts": []}


@pytest.mark.parametrize("name", ["notify", "held"])
def test_a_unit_is_active_once_its_program_is_ready(case: Case, name: str) -> None:
    """As `ctk generate systemd` has it, where ctk stays in the foreground; and with `-d --hold` in its place."""
    seen = case(THEME, name)
    assert seen["before"] == {"ActiveState": "activating", "StatusText": ""}
    assert seen["start"]["code"] == 0
    assert seen["after"] == {"ActiveState": "active", "SubState": "running", "StatusText": ""}
    # Not what the container said of its process 1: of ours, whose last word is the container's name, or its init.
    assert seen["main"] == ("init" if name == "held" else name)
    assert seen["said"] == "waking\nready\n"  # with the barrier of sd_notify_barrier(3), each time


@pytest.mark.parametrize("name", ["notify", "held"])
def test_a_unit_that_is_stopped_leaves_nothing(case: Case, name: str) -> None:
    seen = case(THEME, name)
    assert seen["stop"]["code"] == 0
    assert seen["stopped"] == {"ActiveState": "inactive", "Result": "success"}
    assert seen["left"] == NOTHING


def test_one_that_never_is_ready_fails_by_the_units_timeout_and_leaves_nothing(case: Case) -> None:
    seen = case(THEME, "silent")
    assert seen["unit"] == {"ActiveState": "failed", "Result": "timeout"}
    assert seen["left"] == NOTHING


def test_a_socket_units_descriptor_reaches_the_container_and_no_exec(case: Case) -> None:
    seen = case(THEME, "sockets")
    assert seen["run"]["out"] == "fds=1 pid=1\nsocket\nheard\nend\n"
    lines = seen["exec"]["out"].splitlines()
    assert (lines[0], lines[-1]) == ("fds= pid=", "end")
    assert "socket" not in lines and "heard" not in lines
