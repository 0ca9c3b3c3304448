"""Whatever step the runtime is killed at: the id is told truthfully, `delete --force` converges, the id works again."""

import os

import pytest

from tests.fixtures.command import Bundle, Command, Result
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root

MANY = 60  # more points than any verb has: a run that is not killed ends the count


def killed_at(point: int, side: str, call: "list[str]", ctk: Command, bundle: Bundle) -> Result:
    return ctk(*call, env={"CTK_TEST_KILL": f"{side}:{point}"}, cwd=str(bundle))


def settled(ctk: Command, container: str) -> None:
    """The end of every case: told truthfully, removed, usable at once."""
    told = ctk("state", container)
    listed = ctk("list", "-q").ok().out.split()
    assert (told.rc == 0) == (container in listed)
    if told.rc == 0:
        document = told.json()
        if document["status"] in ("created", "running") and not os.path.exists(f"/proc/{document['pid']}"):
            # It was so when it was told; the program may have ended meanwhile.
            assert ctk("state", container).json()["status"] == "stopped"
    for _ in range(2):
        assert ctk("delete", "--force", container).rc == 0
    assert container not in ctk("list", "-q").ok().out.split()


def works(ctk: Command, container: str, bundle: Bundle) -> None:
    assert ctk("run", container, cwd=str(bundle)).ok().out == "hi\n"


def wait_gone(container: str) -> None:
    """The child of a killed parent ends by itself when the conversation closes."""
    until(
        lambda: not any(container in folders for _, folders, _ in os.walk("/sys/fs/cgroup")), "the end of its cgroups"
    )


@pytest.mark.parametrize("side", ["parent", "child"])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_create_and_run_killed_at_every_step(side: str, verb: str, ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("echo hi")
    for point in range(1, MANY):
        container = ctk.id(f"{verb}-{side}{point}-")
        result = killed_at(point, side, [verb, container], ctk, busybox_bundle)
        if side == "child" and result.rc != 0:
            # The parent lives and has to notice; then nothing of the container is there.
            # (Killed after GO it is the container that died: its own exit code.)
            assert (result.rc == 1 and result.err) or (verb == "run" and result.rc == 137), result
            assert container not in ctk("list", "-q").ok().out.split()
        if result.rc == 0:
            ctk("delete", "--force", container)
            break
        settled(ctk, container)
        wait_gone(container)
        works(ctk, container, busybox_bundle)
    else:
        pytest.fail("no run got through")
    assert point > 3, "hardly a point was passed: is CTK_TEST_KILL read?"


OPERATIONS = 1500  # more than the program of a launch has


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
def test_a_launch_killed_at_an_operation(step: int, ctk: Command, busybox_bundle: Bundle) -> None:
    """The program of the first process ends at that operation, if it gets there."""
    busybox_bundle.sh("echo hi")
    codes = []
    for number in range(2, OPERATIONS, step):
        container = ctk.id(f"operation{number}-")
        verb = ("create", "run")[number % 2]
        result = killed_at(number, "operation", [verb, container], ctk, busybox_bundle)
        codes.append(result.rc)
        if result.rc == 1:
            assert result.err and container not in ctk("list", "-q").ok().out.split()
        settled(ctk, container)
        wait_gone(container)
        works(ctk, container, busybox_bundle)
    assert codes.count(1) > len(codes) // 8 and codes.count(0) > len(codes) // 8


def test_an_exec_killed_at_an_operation(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("sleep 1000")
    container = ctk.id()
    ctk("run", "--detach", container, cwd=str(busybox_bundle)).ok()
    codes = []
    try:
        for number in range(2, 400, 23):
            result = ctk("exec", container, "echo", "hi", env={"CTK_TEST_KILL": f"operation:{number}"})
            assert ctk("state", container).ok().json()["status"] == "running"
            codes.append(result.rc)
        assert ctk("exec", container, "echo", "again").ok().out == "again\n"
        assert len(ctk("ps", "--format", "json", container).ok().json()) == 1  # its own program
    finally:
        ctk("delete", "--force", container)
    # 255: as runc for an exec that could not begin. 137: it was the program already, for all we know.
    assert {0, 255} <= set(codes) <= {0, 137, 255}, codes


def test_start_killed_at_every_step(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("echo hi")
    for point in range(1, MANY):
        container = ctk.id(f"start{point}-")
        ctk("create", container, cwd=str(busybox_bundle)).ok()
        result = killed_at(point, "parent", ["start", container], ctk, busybox_bundle)
        settled(ctk, container)
        wait_gone(container)
        works(ctk, container, busybox_bundle)
        if result.rc == 0:
            break
    assert 1 < point < MANY - 1


def test_delete_killed_at_every_step(ctk: Command, busybox_bundle: Bundle) -> None:
    for point in range(1, MANY):
        container = ctk.id(f"delete{point}-")
        busybox_bundle.sh("sleep 1000")
        ctk("run", "--detach", container, cwd=str(busybox_bundle)).ok()
        result = killed_at(point, "parent", ["delete", "--force", container], ctk, busybox_bundle)
        settled(ctk, container)
        wait_gone(container)
        busybox_bundle.sh("echo hi")
        works(ctk, container, busybox_bundle)
        if result.rc == 0:
            break
    assert 1 < point < MANY - 1


def test_exec_killed_leaves_the_container_running(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("sleep 1000")
    container = ctk.id()
    ctk("run", "--detach", container, cwd=str(busybox_bundle)).ok()
    try:
        for point in range(1, MANY):
            for side in ("parent", "child"):
                result = ctk("exec", container, "echo", "hi", env={"CTK_TEST_KILL": f"{side}:{point}"})
                assert ctk("state", container).ok().json()["status"] == "running"
            if result.rc == 0:
                break
        assert ctk("exec", container, "echo", "again").ok().out == "again\n"
        # Nothing but its program is in it.
        assert len(ctk("ps", "--format", "json", container).ok().json()) == 1
    finally:
        ctk("delete", "--force", container)
