"""The seccomp compiler: what the standard and runc ask for, what it refuses, its tables and its cache.

The programs are executed by a machine for BPF (tests/fixtures/bpf.py), so all architectures are tried on any host;
tests/kernel/test_seccomp.py has the kernel execute some, tests/oracle/test_libseccomp.py compares with libseccomp.
"""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.bpf import AUDIT, Machine
from tests.fixtures.profiles import (
    ALLOW,
    ENOSYS,
    KILL,
    PODMAN,
    SETS,
    X32,
    X86,
    X86_64,
    allow,
    compiled,
    engine_profile,
    profile_of,
    when,
)
from toolkit.errors import HostLacks, Invalid
from toolkit.kernel import libc, seccomp_noop
from toolkit.kernel import seccomp as kernel
from toolkit.runtime import seccomp
from toolkit.runtime.seccomp import compiler


def test_an_engines_profile_is_cheap_at_run_time() -> None:
    machine = compiled(engine_profile(PODMAN, SETS["plain"]))
    steps = [machine.trace(AUDIT[X86_64], number)[1] for number in range(450)]
    assert max(steps) < 40 and sum(steps) / len(steps) < 20


def test_loads_of_arguments_come_last() -> None:
    """The kernel answers allowed calls without running the program if it never reads an argument on their way."""
    machine = compiled(engine_profile(PODMAN, SETS["plain"]))
    at = {"read": 0, "openat": 257, "futex": 202, "execve": 59}
    for number in at.values():
        step = 0
        while machine.code[step][0] != 0x06:
            operation, true, false, k = machine.code[step]
            assert not (operation == 0x20 and k >= 16)
            a = AUDIT[X86_64] if step < 2 else number
            if operation in (0x15, 0x35):
                step += true if (a == k if operation == 0x15 else a >= k) else false
            step += 1 + (k if operation == 0x05 else 0)
        assert machine.code[step][3] == ALLOW


# --- what the standard and runc ask for ------------------------------------------------------------------------------


def test_calls_newer_than_the_profile_get_enosys() -> None:
    machine = compiled(profile_of(allow("read", "faccessat2")))  # 439
    assert machine.run(AUDIT[X86_64], 0) == ALLOW
    assert machine.run(AUDIT[X86_64], 435) == 0x50001  # clone3: known, not named
    for number in (440, 9999, 0x3FFFFFFF):
        assert machine.run(AUDIT[X86_64], number) == ENOSYS


@pytest.mark.parametrize(("default", "newer"), [("ALLOW", ALLOW), ("LOG", 0x7FFC0000), ("TRACE", 0x7FF00001)])
def test_permissive_default_lets_newer_calls_pass(default: str, newer: int) -> None:
    machine = compiled(profile_of({"names": ["mount"], "action": "SCMP_ACT_ERRNO"}, default=f"SCMP_ACT_{default}"))
    assert machine.run(AUDIT[X86_64], 9999) == newer
    assert machine.run(AUDIT[X86_64], 165) == 0x50001


@pytest.mark.parametrize("default", ["KILL", "KILL_PROCESS", "TRAP", "ERRNO"])
def test_strict_default_answers_newer_calls_with_enosys(default: str) -> None:
    assert compiled(profile_of(allow("read"), default=f"SCMP_ACT_{default}")).run(AUDIT[X86_64], 9999) == ENOSYS


def test_profile_that_names_nothing_has_no_newest_call() -> None:
    assert compiled(profile_of()).run(AUDIT[X86_64], 9999) == 0x50001


def test_unknown_names_are_ignored() -> None:
    machine = compiled(profile_of(allow("read", "frobnicate", "arm_fadvise64_64")))
    assert (machine.run(AUDIT[X86_64], 0), machine.run(AUDIT[X86_64], 1)) == (ALLOW, ENOSYS)


