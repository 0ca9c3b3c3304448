"""seccomp in a container, from config.json to what a program inside is told (S16, S41)."""

import json
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.profiles import PODMAN, SETS, allow, engine_profile, when
from tests.security.conftest import run, running

pytestmark = pytest.mark.root

X86 = os.uname().machine == "x86_64"
NUMBERS = {
    "x86_64": {"socket": 41, "mount": 165, "clone3": 435, "bpf": 321, "getpid": 39, "mkdirat": 258, "swapon": 167},
    "aarch64": {"socket": 198, "mount": 40, "clone3": 435, "bpf": 280, "getpid": 172, "mkdirat": 34, "swapon": 224},
}[os.uname().machine]
ENGINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def filtered(bundle: Bundle, probe: Path, seccomp: dict[str, Any], *calls: "list[Any]", narrow: bool = False) -> Bundle:
    """The bundle's program makes `calls`, each a number and its arguments, under the profile."""
    shutil.copy(probe, bundle.rootfs / "bin/probe")
    words = ["/bin/probe", *(["-32"] if narrow else [])]
    for number, one in enumerate(calls):
        words += [*([","] if number else []), *map(str, one)]
    return bundle.args(*words).edit(lambda config: config["linux"].update(seccomp=seccomp))


def answers(ctk: Command, bundle: Bundle) -> list[int]:
    return [int(line) for line in run(ctk, bundle).ok().out.split()]


def docker_like() -> dict[str, Any]:
    """An engine's default with EPERM as its default, clone3 as ENOSYS, and `socket` without AF_ALG and vsock."""
    profile = engine_profile(PODMAN, SETS["plain"], ENGINE)
    names = ("socket", "socketcall", "clone3", "swapon", "bpf", "mount")
    kept = [entry for entry in profile["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW"]
    for entry in kept:
        entry["names"] = [name for name in entry["names"] if name not in names]
    ranges = [when(0, "LT", 38), when(0, "EQ", 39), when(0, "GT", 40)]
    profile["syscalls"] = [entry for entry in kept if entry["names"]]
    profile["syscalls"] += [allow("socket", args=[condition]) for condition in ranges]
    profile["syscalls"].append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38})
    del profile["defaultErrnoRet"]
    return profile


@pytest.mark.parametrize("privileged", [False, True])
def test_s41_unknown_calls_and_errnos(privileged: bool, bundle: Bundle, ctk: Command, probe: Path) -> None:
    calls = [[9999], [NUMBERS["swapon"]], [NUMBERS["clone3"]], [NUMBERS["bpf"]], [NUMBERS["getpid"]]]
    filtered(bundle, probe, docker_like(), *calls)
    bundle.edit(lambda config: config["process"].update(noNewPrivileges=not privileged))
    assert answers(ctk, bundle) == [-38, -1, -38, -1, 1]


def test_s41_runc_as_the_reference(bundle: Bundle, runc: Command, ctk: Command, probe: Path) -> None:
    calls = [[9999], [NUMBERS["swapon"]], [NUMBERS["clone3"]], [NUMBERS["socket"], 38, 5, 0], [NUMBERS["getpid"]]]
    filtered(bundle, probe, docker_like(), *calls)
    assert answers(runc, bundle) == answers(ctk, bundle) == [-38, -1, -38, -1, 1]


def test_s16_address_families_are_a_range(bundle: Bundle, ctk: Command, probe: Path) -> None:
    families = (38, 40, 1 << 32 | 38, 2, 1)
    filtered(bundle, probe, docker_like(), *([NUMBERS["socket"], family, 1, 0] for family in families))
    found = answers(ctk, bundle)
    assert found[:2] == [-1, -1] and all(number >= 0 for number in found[3:])
    assert found[2] < 0  # above 40, so the filter lets it pass; the kernel cuts it to 38 or refuses it


@pytest.mark.skipif(not X86, reason="socketcall, int 0x80 and x32 are x86's")
def test_s16_no_way_round_by_the_other_interfaces(bundle: Bundle, ctk: Command, runc: Command, probe: Path) -> None:
    filtered(bundle, probe, docker_like(), [102, 1, 0], [359, 38, 5, 0], [359, 40, 1, 0], [20], narrow=True)
    assert answers(ctk, bundle) == [-1, -1, -1, 1]
    # libseccomp, and so runc, lets socketcall(SYS_SOCKET) through to the kernel: EFAULT for the null pointer.
    assert answers(runc, bundle)[0] == -14
    x32 = 0x40000000
    found = answers(ctk, filtered(bundle, probe, docker_like(), [x32 | 41, 38, 5, 0], [x32 | 41, 2, 1, 0]))
    assert found[0] == -1


