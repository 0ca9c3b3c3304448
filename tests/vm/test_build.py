"""Pure cgroup v2 with systemd: a build has a cgroup and a cgroup namespace of its own, and leaves neither."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]


def test_a_build_is_alone_in_its_cgroup_and_sees_no_other(case: Case) -> None:
    seen = case("root/build", "cgroup")
    assert seen["own"] == "/sys/fs/cgroup/system.slice/ctk-agent.service"
    assert [path.rpartition("/")[0] for path in seen["there"]] == [seen["own"]]
    assert seen["pids"] == 1  # process 1 of its pid namespace, between two programs
    assert seen["inside"] == ["0::/"]
    assert seen["mounted"] == []
    assert (seen["left"], seen["processes"]) == ([], [])