def test_errno_defaults_to_eperm_and_is_honoured() -> None:
    clone3 = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    kexec = {"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}
    machine = compiled(profile_of(allow("openat2"), clone3, kexec, defaultErrnoRet=13))
    assert [machine.run(AUDIT[X86_64], n) for n in (435, 246, 165)] == [0x50026, 0x50001, 0x5000D]


def test_only_the_named_architectures_get_in() -> None:
    native = compiled(profile_of(allow("getpid")))
    assert native.run(AUDIT[X86_64], 39) == ALLOW
    assert native.run(AUDIT[X86], 20) == KILL
    assert native.run(AUDIT[X32], 0x40000000 | 39) == KILL
    assert native.run(AUDIT[X86_64], -1) == 0x50001  # what a tracer leaves of a call that it cancelled
    both = compiled(profile_of(allow("getpid"), architectures=[X86, X32]))
    assert [both.run(AUDIT[a], n) for a, n in ((X86_64, 39), (X86, 20), (X32, 0x40000000 | 39))] == [ALLOW] * 3


def test_cancelled_call_is_not_taken_for_x32() -> None:
    machine = compiled(profile_of({"names": ["mount"], "action": "SCMP_ACT_ERRNO"}, default="SCMP_ACT_ALLOW"))
    assert machine.run(AUDIT[X86_64], -1) == ALLOW
    assert machine.run(AUDIT[X86_64], 0x40000000) == KILL


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    machine = compiled(profile_of(allow("socket", args=[when(0, "EQ", 1), when(0, "EQ", 2)])))
    assert [machine.run(AUDIT[X86_64], 41, [family]) for family in (1, 2, 3)] == [ALLOW, ALLOW, 0x50001]


def test_socket_of_16_and_32_bits_of_x86_cannot_slip_past_a_condition() -> None:
    """security.md S16: socketcall's arguments lie in memory; libseccomp lets socketcall(1) pass on such a profile."""
    profile = profile_of(
        allow("socket", args=[when(0, "LT", 38)]), allow("socket", args=[when(0, "EQ", 39)]), allow("bind"),
        allow("socket", args=[when(0, "GT", 40)]), architectures=[X86_64, X86, X32],
    )  # fmt: skip
    machine = compiled(profile)
    for architecture, number in ((X86_64, 41), (X32, 0x40000029), (X86, 359)):
        verdicts = [machine.run(AUDIT[architecture], number, [family]) for family in (2, 38, 39, 40, 41)]
        assert verdicts == [ALLOW, 0x50001, ALLOW, 0x50001, ALLOW]
    assert machine.run(AUDIT[X86_64], 41, [38]) == 0x50001
    assert machine.run(AUDIT[X86], 102, [1, 0xBEEF]) == 0x50001
    assert machine.run(AUDIT[X86], 102, [2, 0xBEEF]) == ALLOW
    denied = profile_of(
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [when(0, "EQ", 38)]},
        default="SCMP_ACT_ALLOW", architectures=[X86],
    )  # fmt: skip
    assert compiled(denied).run(AUDIT[X86], 102, [1, 0xBEEF]) == 0x50001
    assert compiled(denied).run(AUDIT[X86], 102, [3, 0xBEEF]) == ALLOW


def test_masked_comparison_sees_the_high_half() -> None:
    """security.md S46: ioctl's command is 32 bits wide, but the caller fills 64."""
    profile = profile_of(
        {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [when(1, "MASKED_EQ", 0xFFFFFFFF, 0x5412)]},
        default="SCMP_ACT_ALLOW",
    )
    machine = compiled(profile)
    assert [machine.run(AUDIT[X86_64], 16, [0, c]) for c in (0x5412, 1 << 32 | 0x5412, 0x5413)] == [0x50001] * 2 + [
        ALLOW
    ]


