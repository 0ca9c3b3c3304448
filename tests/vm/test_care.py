"""Pure cgroup v2: a recipe has a cgroup of its own; doctor on a host that lacks a library.

A cgroup below a user's manager is the harder one to make, and a library is missing for all: the recipe is played as a
user and the doctor asked as root in every run of the tests, the other way round only with the slow ones.
"""

import pytest

from tests.vm.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=["root", "user"])
def theme(request: pytest.FixtureRequest) -> str:
    return f"{request.param}/care"


def mostly(whom: str) -> pytest.MarkDecorator:
    """As this one in every run, as the other one in the slow ones; inside/care.py says the same."""
    other = "user" if whom == "root" else "root"
    slow = pytest.param(f"{other}/care", id=other, marks=pytest.mark.slow)
    return pytest.mark.parametrize("theme", [pytest.param(f"{whom}/care", id=whom), slow])


@mostly("user")
def test_a_recipe_has_a_cgroup_of_its_own(case: Case, theme: str) -> None:
    seen = case(theme, "played")
    assert seen["code"] == 0, seen["out"] + seen["err"]
    above = seen["beside"] + "/ctk-recipe-"
    shell, container = (seen[name].removeprefix("0::") for name in ("shell", "container"))
    assert shell.startswith(above) and "/shells-" in shell
    assert container == shell.rpartition("/")[0] + "/inside"
    assert seen["limit"] == str(24 << 20)
    assert not seen["alive"]
    assert seen["left"] == []


def test_a_run_is_ended_by_what_it_wrote_down(case: Case, theme: str) -> None:
    seen = case(theme, "found_again")
    assert seen["whole"] == seen["shells"] == seen["beside"] + "/ctk-recipe-again"
    assert seen["frozen"]
    assert seen["ended"] == -9
    assert not seen["left"]


@mostly("root")
def test_doctor_tells_of_a_library_that_is_missing(case: Case, theme: str) -> None:
    seen = case(theme, "doctor")
    told = seen["all"]["out"] + seen["all"]["err"]
    assert seen["all"]["code"] == 1 and "Traceback" not in told
    assert "✗ libraries: " in told and "requests" in told
    assert "✓ cgroups: " in told and "· mirrors: " in told
    assert seen["build"]["code"] != 0 and "Traceback" not in seen["build"]["err"]
    assert "has no Python package" in seen["build"]["err"]
    assert not seen["left"]
