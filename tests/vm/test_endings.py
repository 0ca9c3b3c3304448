"""Pure cgroup v2: a kill for want of memory is told, and an old one is not blamed for a later SIGKILL."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "root/endings"


def test_a_kill_by_the_kernel_is_told(case: Case) -> None:
    seen = case(THEME, "blame")
    assert (seen["real"]["code"], seen["real"]["signal"]) == (137, 9)
    assert seen["real"]["oom"]["kills"] == 1 and seen["real"]["oom"]["limit"] == 20 << 20
    assert "killed by the kernel: memory limit of 20 MiB reached" in seen["real"]["sentence"]


def test_an_old_one_is_not_blamed_for_a_later_one(case: Case) -> None:
    seen = case(THEME, "blame")
    assert seen["inspect"] == 1
    assert seen["later"]["oom"]["kills"] == 1 and seen["later"]["oom"]["before_s"] > 3
    assert "killed by SIGKILL, not by the kernel" in seen["later"]["sentence"]


def test_a_kill_is_told_when_the_cgroup_is_gone(case: Case) -> None:
    """systemd removes an empty scope at once; what is left is the kernel's log."""
    seen = case(THEME, "late")
    assert (seen["code"], seen["signal"]) == (137, 9)
    assert seen["oom"]["kills"] == 1
    assert "killed by the kernel: memory limit of 20 MiB reached" in seen["sentence"]