def test_arm_keeps_its_private_calls() -> None:
    profile = profile_of(allow("read", "openat2", "set_tls"), architectures=["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    machine = compiled(profile, "aarch64")
    arm = AUDIT["SCMP_ARCH_ARM"]
    assert machine.run(AUDIT["SCMP_ARCH_AARCH64"], 63) == ALLOW
    assert [machine.run(arm, n) for n in (3, 0xF0005, 0xF0002, 440)] == [ALLOW, ALLOW, 0x50001, ENOSYS]


def test_architectures_of_other_machines_are_accepted() -> None:
    profile = profile_of(allow("read"), architectures=["SCMP_ARCH_MIPS", "SCMP_ARCH_S390X"])
    assert compiled(profile).run(AUDIT[X86_64], 0) == ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64", "loongarch64"])
def test_every_machine_compiles(machine: str) -> None:
    tokens = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3, "loongarch64": 0xC0000102}
    numbers = {"x86_64": 59, "aarch64": 221, "riscv64": 221, "loongarch64": 221}
    assert compiled(profile_of(allow("execve")), machine).run(tokens[machine], numbers[machine]) == ALLOW


def test_machine_without_table() -> None:
    with pytest.raises(HostLacks, match="'vax'"):
        compiler.compiled(profile_of(), "vax")


def test_flags() -> None:
    def flags(*words: str, **more: Any) -> int:
        return compiler.compiled(profile_of(flags=list(words), **more), "x86_64")[1]

    assert compiler.compiled(profile_of(), "x86_64")[1] == kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert flags() == 0
    assert flags("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC") == 2  # there is one thread
    assert flags("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") == 0  # nothing to wait for without a listener


def test_notify() -> None:
    entry = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    profile = profile_of(entry, listenerPath="/run/agent", listenerMetadata="x", default="SCMP_ACT_ALLOW")
    program = seccomp.program_for(profile, None)
    assert (program.notify, program.listener_path, program.metadata) == (True, "/run/agent", "x")
    assert program.flags == kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER | kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert Machine(program.code).run(AUDIT[X86_64], 83) == 0x7FC00000
    both = profile | {"flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}
    assert seccomp.program_for(both, None).flags == 0x8 | 0x20


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "defaultAction"),
    ({"defaultAction": "SCMP_ACT_MAYBE"}, "defaultAction"),
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "defaultErrnoRet"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}, "defaultErrnoRet"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "defaultErrnoRet"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": True}, "defaultErrnoRet"),
    (profile_of(architectures=["x86"]), "architectures[0]"),
    (profile_of(architectures="SCMP_ARCH_X86"), "architectures"),
    (profile_of(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]), "flags[0]"),
    (profile_of(allow("read"), {"names": ["read"]}), "syscalls[1].action"),
    (profile_of({"names": "read", "action": "SCMP_ACT_ALLOW"}), "syscalls[0].names"),
    (profile_of(allow("read", "")), "syscalls[0].names[1]"),
    (profile_of(allow("read", errnoRet=5)), "syscalls[0].errnoRet"),
    (profile_of(allow("read", args=[when(6, "EQ", 0)])), "syscalls[0].args[0].index"),
    (profile_of(allow("read", args=[when(0, "EQ", 2**64)])), "syscalls[0].args[0].value"),
    (profile_of(allow("read", args=[when(0, "EQ", 1.5)])), "syscalls[0].args[0].value"),  # type: ignore[arg-type]
    (profile_of(allow("read", args=[when(0, "EQUAL", 0)])), "syscalls[0].args[0].op"),
    (profile_of(allow("read", args=["x"])), "syscalls[0].args[0]"),
    (profile_of("read"), "syscalls[0]"),  # type: ignore[arg-type]
    (profile_of({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}), "listenerPath"),
    (profile_of({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}, listenerPath="/x"), "syscalls[0].action"),
    (profile_of(listenerMetadata="x"), "listenerMetadata"),
    (profile_of(listenerPath=5), "listenerPath"),
]


