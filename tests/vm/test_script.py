"""Pure cgroup v2: the script of a launch starts the container that `ctk run` starts."""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("name", ["limits", "user_namespace"])
def test_the_script_starts_an_equivalent_container_on_v2(case: Case, name: str) -> None:
    seen = case("root/script", name)
    assert (seen["code"], seen["err"]) == (0, "")
    assert seen["script"] == seen["ctk"]
    assert f"memory.max {32 << 20}" in seen["ctk"] and "0::/" in seen["ctk"]
    assert any(line.endswith("cgroup2 cgroup rw") or " - cgroup2 " in line for line in seen["ctk"])
    assert not seen["left"]


def test_the_limits_of_the_scripts_container_bite(case: Case) -> None:
    """Its root is a user of the host's, who could set none."""
    assert case("root/script", "user_namespace")["script"][-2:] == ["killed 137", "oom_kill 1"]
