"""One guest for all themes; each theme's program runs once, and every test judges one case of what it saw."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.vm import guest
from tests.vm.image import image
from tests.vm.inside.room import ALONE
from tests.vm.machine import GuestLost, Machine

Facts = dict[str, Any]
Case = Callable[[str, str], Facts]


# Of the package, not of the session: an idle guest costs a part of a processor, and 2 GB.
@pytest.fixture(scope="package")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("needs root")  # the marker decides whether that is a failure, but after this fixture
    if os.uname().machine != "x86_64":
        pytest.skip(f"the guest is one for x86_64, and this machine is {os.uname().machine}")
    if shutil.which("qemu-system-x86_64") is None:
        # scripts/test installs it, and says so itself where it can't: that is a failure there.
        pytest.skip("there is no qemu-system-x86_64 (Debian package qemu-system-x86)")
    with Machine(image(), tmp_path_factory.mktemp("vm")) as booted:
        # QEMU finds translated code by its address: with programs always at the same one, ctk takes two thirds as long.
        assert booted.run("sysctl -q kernel.randomize_va_space=0").rc == 0
        yield booted


@pytest.fixture(scope="package")
def case(machine: Machine) -> Case:
    """`case(theme, name)`: the facts of a case. "root/THEME" or "user/THEME" says as whom the program runs."""
    seen: dict[str, Facts] = {}

    def facts(theme: str, name: str) -> Facts:
        if theme not in seen:
            seen[theme] = _run(machine, theme)
        if name not in seen[theme] and "" not in seen[theme]:
            seen[theme] |= _run(machine, f"{theme} {ALONE} {name}")  # a rare one
        found = seen[theme].get(name)
        if found is None:
            pytest.fail(f"{theme}: no case {name!r}: {json.dumps(seen[theme], indent=1)[:4000]}", pytrace=False)
        if "error" in found:
            pytest.fail(f"{theme}, {name}, in the guest:\n{found['error']}", pytrace=False)
        print(json.dumps(found, indent=1))  # pytest shows it where an assertion fails
        return dict(found)

    return facts


def _run(machine: Machine, theme: str) -> Facts:
    whom, _, words = theme.partition("/")
    program = f"python3 -m tests.vm.inside.{words}"
    if whom == "user":
        program = f"{guest.AS_USER} --working-directory={guest.PROJECT} {program}"
    else:
        program = f"cd {guest.PROJECT} && {program}"
    try:
        result = machine.run(program, timeout_s=900)
    except GuestLost as lost:
        return {"": {"error": str(lost)}}
    try:
        facts: Facts = json.loads(result.out)
    except ValueError:
        return {"": {"error": f"exit {result.rc}\n{result.out}{result.err}"}}
    return facts
