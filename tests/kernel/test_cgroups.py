"""Cgroups on this host, whatever its layout: what the kernel does to a process under a limit, not what was written."""

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fixtures.leaks import TAG
from tests.fixtures.waiting import until
from toolkit.errors import CtkError, InUse, Invalid, NotFound, SystemCall
from toolkit.runtime import cgroups, lifecycle, removal
from toolkit.runtime.cgroups import files, layout
from toolkit.runtime.record import Record

pytestmark = pytest.mark.root

MB = 1 << 20
DENY_ALL = [{"allow": False, "access": "rwm"}]
V2 = layout.is_v2(layout.hierarchies())


def folders(manager: Any) -> list[str]:
    return [manager.path] if manager.unified else list(manager.paths.values())


def file_of(manager: Any, controller: str, v1: str, v2: str) -> str:
    return manager._folder(controller) + "/" + (v2 if manager.unified else v1)


class Group:
    """A container's cgroup with processes of the test in it."""

    def __init__(self, name: str) -> None:
        self.path = "/" + name
        self.manager: Any = cgroups.manager(self.path, name)
        self.manager.create()
        self.children: list[int] = []

    def spawn(self, body: Callable[[], object], resources: Any = None, devices: Any = None) -> int:
        """Run `body` in the cgroup, limited; its result is the exit status."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.close(write)
                os.read(read, 1)
                status = int(body() or 0)  # type: ignore[call-overload]
            finally:
                os._exit(status)
        os.close(read)
        self.children.append(pid)
        self.manager.join(pid)
        self.manager.apply(resources)
        if devices is not None:
            self.manager.apply_devices(devices)
        os.write(write, b"x")
        os.close(write)
        return pid

    def wait(self, pid: int) -> int:
        self.children.remove(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def run(self, body: Callable[[], object], resources: Any = None, devices: Any = None) -> int:
        return self.wait(self.spawn(body, resources, devices))

    def close(self) -> None:
        self.manager.kill()
        for pid in list(self.children):
            self.wait(pid)
        self.manager.delete()


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    made = Group(f"{TAG}-{request.node.name[5:25]}")
    yield made
    made.close()


def sleep() -> None:
    time.sleep(60)


def spin() -> None:
    while True:
        pass


def cpu_ticks(pid: int) -> int:
    words = files.get(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def test_a_process_is_in_every_hierarchy_and_none_is_left(group: Group) -> None:
    pid = group.spawn(sleep)
    own = layout.own(files.get(f"/proc/{pid}/cgroup"))
    assert {key for key, path in own.items() if path.endswith(group.path)} >= ({""} if V2 else set(group.manager.paths))
    assert group.manager.pids() == [pid]
    assert cgroups.from_facts(json.loads(json.dumps(group.manager.facts()))).pids() == [pid]
    group.manager.kill()
    assert group.wait(pid) == -9
    group.manager.delete()
    assert [path for path in folders(group.manager) if os.path.exists(path)] == []


def test_forks_beyond_the_limit_are_refused(group: Group) -> None:
    def fork_on() -> int:
        for count in range(20):
            try:
                if os.fork() == 0:
                    sleep()
            except BlockingIOError:
                return count
        return 77

    assert group.run(fork_on, {"pids": {"limit": 5}}) == 4


def test_memory_beyond_the_limit_is_a_kill_that_is_counted(group: Group) -> None:
    def eat() -> None:
        held = []
        for _ in range(100):
            held.append(bytearray(MB))

    assert group.run(eat, {"memory": {"limit": 40 * MB, "swap": 40 * MB}}) == -9
    assert group.manager.oom_kills() == 1


def test_a_cpu_quota_throttles(group: Group) -> None:
    pid = group.spawn(spin, {"cpu": {"quota": 1000, "period": 50000}})
    until(lambda: group.manager.stats()["cpu"].get("throttling", {}).get("throttledPeriods", 0) >= 3, "throttling")
    until(lambda: group.manager.stats()["memory"].get("usage", {}).get("usage", 0) > 0, "memory in use")
    stats = group.manager.stats()
    assert stats["pids"]["current"] == 1
    assert stats["cpu"]["usage"]["total"] > 0
    assert pid in group.manager.pids()


def test_frozen_processes_stand_still_until_thawed(group: Group) -> None:
    pid = group.spawn(spin)
    until(lambda: cpu_ticks(pid) > 2, "its first ticks")
    group.manager.freeze()
    assert group.manager.frozen()
    before = cpu_ticks(pid)
    time.sleep(0.2)
    assert cpu_ticks(pid) == before
    group.manager.thaw()
    assert not group.manager.frozen()
    until(lambda: cpu_ticks(pid) > before + 2, "more ticks")


def test_kill_ends_all_that_is_frozen(group: Group) -> None:
    def brood() -> None:
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                sleep()
        sleep()

    pid = group.spawn(brood)
    until(lambda: len(group.manager.pids()) == 6, "six processes")
    group.manager.freeze()
    group.manager.kill()
    assert group.wait(pid) == -9
    until(lambda: group.manager.pids() == [], "the end of all")


def test_a_frozen_cgroup_that_is_gone_needs_no_thawing(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    # systemd removes the scope of a container that we have just killed, while `delete --force` is about to thaw it.
    facts = group.manager.facts()
    group.manager.delete()
    monkeypatch.setattr(lifecycle, "frozen", lambda _: True)  # as it was found a moment before
    record = Record("/nowhere", "gone")
    record.cgroups = facts
    removal.thaw(record)
    with pytest.raises(SystemCall):
        group.manager.thaw()  # `resume` says so


def open_error(path: str, flags: int) -> int:
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.fixture
def kmsg(tmp_path: Any) -> str:
    """A node of the kernel's log, which no default rule allows. Our own: a container's /dev may have none."""
    path = str(tmp_path / "kmsg")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 11))
    if error := open_error(path, os.O_RDONLY | os.O_NONBLOCK):
        pytest.skip(f"where these tests run, the kernel's log can't be opened: {os.strerror(error)}")
    return path


def test_devices_are_denied_but_for_the_rules(group: Group, kmsg: str, tmp_path: Any) -> None:
    made, zero = str(tmp_path / "made"), str(tmp_path / "zero")

    def look() -> int:
        os.mknod(made, 0o600 | stat.S_IFCHR, os.makedev(1, 11))  # making any node is allowed, as with runc
        os.mknod(zero, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        denied = open_error(made, os.O_RDONLY) == open_error(kmsg, os.O_RDONLY) == errno.EPERM
        return int(denied and open_error(zero, os.O_RDWR) == 0 and open_error("/dev/null", os.O_RDWR) == 0)

    assert group.run(look, devices=DENY_ALL) == 1

    def reread() -> int:
        return open_error(kmsg, os.O_RDONLY | os.O_NONBLOCK)

    def rewrite() -> int:
        return open_error(kmsg, os.O_WRONLY)

    group.manager.update({"devices": [*DENY_ALL, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]})
    assert group.run(reread) == 0
    assert group.run(rewrite) == errno.EPERM
    group.manager.update({"devices": DENY_ALL})
    assert group.run(reread) == errno.EPERM


def test_deny_rules_under_allow_all(group: Group, kmsg: str) -> None:
    rules = [{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"}]

    def look() -> int:
        return (
            open_error(kmsg, os.O_RDONLY | os.O_NONBLOCK) * 4
            + (open_error(kmsg, os.O_WRONLY) != errno.EPERM) * 2
            + (open_error(kmsg, os.O_RDWR) != errno.EPERM)
        )

    assert group.run(look, devices=rules) == 0


def test_limits_go_up_and_down(group: Group) -> None:
    """v1 takes memory and memory+swap in one order when they grow and in the other when they shrink."""
    group.spawn(sleep)
    limit = file_of(group.manager, "memory", "memory.limit_in_bytes", "memory.max")
    for size in (64, 256, 32, 128):
        group.manager.update({"memory": {"limit": size * MB, "swap": size * MB}})
        assert int(files.get(limit)) == size * MB
    group.manager.update({"memory": {"limit": -1}})
    assert files.get(limit).strip() in ("max", str((1 << 63) - os.sysconf("SC_PAGE_SIZE")))


def test_a_memory_limit_below_what_is_in_use_is_refused(group: Group) -> None:
    def hold() -> None:
        held = bytearray(os.urandom(1024)) * (60 * 1024)
        time.sleep(60 + len(held) * 0)

    group.spawn(hold, {"memory": {"limit": 200 * MB, "swap": 200 * MB}})
    usage = file_of(group.manager, "memory", "memory.usage_in_bytes", "memory.current")
    until(lambda: int(files.get(usage)) > 55 * MB, "55 MB in use")
    with pytest.raises(Invalid, match=r"unable to set memory limit to|rejecting memory limit") as caught:
        group.manager.update({"memory": {"limit": 20 * MB, "checkBeforeUpdate": True}})
    assert caught.value.path == "linux.resources.memory.limit"


def test_what_the_kernel_does_not_take_is_told_with_the_call(group: Group) -> None:
    with pytest.raises(CtkError, match=r'write\("/.*cpuset.cpus", "4000"\): '):
        group.manager.apply({"cpu": {"cpus": "4000"}})


def test_a_cgroup_in_use_is_refused_and_nothing_is_made(group: Group) -> None:
    pid = group.spawn(sleep)
    with pytest.raises(InUse, match=f"not empty: 1 process.*{pid} "):
        cgroups.manager(group.path, "other")
    assert group.manager.pids() == [pid]


@pytest.mark.skipif(V2, reason="one hierarchy only: covered by the test before")
def test_one_hierarchy_in_use_leaves_no_cgroup_in_the_others(group: Group) -> None:
    pid = group.spawn(sleep)
    name = group.path + "-b"
    other: Any = cgroups.manager(name, "other")
    taken = other.paths["pids"]
    os.mkdir(taken)
    try:
        files.join(taken, pid)
        others = [path for path in folders(other) if path != taken]
        with pytest.raises(InUse):
            other.create()
        assert [path for path in others if os.path.exists(path)] == []
        other.kill()  # must not reach the process, which is not ours
        other.delete()
        assert os.path.isdir(taken) and os.kill(pid, 0) is None
    finally:
        files.join(group.manager.paths["pids"], pid)
        os.rmdir(taken)


def test_an_empty_cgroup_is_taken_over_a_frozen_one_refused(group: Group) -> None:
    again: Any = cgroups.manager(group.path, "again")
    again.create()
    group.manager.freeze()
    third: Any = cgroups.manager(group.path, "third")
    with pytest.raises(InUse, match="unexpectedly frozen"):
        third.create()
    group.manager.thaw()


def test_what_stays_is_named(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = group.spawn(sleep)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    with pytest.raises(CtkError, match=rf"remove cgroup.*{group.path}.*busy: it has processes {pid} \(") as caught:
        group.manager.delete()
    assert caught.value.hint
    assert group.manager.pids() == [pid]


def test_cgroups_made_inside_go_too(group: Group) -> None:
    for path in folders(group.manager):
        os.makedirs(path + "/inner/most")
    group.manager.delete()
    assert [path for path in folders(group.manager) if os.path.exists(path)] == []


def test_exec_joins_a_part_and_only_below(group: Group) -> None:
    for path in folders(group.manager):
        os.mkdir(path + "/part")
    pid = group.spawn(sleep)
    if not V2:
        with pytest.raises(CtkError) as caught:
            group.manager.join_sub(pid, ["cpuset:part"])
        assert "cpuset.cpus" in caught.value.hint
        assert f"error adding pid {pid} to cgroups: write(" in str(caught.value)
        for name in ("cpuset.cpus", "cpuset.mems"):
            files.put(
                f"{group.manager.paths['cpuset']}/part/{name}", files.get(f"{group.manager.paths['cpuset']}/{name}")
            )
    group.manager.join_sub(pid, ["/part"])
    own = layout.own(files.get(f"/proc/{pid}/cgroup"))
    assert own["" if V2 else "devices"].endswith(group.path + "/part")
    if not V2:
        group.manager.join_sub(pid, ["pids,freezer:part"])
        own = layout.own(files.get(f"/proc/{pid}/cgroup"))
        assert own["pids"].endswith("/part") and own["freezer"].endswith("/part")
        assert own["devices"].endswith(group.path)
    for bad in ("../other", "part/../../x"):
        with pytest.raises(CtkError, match="bad sub cgroup path"):
            group.manager.join_sub(pid, [bad])
    inner = group.manager.freezer_folder() + "/part"
    file, frozen, thawed = ("cgroup.freeze", "1", "0") if V2 else ("freezer.state", "FROZEN", "THAWED")
    group.manager.join_sub(pid, [])
    files.put(f"{inner}/{file}", frozen)
    with pytest.raises(CtkError, match="is frozen"):  # who joins it would never get to run
        group.manager.join_sub(pid, ["part"])
    group.manager.join_sub(pid, [])
    files.put(f"{inner}/{file}", thawed)
    with pytest.raises(NotFound, match=f"adding pid {pid} to cgroups: .*no such file or directory"):
        group.manager.join_sub(pid, ["absent"])
    with pytest.raises(CtkError, match="bad sub cgroup path" if V2 else "unknown controller"):
        group.manager.join_sub(pid, ["nothing:part"])
    assert group.manager.pids() == [pid]


def test_nested_paths_work_though_the_parents_are_new() -> None:
    """On v1 a cpuset takes no process until it has CPUs and memory nodes, and a new one has none."""
    outer = f"{TAG}-outer"
    made = Group(outer + "/middle/inner")
    try:
        assert made.run(lambda: 5) == 5
    finally:
        made.close()
        for path in folders(made.manager):
            above = path.rpartition("/")[0]
            os.rmdir(above)
            os.rmdir(above.rpartition("/")[0])


def test_a_child_joins_its_cgroups_by_itself(group: Group) -> None:
    from toolkit.kernel import process

    entry = group.manager.entry()
    assert entry is not None
    pid, _ = process.clone3(0, cgroup_fd=entry.fd)
    if pid == 0:
        entry.enter()
        own = layout.own(files.get("/proc/self/cgroup"))
        os._exit(int(not all(own[key].endswith(group.path) for key in group.manager.folders())))
    entry.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_cgroup_that_is_gone_has_no_entry(group: Group) -> None:
    group.manager.delete()
    assert group.manager.entry() is None


@pytest.mark.skipif(not V2, reason="v1 has files, not programs")
def test_an_update_replaces_the_device_program(group: Group) -> None:
    from toolkit.kernel import bpf

    fd = os.open(group.manager.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        group.manager.apply_devices(DENY_ALL)
        (first,) = bpf.attached(fd)
        group.manager.update({"devices": DENY_ALL})
        (second,) = bpf.attached(fd)
        assert first != second
    finally:
        os.close(fd)


def as_nobody(body: Callable[[], str]) -> str:
    """What `body` gives when it runs as a user to whom nothing is delegated."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(write, body().encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return told


def test_a_user_without_cgroups_goes_without_unless_limits_are_asked_for() -> None:
    def without() -> str:
        manager: Any = cgroups.manager(None, TAG + "-nobody", rootless=True)
        manager.create()
        manager.join(os.getpid())
        manager.apply({"devices": DENY_ALL})
        manager.apply_devices(DENY_ALL)
        told = repr(manager.pids())
        try:
            manager.apply({"pids": {"limit": 5}})
        except CtkError as error:
            told += f" {error} ({error.hint})"
        manager.kill()
        manager.delete()
        return told

    told = as_nobody(without)
    assert told.startswith("[] ")
    assert ("no permission is granted for cgroups" if V2 else "cannot set pids limit") in told


def test_a_user_who_names_a_cgroup_that_is_not_his_is_refused() -> None:
    def named() -> str:
        manager: Any = cgroups.manager(f"/{TAG}-nobody", "x", rootless=True)
        try:
            manager.create()
        except CtkError as error:
            return f"{error} ({error.hint})"
        return "made"

    told = as_nobody(named)
    assert f"{TAG}-nobody" in told and "permission denied" in told and "(" in told
