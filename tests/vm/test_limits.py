"""Pure cgroup v2: the limits of config.json bite with both drivers.

What each driver does by itself is tested with both: to write the limits, close the devices, pause and update. How the
kernel then keeps a limit, and how ctk ends what is in a cgroup, is the same for both: one driver in every run of the
tests, the other one only with the slow tests.
"""

import json

import pytest

from tests.vm.conftest import Case, Facts

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
MB = 1 << 20


@pytest.fixture(scope="module", params=["cgroupfs", "systemd"])
def theme(request: pytest.FixtureRequest) -> str:
    return f"root/limits {request.param}"


def mostly(driver: str) -> pytest.MarkDecorator:
    """With this driver in every run, with the other one in the slow ones; inside/limits.py says the same."""
    other = "systemd" if driver == "cgroupfs" else "cgroupfs"
    slow = pytest.param(f"root/limits {other}", id=other, marks=pytest.mark.slow)
    return pytest.mark.parametrize("theme", [pytest.param(f"root/limits {driver}", id=driver), slow])


def test_every_limit_is_in_its_file(case: Case, theme: str) -> None:
    seen = case(theme, "files")
    assert seen["cgroup"] == "0::/"
    assert seen["memory.max"] == str(32 * MB)
    assert seen["memory.swap.max"] == str(16 * MB)  # the spec's number is memory and swap together
    assert seen["memory.low"] == str(16 * MB)
    assert seen["memory.high"] == str(24 * MB)
    assert seen["pids.max"] == "20"
    assert seen["cpu.max"] == "20000 100000"
    assert 1 < int(seen["cpu.weight"]) < 100
    assert seen["cpuset.cpus"] == "0"
    assert not seen["left"]


@mostly("systemd")
def test_the_kernel_kills_who_takes_too_much_memory(case: Case, theme: str) -> None:
    seen = case(theme, "oom")
    assert seen["code"] == 137
    assert (seen["again"]["code"], seen["again"]["out"]) == (0, "again\n")
    assert not seen["left"]


@mostly("cgroupfs")
def test_forks_beyond_the_limit_are_refused(case: Case, theme: str) -> None:
    seen = case(theme, "pids")
    assert seen["code"] != 0
    assert "fork" in seen["err"]
    assert seen["events"].startswith("max ") and int(seen["events"].split()[1]) > 0
    assert int(seen["current"]) <= 8


@mostly("systemd")
def test_a_busy_loop_is_throttled(case: Case, theme: str) -> None:
    seen = case(theme, "cpu")
    assert seen["throttled"] >= 10
    assert 0.05 < seen["used"] < 0.2 * seen["wall"] + 0.3


def test_paused_it_stands_still(case: Case, theme: str) -> None:
    seen = case(theme, "pause")
    assert seen["status"] == "paused"
    assert "frozen 1" in seen["events"]
    assert seen["grew"] == 0
    assert seen["exec"]["code"] != 0 and "paused" in seen["exec"]["err"]
    assert seen["resumed"]
    assert seen["status after"] == "running"
    assert seen["delete"]["code"] == 0
    assert not seen["left"]


def test_a_device_without_a_rule_cannot_be_opened(case: Case, theme: str) -> None:
    seen = case(theme, "devices")
    assert seen["denied"]["out"] == "null\n"
    assert "Operation not permitted" in seen["denied"]["err"]
    assert seen["allowed"]["out"] == "read\nnull\n"


def test_update_reaches_the_kernel_and_keeps_the_devices_closed(case: Case, theme: str) -> None:
    seen = case(theme, "update")
    assert (seen["memory.max"], seen["pids.max"], seen["cpu.max"]) == (str(40 * MB), "17", "30000 100000")
    assert seen["open"]["out"] == "null\n"
    assert "Operation not permitted" in seen["open"]["err"]
    assert seen["exec cgroup"] == "0::/"
    assert len(json.loads(seen["ps"])) == 1
    stats = json.loads(seen["stats"])["data"]
    assert stats["memory"]["usage"]["limit"] == 40 * MB
    assert stats["pids"]["limit"] == 17
    assert not seen["left"]
    if theme.endswith("systemd"):
        assert seen["cgroup"] == "/sys/fs/cgroup/system.slice/ctk-update.scope"
        assert seen["unit"] == {
            "MemoryMax": str(40 * MB),
            "TasksMax": "17",
            "CPUQuotaPerSecUSec": "300ms",
            "Delegate": "yes",
        }
        assert seen["left unit"] == "inactive"
    else:
        assert seen["cgroup"] == "/sys/fs/cgroup/ctk-vm/update"


@mostly("systemd")
def test_delete_ends_what_is_in_inner_cgroups(case: Case, theme: str) -> None:
    seen = case(theme, "tree")
    assert seen["inner"] == 1
    assert seen["alive"] == []
    assert not seen["left"]


@mostly("systemd")
def test_delete_ends_a_child_that_was_frozen(case: Case, theme: str) -> None:
    _ended_though_frozen(case(theme, "frozen_child"), inner=1)


@mostly("cgroupfs")
def test_delete_ends_a_first_process_that_froze_itself(case: Case, theme: str) -> None:
    seen = case(theme, "frozen_first")
    assert seen["stopped"] == "stopped"
    _ended_though_frozen(seen, inner=2)


@mostly("systemd")
def test_delete_ends_a_frozen_child_in_the_hosts_pid_namespace(case: Case, theme: str) -> None:
    _ended_though_frozen(case(theme, "frozen_stranger"), inner=1)


def _ended_though_frozen(seen: Facts, inner: int) -> None:
    assert seen["frozen"] and seen["inner"] == inner
    assert seen["state"] == "running"
    assert seen["exec"]["code"] == 0
    assert seen["exec there"]["code"] != 0 and "is frozen" in seen["exec there"]["err"]
    assert seen["delete"]["code"] == 0, seen["delete"]["err"]
    assert seen["alive"] == []
    assert not seen["left"]
    assert seen["took_s"] < 20