@pytest.mark.skipif(not X86, reason="x32 is x86's")
def test_s16_architectures_that_are_not_named_are_killed(bundle: Bundle, ctk: Command, probe: Path) -> None:
    profile = docker_like() | {"architectures": ["SCMP_ARCH_X86_64"]}
    assert run(ctk, filtered(bundle, probe, profile, [20], narrow=True)).rc == 128 + 31


@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_filter_holds_for_every_process(
    verb: str, no_new_privileges: bool, bundle: Bundle, ctk: Command, probe: Path
) -> None:
    profile = docker_like()
    bundle.edit(lambda config: config["process"].update(noNewPrivileges=no_new_privileges))
    calls = [str(NUMBERS["bpf"]), ",", "9999"]
    filtered(bundle, probe, profile, [NUMBERS["bpf"]], [9999])
    if verb == "run":
        assert answers(ctk, bundle) == [-1, -38]
        return
    with running(ctk, bundle.sh("sleep 1000")) as name:
        assert ctk("exec", name, "/bin/probe", *calls).ok().out.split() == ["-1", "-38"]
        assert ctk("exec", name, "grep", "Seccomp:", "/proc/self/status").ok().out.split()[1] == "2"


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_profile_of_the_fewest_calls(
    no_new_privileges: bool, uid: int, bundle: Bundle, ctk: Command, probe: Path
) -> None:
    """After the filter is loaded we need execve(2), and capset(2) without no_new_privs: then it is loaded before the
    privilege to load it is given up. (`read` is for `start`.) runc needs some twenty more."""
    ours = ["execve", "read", "close"] if no_new_privileges else ["execve", "read", "close", "capset"]
    profile = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [allow("write", "exit_group", "getpid", *ours), allow("cachestat")],
    }
    filtered(bundle, probe, profile, [NUMBERS["getpid"]])

    def change(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = no_new_privileges
        config["process"]["user"] = {"uid": uid, "gid": uid}
        config["process"]["capabilities"] = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]}

    assert answers(ctk, bundle.edit(change)) == [1]
    with running(ctk, bundle, created=True) as name:
        ctk("start", name).ok()


def test_the_privilege_to_load_the_filter_is_gone_afterwards(bundle: Bundle, ctk: Command) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = False
        config["linux"]["seccomp"] = docker_like()

    shell = "grep -E '^Cap(Prm|Eff|Inh|Amb)' /proc/self/status"
    for uid in (0, 1000):
        bundle.edit(change).edit(lambda config, uid=uid: config["process"].update(user={"uid": uid, "gid": uid}))
        masks = [int(line.split()[1], 16) for line in run(ctk, bundle.sh(shell)).ok().out.splitlines()]
        assert len(masks) == 4 and not any(mask >> 21 & 1 for mask in masks)  # CAP_SYS_ADMIN


def test_a_wrong_profile_is_told_with_its_place(bundle: Bundle, ctk: Command) -> None:
    bundle.edit(lambda config: config["linux"].update(seccomp={"defaultAction": "SCMP_ACT_MAYBE"}))
    result = run(ctk, bundle)
    assert result.rc == 1 and "linux.seccomp.defaultAction" in result.err


def test_agent_gets_the_descriptor(bundle: Bundle, ctk: Command, probe: Path) -> None:
    """runtime-spec, "The Container Process State": one connection, the state as JSON, the descriptor beside it."""
    path = str(bundle.path / "agent")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(1)
    server.settimeout(20)
    got: dict[str, Any] = {}

    def agent() -> None:
        connection, _ = server.accept()
        with connection:
            text, fds, _, _ = socket.recv_fds(connection, 65536, 4)
            while more := connection.recv(65536):
                text += more
        got["state"] = json.loads(text)
        got["kinds"] = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
        for fd in fds:
            os.close(fd)  # nobody answers: the call ends with ENOSYS

    thread = threading.Thread(target=agent)
    thread.start()
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "hello",
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    }
    filtered(bundle, probe, profile, [NUMBERS["getpid"]], [NUMBERS["mkdirat"], -100, 0, 0])
    found = answers(ctk, bundle)
    thread.join(20)
    server.close()
    assert found == [1, -38]
    state = got["state"]
    assert got["kinds"] == ["anon_inode:seccomp notify"] and state["fds"] == ["seccompFd"]
    assert state["metadata"] == "hello" and state["pid"] > 0 and state["state"]["status"] == "creating"
    assert state["state"]["bundle"] == str(bundle)


def test_agent_that_is_not_there(bundle: Bundle, ctk: Command) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(bundle.path / "nobody"),
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    }
    bundle.edit(lambda config: config["linux"].update(seccomp=profile))
    result = run(ctk, bundle.sh("echo started"))
    assert result.rc == 1 and "started" not in result.out and "nobody" in result.err
