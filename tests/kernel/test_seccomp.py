"""The kernel executes our filters: each case in a forked child, whose calls then meet them."""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.profiles import PODMAN, SETS, allow, engine_profile, profile_of, when
from toolkit.errors import SystemCall
from toolkit.kernel import libc, process, seccomp
from toolkit.kernel.libc import MACHINE
from toolkit.runtime.seccomp import compiler, profile

pytestmark = pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="the last step knows these two only")

LIBC = ctypes.CDLL(None, use_errno=True)
GETPID = {"x86_64": 39, "aarch64": 172}[MACHINE]
SOCKET = {"x86_64": 41, "aarch64": 198}[MACHINE]
MKDIRAT = {"x86_64": 258, "aarch64": 34}[MACHINE]


def call(number: int, *arguments: int) -> int:
    """A raw system call: its result, or minus its errno."""
    result: int = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_ulong(value) for value in arguments))
    return -ctypes.get_errno() if result == -1 else result


def under(document: dict[str, Any], act: "Callable[[], object]") -> "tuple[object, int]":
    """What `act` gave in a child under the filter (None if it did not come back), and the child's wait status."""
    code, flags = compiler.compiled(document, MACHINE)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.install(code, flags)
            os.write(write, repr(act()).encode())
        except BaseException as error:
            os.write(write, repr(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(write)
    told = b""
    while chunk := os.read(read, 65536):
        told += chunk
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    return (eval(told) if told else None), status


def denied(number: "str", action: str, **more: Any) -> dict[str, Any]:
    return profile_of({"names": [number], "action": action, **more}, default="SCMP_ACT_ALLOW")


@pytest.mark.parametrize(("more", "want"), [({}, errno.EPERM), ({"errnoRet": 0}, 0), ({"errnoRet": 71}, 71)])
def test_errno(more: dict[str, int], want: int) -> None:
    assert under(denied("getpid", "SCMP_ACT_ERRNO", **more), lambda: call(GETPID)) == (-want, 0)


@pytest.mark.parametrize(
    ("action", "number"),
    [("KILL", signal.SIGSYS), ("KILL_THREAD", signal.SIGSYS), ("KILL_PROCESS", signal.SIGSYS), ("TRAP", signal.SIGSYS)],
)
def test_fatal_actions(action: str, number: int) -> None:
    said, status = under(denied("getpid", f"SCMP_ACT_{action}"), lambda: call(GETPID))
    assert said is None and os.WTERMSIG(status) == number


def test_log_lets_pass_and_trace_without_a_tracer_is_enosys() -> None:
    said, _ = under(denied("getpid", "SCMP_ACT_LOG"), lambda: call(GETPID))
    assert isinstance(said, int) and said > 0
    assert under(denied("getpid", "SCMP_ACT_TRACE"), lambda: call(GETPID)) == (-errno.ENOSYS, 0)


def test_conditions_bite_with_all_their_bits() -> None:
    document = profile_of(
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 97,
            "args": [when(0, "EQ", 16), when(2, "EQ", 9)],
        },
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [when(0, "GE", 1 << 32)]},
        default="SCMP_ACT_ALLOW",
    )

    def families() -> list[int]:
        tried = [(16, 3, 9), (16, 3, 0), (2, 3, 9), (1 << 32 | 1, 1, 0)]
        return [min(call(SOCKET, *arguments), 0) for arguments in tried]

    assert under(document, families) == ([-97, 0, 0, -13], 0)


def test_call_that_nobody_knows_is_enosys() -> None:
    document = engine_profile(PODMAN, SETS["plain"], {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE])
    document["defaultErrnoRet"] = 1
    document["syscalls"] = [entry for entry in document["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW"]
    bpf = libc.number("bpf")
    assert under(document, lambda: [call(9999), call(bpf)]) == ([-38, -1], 0)


def test_python_itself_runs_under_an_engines_profile() -> None:
    document = engine_profile(PODMAN, SETS["plain"], {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE])
    said, status = under(document, lambda: os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", "import json"]))
    assert (said, status) == (0, 0)


@pytest.mark.skipif(MACHINE != "x86_64", reason="x32 is x86-64's")
def test_x32_does_not_get_in() -> None:
    said, status = under(denied("mount", "SCMP_ACT_ERRNO"), lambda: call(0x40000000 | GETPID))
    assert said is None and os.WTERMSIG(status) == signal.SIGSYS


def test_listener_is_asked() -> None:
    document = denied("mkdirat", "SCMP_ACT_NOTIFY") | {"listenerPath": "/run/agent"}
    code, flags = compiler.compiled(document, MACHINE)
    assert flags & seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER
    pid = os.fork()
    if pid == 0:
        try:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            listener = seccomp.install(code, flags)
            os._exit(0 if os.readlink(f"/proc/self/fd/{listener}") == "anon_inode:seccomp notify" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_without_privilege_the_error_names_the_call() -> None:
    code, _ = compiler.compiled(profile_of(default="SCMP_ACT_ALLOW"), MACHINE)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            try:
                seccomp.install(code, seccomp.SECCOMP_FILTER_FLAG_LOG)
            except SystemCall as error:
                wanted = "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, {len="
                os._exit(0 if error.errno == errno.EACCES and str(error).startswith(wanted) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("broken", [b"", b"\x06\0\0\0\0\0\0", b"\x05\0\0\0\x09\0\0\0" + b"\x06\0\0\0\0\0\xff\x7f"])
def test_kernel_refuses_what_is_no_program(broken: bytes) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.install(broken)
        except SystemCall as error:
            os._exit(0 if error.errno == errno.EINVAL else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_kernel_takes_every_flag_and_action_that_we_know() -> None:
    flags = seccomp.available_flags()
    with open("/proc/sys/kernel/seccomp/actions_avail") as file:
        assert seccomp.available_actions() == tuple(file.read().split())
    assert flags & 0b1111 == 0b1111
    words = {"SCMP_ACT_NOTIFY": "user_notif", "SCMP_ACT_KILL": "kill_thread"}
    mine = {words.get(name, name.removeprefix("SCMP_ACT_").lower()) for name in profile.ACTIONS}
    assert mine <= set(seccomp.available_actions())


def test_biggest_program_is_taken_by_the_kernel() -> None:
    entries = [allow("mkdirat", args=[when(2, "EQ", value)]) for value in range(800)]
    code, _ = compiler.compiled(profile_of(*entries, default="SCMP_ACT_LOG"), MACHINE)
    assert 3900 < len(code) // 8 <= 4096
    entries = [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [when(2, "EQ", 3)]}]
    assert under(profile_of(*entries, default="SCMP_ACT_ALLOW"), lambda: call(MKDIRAT, 0, 0, 3)) == (-7, 0)
