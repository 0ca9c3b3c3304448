"""What strace sees of a container's process is what its program says, call by call and argument by argument."""

import errno
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fixtures.command import Bundle, Command, tool
from toolkit.kernel import libc
from toolkit.kernel.program.program import OWN

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

DATA = 0x1000  # where the data begins in the file
NAMES = {number: name for name, number in OWN.items()}


class Operation(NamedTuple):
    """One operation, as it is in the file."""

    number: int
    kinds: int
    exits: list[tuple[int, int]]
    arguments: list[int]


class Call(NamedTuple):
    """One traced call: its arguments as numbers, -1 for what strace did not print as one; its result or -errno."""

    name: str
    arguments: list[int]
    result: int
    text: str  # the first string among its arguments


def decoded(image: bytes) -> list[Operation]:
    """The operations of a sealed program, from its bytes."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    first, count, exits_at = (number(DATA + at, 4) for at in (8, 12, 16))
    operations = []
    for at in range(DATA + first, DATA + first + 64 * count, 64):
        places = range(number(at + 4, 2), number(at + 4, 2) + number(at + 6, 2))
        exits = [(number(DATA + exits_at + 4 * n, 2), number(DATA + exits_at + 4 * n + 2, 2)) for n in places]
        arguments = [number(at + 16 + 8 * n, 8) for n in range(6)]
        operations.append(Operation(number(at, 2), number(at + 2, 2), exits, arguments))
    return operations


def traced(text: str) -> dict[int, list[Call]]:
    """The calls of each process, from strace's output with raw arguments."""
    calls: dict[int, list[Call]] = {}
    begun: dict[int, str] = {}
    for line in text.splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[int(pid)] = rest.removesuffix("<unfinished ...>").strip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", rest):
            rest = begun.pop(int(pid)) + resumed[1]
        match = re.match(r"(\w+)\((.*)\)\s+= (\S+)(?: (E\w+))?", rest)
        if match is None:
            continue
        name, listed, result, error = match.groups()
        first = re.search(r'"((?:\\x[0-9a-f]{2})+)"', listed)
        text_ = bytes.fromhex(first[1].replace("\\x", "")).decode("latin-1") if first else ""
        words = re.sub(r'"[^"]*"(\.\.\.)?|\[.*?\]', "text", listed).split(", ")
        numbers = [int(word, 0) if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", word) else -1 for word in words if word]
        value = -getattr(errno, error) if error else int(result, 0) if result != "?" else 0
        calls.setdefault(int(pid), []).append(Call(name, numbers, value, text_))
    return calls


def programs(text: str) -> Iterator[list[Operation]]:
    """The sealed programs that were written, from strace's output with the strings in hexadecimal."""
    for match in re.finditer(r'write\(\d+, "((?:\\x[0-9a-f]{2})+)", \d+\)', text):
        data = bytes.fromhex(match[1].replace("\\x", ""))
        if data.startswith(b"\x7fELF"):
            yield decoded(data)


def ways(operations: list[Operation], at: int) -> Iterator[int]:
    """The operations that are system calls, or tell something, and can be next from `at`."""
    seen: set[int] = set()
    waiting = [at]
    while waiting:
        at = waiting.pop()
        if at in seen or at >= len(operations):
            continue
        seen.add(at)
        operation = operations[at]
        name = NAMES.get(operation.number)
        if name is None or name in ("warn", "fail"):
            yield at
        elif name == "go" and operation.kinds:
            # Back from a routine: to any place that was put into a cell.
            waiting += [each.arguments[0] for each in operations if NAMES.get(each.number) == "label"]
        elif name == "go":
            waiting.append(operation.arguments[0])
        else:
            waiting.append(at + 1)
            if name.startswith("if_"):
                waiting.append(operation.arguments[2])


def fits(operation: Operation, call: Call) -> bool:
    name = NAMES.get(operation.number)
    if name is not None:  # it tells a warning or a failure
        return call.name == "write" and call.arguments[2] == 12
    if libc.SYS.get(call.name) != operation.number:
        return False
    for index, traced_value in enumerate(call.arguments):
        if operation.kinds >> 2 * index & 3 or traced_value == -1:
            continue  # known only when it was carried out; or a string that strace shows
        wanted = operation.arguments[index]
        # strace shows what the kernel takes: the lower half of an int.
        if traced_value & 0xFFFFFFFF != wanted & 0xFFFFFFFF:
            return False
    return True


def follow(operations: list[Operation], calls: list[Call], starts: set[int]) -> tuple[list[Call], set[int]]:
    """(the calls up to the one that ends the program, where clones returned). Each call must be the program's next."""
    at = starts
    clones: set[int] = set()
    failed: set[int] = set()  # operations whose failure is told next
    for number, call in enumerate(calls):
        if failed:
            told = call.text.encode("latin-1")
            assert call.name == "write" and told[:1] == b"E" and int.from_bytes(told[4:8], "little") in failed, call
            assert [later.name for later in calls[number + 1 :]] in ([], ["exit_group"])  # it may be killed before
            return calls[: number + 1], clones
        matching = {each for start in at for each in ways(operations, start) if fits(operations[each], call)}
        before = calls[max(0, number - 3) : number]
        assert matching, f"call {number}, {call}, is not what the program says after {before}"
        if call.name in ("execve", "exit_group") and call.result >= 0:
            return calls[: number + 1], clones
        if any(NAMES.get(operations[each].number) == "fail" for each in matching):
            assert [later.name for later in calls[number + 1 :]] in ([], ["exit_group"])
            return calls[: number + 1], clones
        following: set[int] = set()
        for each in matching:
            operation = operations[each]
            if call.result < 0 and operation.number not in NAMES:
                taken = [to for error, to in operation.exits if error in (0, -call.result)]
                following.update(taken[:1])
                failed.update([] if taken else [each])
            else:
                following.add(each + 1)
            if call.name in ("clone3", "clone"):
                clones.add(each + 1)
        at = following
    return calls, clones


def check(text: str) -> list[Call]:
    """Follow the program in a trace; the calls of the process that became the user's, or failed to."""
    calls = traced(text)
    (operations,) = programs(text)
    (pid, first) = next(
        (pid, number + 1)
        for pid, listed in calls.items()
        for number, call in enumerate(listed)
        if call.result == 0 and (call.name == "execveat" or call.text.startswith("/proc/self/fd/"))
    )
    followed, clones = follow(operations, calls[pid][first:], {0})
    for call in followed:
        if call.name == "clone3" and call.result > 0:
            followed, _ = follow(operations, calls[call.result], clones)
    return followed


@pytest.fixture
def trace(ctk: Command, tmp_path: Path) -> Callable[..., str]:
    """Run a command of ctk under strace; its output."""

    def run(*words: str, **settings: Any) -> str:
        path = tmp_path / "trace"
        argv = [tool("strace"), "-f", "-o", str(path), "-xx", "-s", "4000000", "-e", "raw=!write,execve"]
        subprocess.run([*argv, *ctk.argv(*words)], env=ctk.environment, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, **settings)  # fmt: skip
        return path.read_text()

    return run


EXECS = {
    "as it comes": ([], "/bin/true"),
    "as a user": (["--user", "1000:100", "--additional-gids", "5"], "/bin/true"),
    "in a folder": (["--cwd", "/bin"], "true"),
    "with a capability": (["--cap", "CAP_SYS_ADMIN", "--no-new-privs"], "true"),
    "what is not there": ([], "/no/such"),
    "in no folder": (["--cwd", "/no/such"], "true"),
}


@pytest.mark.parametrize("case", EXECS)
def test_exec(case: str, trace: Callable[..., str], ctk: Command, busybox_bundle: Bundle) -> None:
    options, program = EXECS[case]
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    try:
        calls = check(trace("exec", *options, name, program))
    finally:
        ctk("delete", "--force", name)
    names = [call.name for call in calls]
    if case in ("what is not there", "in no folder"):
        assert names[-1] == "write" and "execve" not in names
    else:
        assert names[-1] == "execve" and calls[-1].text.endswith("true") and len(names) > 30
        assert {"setns", "setsid", "capset", "setresuid", "close_range"} <= set(names)


RUNS: dict[str, Callable[[Any], None]] = {
    "as it comes": lambda config: None,
    "as a user": lambda config: config["process"].update(user={"uid": 7, "gid": 8, "umask": 63}),
    "limits and an order": lambda config: config["process"].update(
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}], ioPriority={"class": "IOPRIO_CLASS_IDLE"}
    ),
    "a filter": lambda config: config["linux"].update(seccomp={"defaultAction": "SCMP_ACT_ALLOW"}),
    "no mounts": lambda config: config.update(mounts=[]),
    "few namespaces": lambda config: (
        config.pop("hostname"),
        config["linux"].update(namespaces=[{"type": "mount"}, {"type": "pid"}]),
    ),
    "no mount namespace": lambda config: (
        config.pop("hostname"),
        config.update(mounts=[]),
        config["linux"].update(namespaces=[{"type": "pid"}], maskedPaths=[], readonlyPaths=[]),
    ),
    "bind mounts": lambda config: config["mounts"].extend(
        [
            {"destination": "/new/folder", "source": "/etc", "type": "bind", "options": ["rbind", "ro", "rslave"]},
            {"destination": "/new/file", "source": "/etc/passwd", "options": ["bind", "rro"]},
        ]
    ),
    "a tmpfs that is read-only, and one over a folder": lambda config: config["mounts"].extend(
        [
            {"destination": "/bin2", "source": "tmpfs", "type": "tmpfs", "options": ["ro", "size=1m"]},
            {"destination": "/etc", "source": "tmpfs", "type": "tmpfs", "options": ["nosuid", "private"]},
        ]
    ),
    "two of one mqueue": lambda config: config["mounts"].append(
        {"destination": "/dev/mqueue", "source": "mqueue", "type": "mqueue", "options": ["ro"]}
    ),
    "a mount on what is refused": lambda config: config["mounts"].append(
        {"destination": "/proc/sys", "source": "tmpfs", "type": "tmpfs"}
    ),
    "a mount on what is not": lambda config: config["mounts"].append(
        {"destination": "/proc/cpuinfo", "source": "/etc/passwd", "options": ["bind"]}
    ),
    "devices": lambda config: config["linux"].update(
        devices=[
            {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "uid": 3, "fileMode": 384},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
            {"path": "/pipe", "type": "p"},
        ]
    ),
    "names and a sysctl": lambda config: (
        config.update(hostname="h", domainname="d"),
        config["linux"].update(sysctl={"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}),
    ),
    "a sysctl that the kernel does not take": lambda config: config["linux"].update(
        sysctl={"net.ipv4.ip_forward": "much"}
    ),
    "a working directory to be made": lambda config: config["process"].update(cwd="/a/b/c"),
    "a root that stays writable, shared": lambda config: (
        config["root"].update(readonly=False),
        config["linux"].update(rootfsPropagation="shared"),
    ),
    "a read-only root": lambda config: config["root"].update(readonly=True),
    "nothing masked": lambda config: config["linux"].update(maskedPaths=[], readonlyPaths=[]),
    "masks of what is there, and not": lambda config: config["linux"].update(
        maskedPaths=["/etc", "/bin/busybox2", "/etc/passwd", "/none/at/all"], readonlyPaths=["/bin", "/none"]
    ),
    "hooks": lambda config: config.update(
        hooks={
            "createRuntime": [{"path": "/bin/true"}],
            "createContainer": [{"path": "/bin/true", "timeout": 5}, {"path": "/bin/sh", "args": ["sh", "-c", ":"]}],
        }
    ),
    "a hook that fails": lambda config: config.update(hooks={"createContainer": [{"path": "/bin/false"}]}),
    "a mount that fails": lambda config: config["mounts"].append(
        {"destination": "/x", "source": "x", "type": "no-such-file-system"}
    ),
}
FAIL = {
    "a mount on what is refused",
    "a sysctl that the kernel does not take",
    "a hook that fails",
    "a mount that fails",
}


@pytest.mark.parametrize("case", RUNS)
def test_run(case: str, trace: Callable[..., str], ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.args("/bin/true").edit(RUNS[case])
    calls = check(trace("run", "--bundle", str(busybox_bundle), ctk.id()))
    names = [call.name for call in calls]
    if case in FAIL:
        assert names[-1] in ("write", "exit_group") and "execve" not in names
        return
    assert names[-1] == "execve" and calls[-1].text == "/bin/true"
    assert {"openat", "capset", "setresuid", "close_range"} <= set(names)
    assert ("pivot_root" in names) == (case != "no mount namespace")
    assert ("seccomp" in names) == (case == "a filter")
