"""Pure cgroup v2: the script of a launch starts the container that `ctk run` starts."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]


def test_the_script_starts_an_equivalent_container_on_v2(case: Case) -> None:
    seen = case("root/script", "limits")
    assert (seen["code"], seen["err"]) == (0, "")
    assert seen["script"] == seen["ctk"]
    assert f"memory.max {32 << 20}" in seen["ctk"] and "0::/" in seen["ctk"]
    assert any(line.endswith("cgroup2 cgroup rw") or " - cgroup2 " in line for line in seen["ctk"])
    assert not seen["left"]
