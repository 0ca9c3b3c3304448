"""An ordinary user's containers, with controllers that systemd delegates to him."""

import pytest

from tests.vm import guest
from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "user/rootless"
LIMITS = [str(24 << 20), "9", "30000 100000"]


def test_the_users_ids_are_mapped(case: Case) -> None:
    seen = case(THEME, "mapped")
    lines = seen["many"]["out"].splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["0", str(guest.USER_ID), "1"],
        ["1", str(guest.FIRST_SUBORDINATE), "65536"],
    ]
    assert lines[2:] == ["7:8"]
    assert seen["alone"]["out"].split() == ["0", str(guest.USER_ID), "1", "0"]


def test_limits_by_the_users_systemd(case: Case) -> None:
    seen = case(THEME, "limits_by_systemd")
    assert seen["code"] == 0
    assert seen["out"].splitlines()[0] == "0"
    assert seen["out"].splitlines()[-3:] == LIMITS


def test_limits_below_a_delegated_cgroup(case: Case) -> None:
    seen = case(THEME, "limits_below_us")
    assert {"cpu", "memory", "pids"} <= set(seen["delegated"].split())
    assert seen["code"] == 0
    assert seen["out"].splitlines()[-3:] == LIMITS
    assert not seen["left"]


def test_the_kernel_kills_who_takes_too_much_memory(case: Case) -> None:
    assert case(THEME, "oom")["code"] == 137


def test_a_whole_life(case: Case) -> None:
    seen = case(THEME, "life")
    assert seen["created"] == "created"
    assert f"/user@{guest.USER_ID}.service/user.slice/ctk-life.scope" in seen["cgroup"]
    assert seen["owner on the host"] == guest.USER_ID
    assert (seen["exec"]["code"], seen["exec"]["out"]) == (0, "0\n")
    assert seen["frozen"]
    assert seen["pids.max"] == "33"
    assert not seen["left"]
    assert seen["list"] == ""