@pytest.mark.parametrize(("profile", "path"), WRONG, ids=[f"{path}-{n}" for n, (_, path) in enumerate(WRONG)])
def test_objections_name_the_place(profile: dict[str, Any], path: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        seccomp.program_for(profile, str(tmp_path))
    assert caught.value.path == f"linux.seccomp.{path}"
    assert not list(tmp_path.rglob("*.*"))


def test_program_that_is_too_long() -> None:
    entry = [allow("ioctl", args=[when(1, "EQ", value << 16)]) for value in range(1000)]
    with pytest.raises(Invalid, match="more than the 4096 that the kernel accepts"):
        compiler.compiled(profile_of(*entry), "x86_64")


# --- the cache -------------------------------------------------------------------------------------------------------


def only_file(cache: Path) -> Path:
    (file,) = (cache / "seccomp").iterdir()
    return file


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = compiler.compiled

    def count(profile: Any, machine: str) -> tuple[bytes, int]:
        calls.append(machine)
        return real(profile, machine)

    monkeypatch.setattr(compiler, "compiled", count)
    return calls


def test_second_start_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch)
    profile = engine_profile(PODMAN, SETS["plain"])
    first = seccomp.program_for(profile, str(tmp_path))
    again = seccomp.program_for(json.loads(json.dumps(profile)), str(tmp_path))
    assert (len(calls), again.code, again.flags) == (1, first.code, first.flags)
    file = only_file(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    profile["syscalls"][0]["names"].append("mount")
    assert seccomp.program_for(profile, str(tmp_path)).code
    assert len(calls) == 2


def test_program_of_another_profile_is_not_taken(tmp_path: Path) -> None:
    """Even if the names of the files were equal: the profile in the file decides."""
    strict, lax = profile_of(allow("read")), profile_of(default="SCMP_ACT_ALLOW")
    seccomp.program_for(lax, str(tmp_path))
    lax_file = only_file(tmp_path)
    source = seccomp._source(strict)
    assert source is not None
    lax_file.rename(lax_file.parent / seccomp._name(source))
    assert Machine(seccomp.program_for(strict, str(tmp_path)).code).run(AUDIT[X86_64], 1) == ENOSYS


@pytest.mark.root
@pytest.mark.parametrize(
    "damage", ["file of others", "file writable", "folder of others", "folder writable", "link", "cut"]
)
def test_cache_that_others_could_have_written_is_not_used(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = profile_of(allow("read"))
    seccomp.program_for(profile, str(tmp_path))
    file = only_file(tmp_path)
    # The attacker's program allows everything.
    file.write_bytes(
        file.read_bytes()[: -len(seccomp.program_for(profile, None).code)] + struct.pack("=HBBI", 6, 0, 0, ALLOW)
    )
    trusted = seccomp.program_for(profile, str(tmp_path))
    assert Machine(trusted.code).run(AUDIT[X86_64], 1) == ALLOW, "the forged file was not where it is looked for"
    if damage == "file of others":
        os.chown(file, 65534, 65534)
    elif damage == "file writable":
        file.chmod(0o622)
    elif damage == "folder of others":
        os.chown(file.parent, 65534, 65534)
    elif damage == "folder writable":
        file.parent.chmod(0o777)
    elif damage == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_bytes(file.read_bytes()[:-3])
    calls = counting(monkeypatch)
    program = seccomp.program_for(profile, str(tmp_path))
    assert calls and Machine(program.code).run(AUDIT[X86_64], 1) == ENOSYS


def test_cache_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert seccomp.program_for(profile_of(allow("read")), str(tmp_path / "file")).code


def test_cache_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_MAX_FILES", 5)
    for errno in range(12):
        seccomp.program_for(profile_of(defaultErrnoRet=errno), str(tmp_path))
    assert len(list((tmp_path / "seccomp").iterdir())) <= 5


def test_b7_where_ctk_knows_the_system_calls_a_build_has_no_keys() -> None:
    """A machine with numbers in one table alone would build without the filter, and say nothing."""
    assert set(seccomp_noop._MACHINES) == set(libc._OLDER)
    for machine in libc._OLDER:
        numbers = dict(zip(*[iter(libc._OLDER[machine].split())] * 2, strict=True))
        refused = seccomp_noop.program(machine, syncs=False, owners=False, confined=True)
        assert {int(numbers["add_key"]), int(numbers["keyctl"])} <= {k for *_, k in refused}


def test_b7_a_builds_filter_has_the_numbers_of_the_kernels_tables() -> None:
    """By name, architecture for architecture: a wrong number would confine nothing and deny something."""
    names = {
        "silent": "fsync fdatasync sync syncfs sync_file_range sync_file_range2 arm_sync_file_range msync",
        "owners": "chown fchown lchown chown32 fchown32 lchown32 fchownat setgroups setgroups32",
        "unknown": "add_key request_key keyctl clone3 io_uring_setup io_uring_enter io_uring_register",
        "flags": "clone unshare",
        "sockets": "socket socketpair",
        "multiplexed": "socketcall",
    }
    for machine, architectures in compiler._MACHINES.items():
        own = {number: word for word, number, _ in architectures if word != "X32"}
        for audit, calls in seccomp_noop._MACHINES[machine]:
            table = compiler._table(own[audit])
            for kind, words in names.items():
                wanted = {table[word] for word in words.split() if word in table}
                if own[audit] == "X86_64" and kind in ("unknown", "flags", "sockets"):
                    wanted |= {0x40000000 + number for number in wanted}
                assert set(calls[kind]) == wanted, (own[audit], kind)
