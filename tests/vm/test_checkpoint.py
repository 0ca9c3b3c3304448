"""checkpoint and restore: the same processes go on where they were."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]
THEME = "root/checkpoint"


def test_criu_works_in_the_guest(case: Case) -> None:
    assert case(THEME, "criu")["code"] == 0


@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_a_container_goes_on_where_it_was(case: Case, driver: str) -> None:
    seen = case(THEME, driver)
    assert seen["stay"]["code"] == 0
    assert seen["after stay"] == "running"
    assert seen["checkpoint"]["code"] == 0
    assert seen["images"]
    assert not seen["alive"]
    assert seen["state"]["code"] != 0 and "does not exist" in seen["state"]["err"]
    assert seen["restore"]["code"] == 0
    assert seen["status"] == "running"
    assert seen["after"] >= seen["before"] > 5
    assert seen["goes on"]
    name = "system.slice/ctk-saved2.scope" if driver == "systemd" else "ctk-vm/saved"
    assert seen["cgroup"] == f"/sys/fs/cgroup/{name}"
    assert seen["memory.max"] == str(48 << 20)
    assert seen["exec"]["out"] == "0::/\n"
    assert seen["delete"]["code"] == 0
    assert seen["list"] in ([], None)
