"""checkpoint and restore: the same processes go on where they were."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "root/checkpoint"


def test_criu_works_in_the_guest(case: Case) -> None:
    assert case(THEME, "criu")["code"] == 0


@pytest.mark.parametrize("name", ["cgroupfs", "systemd", pytest.param("systemd_stays", marks=pytest.mark.slow)])
def test_a_container_goes_on_where_it_was(case: Case, name: str) -> None:
    """With both drivers; it is saved twice, and runs on the first time, with one of them, or with both in the slow."""
    seen = case(THEME, name)
    if name != "systemd":
        assert seen["stay"]["code"] == 0
        assert seen["after stay"] == "running"
    assert seen["checkpoint"]["code"] == 0
    assert seen["images"]
    assert not seen["alive"]
    assert seen["state"]["code"] != 0 and "does not exist" in seen["state"]["err"]
    assert seen["restore"]["code"] == 0
    assert seen["status"] == "running"
    assert seen["after"] >= seen["before"] > 2
    assert seen["goes on"]
    place = "ctk-vm/saved" if name == "cgroupfs" else "system.slice/ctk-saved2.scope"
    assert seen["cgroup"] == f"/sys/fs/cgroup/{place}"
    assert seen["memory.max"] == str(48 << 20)
    assert seen["exec"]["out"] == "0::/\n"
    assert seen["delete"]["code"] == 0
    assert seen["list"] in ([], None)
