"""Compile a profile: the action for each system call number of each architecture.

The rules are those of libseccomp as runc uses it, so that an engine's profile means the same under ctk
(docs/decisions/0005-seccomp.md, which lists the differences).
"""

from toolkit.errors import HostLacks, Invalid
from toolkit.kernel import seccomp as kernel
from toolkit.runtime.seccomp import bpf, profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from toolkit.runtime.seccomp.profile import Condition, Profile

    # The rules of one system call, in the profile's order.
    Rules = list[tuple[Sequence[Condition], int]]
    # By number; for calls of a multiplexer by (its number, which call).
    Calls = dict[int, Rules]

# Machine of uname(2) -> the architectures of its processes: name in a profile, AUDIT_ARCH_*, bits of an argument.
# Architectures that the machine cannot run get no code, because nothing would ever reach it.
_MACHINES = {
    "x86_64": (("X86_64", 0xC000003E, 64), ("X86", 0x40000003, 32), ("X32", 0xC000003E, 32)),
    "aarch64": (("AARCH64", 0xC00000B7, 64), ("ARM", 0x40000028, 32)),
    "riscv64": (("RISCV64", 0xC00000F3, 64),),
    "loongarch64": (("LOONGARCH64", 0xC0000102, 64),),
}
_X32 = 0x40000000  # __X32_SYSCALL_BIT
_ARM_PRIVATE = 0xF0000  # __ARM_NR_BASE
_END = 1 << 32

# 32-bit x86 had one number for all socket calls and one for System V IPC; the first argument says which call. The other
# arguments are in the caller's memory, where a filter cannot look (socketcall(2), ipc(2)).
_SOCKETCALL, _IPC = 102, 117
_MULTIPLEXED = {
    _SOCKETCALL: "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom "
    "shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg",
    _IPC: "semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - "
    "shmat shmdt shmget shmctl",
}
_PERMITTED = (kernel.SECCOMP_RET_ALLOW, kernel.SECCOMP_RET_LOG)
_ENOSYS = kernel.SECCOMP_RET_ERRNO | 38


def compiled(seccomp: "Mapping[str, Any]", machine: str) -> "tuple[bytes, int]":
    """The program for `seccomp` (the parsed linux.seccomp) on `machine`, and the flags to install it with.

    Raises Invalid, also if the program is longer than the kernel accepts; HostLacks for an unsupported machine.
    """
    rules = profile.read(seccomp)
    known = _MACHINES.get(machine)
    if known is None:
        raise HostLacks(
            "compile the seccomp profile",
            because=f"ctk has no system call table for {machine!r}",
            hint="supported: " + ", ".join(_MACHINES),
        )
    # The machine's own architecture is always included, even if the profile does not name it.
    wanted = [kind for kind in known if kind is known[0] or "SCMP_ARCH_" + kind[0] in rules.architectures]
    sections = []
    ranges = _Ranges()
    for name, token, bits in wanted:
        if name == "X32":
            continue  # shares x86-64's section
        ranges = _Ranges()
        end = {"X86_64": _X32, "ARM": _ARM_PRIVATE}.get(name, _END)
        _fill(ranges, rules, name, bits, 0, end)
        if name == "ARM":
            _fill(ranges, rules, name, bits, _ARM_PRIVATE, _END)
        elif name == "X86_64":
            if any(kind[0] == "X32" for kind in wanted):
                _fill(ranges, rules, "X32", 32, _X32, _END)
            else:
                ranges.add(_X32, bpf.answer(kernel.SECCOMP_RET_KILL_THREAD))
                # Not x32, but the number that a tracer leaves when it cancels a call (ptrace(2)).
                ranges.add(_END - 1, bpf.answer(rules.default))
        sections.append((token, bpf.search(ranges.starts, ranges.leaves)))
    code = bpf.dispatch(sections, kernel.SECCOMP_RET_KILL_THREAD)
    if len(code) > kernel.BPF_MAXINSNS:
        raise Invalid(
            "linux.seccomp",
            f"compiles to {len(code)} instructions, more than the {kernel.BPF_MAXINSNS} that the kernel accepts",
            hint="name fewer architectures or conditions",
        )
    return bpf.packed(code), rules.flags


def refuse_unknown(seccomp: "Mapping[str, Any]", machine: str) -> None:
    """Raise Invalid for the first name in a rule that no architecture of `machine` has."""
    known: set[str] = set()
    for name, _token, _bits in _MACHINES.get(machine, ()):
        known.update(_table(name))
    known.update(word for text in _MULTIPLEXED.values() for word in text.split())
    for index, rule in enumerate(seccomp.get("syscalls") or ()):
        for place, word in enumerate(rule.get("names") or ()):
            if word not in known:
                raise Invalid(f"linux.seccomp.syscalls[{index}].names[{place}]", f"unknown system call {word!r}")


class _Ranges:
    """Ranges of numbers in ascending order, each with its code; neighbours with equal code are merged."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.leaves: list[bpf.Code] = []

    def add(self, start: int, leaf: "bpf.Code") -> None:
        if not self.leaves or self.leaves[-1] != leaf:
            self.starts.append(start)
            self.leaves.append(leaf)


def _fill(ranges: _Ranges, rules: "Profile", name: str, bits: int, start: int, end: int) -> None:
    """Add the numbers from `start` up to `end` of one architecture."""
    calls, newest = _calls(rules, name, start, end)
    default = bpf.answer(rules.default)
    place = start
    for number in sorted(calls):
        if number > place:
            ranges.add(place, default)
        ranges.add(number, _leaf(calls[number], rules.default, bits))
        place = number + 1
    if newest < 0 or not _unknown_is_enosys(rules.default) or start == _ARM_PRIVATE:
        if place < end:
            ranges.add(place, default)
        return
    if place <= newest:
        ranges.add(place, default)
    ranges.add(newest + 1, bpf.answer(_ENOSYS))


def _unknown_is_enosys(default: int) -> bool:
    """Whether calls newer than the profile get ENOSYS rather than the default action.

    A C library tries a new call and falls back on ENOSYS; EPERM tells it that the call is forbidden, and the program
    fails. If the default action allows calls, or a tracer decides, they get it (as in runc since 1.0.0-rc94).
    """
    return default & 0xFFFF0000 not in (*_PERMITTED, kernel.SECCOMP_RET_TRACE)


def _calls(rules: "Profile", name: str, start: int, end: int) -> "tuple[Calls, int]":
    """The rules by number, and the highest number that the profile names (-1: it names none), from `start` to `end`."""
    numbers = _table(name)
    inner: dict[str, tuple[int, int]] = {}
    if name == "X86":
        for number, text in _MULTIPLEXED.items():
            inner |= {word: (number, which) for which, word in enumerate(text.split(), 1) if word != "-"}
    found: Calls = {}
    decided: dict[tuple[int, int], int] = {}
    assumed: dict[tuple[int, int], int] = {}
    newest = -1
    for names, action, conditions in rules.rules:
        for word in names:
            number = numbers.get(word, -1)
            if start <= number < end:
                newest = max(newest, number)
            if action == rules.default:
                continue  # as in runc: such a rule is redundant, not an exception from others
            if start <= number < end:
                found.setdefault(number, []).append((conditions, action))
            if word in inner:
                # A condition cannot be checked here: it counts as met if the rule denies, as not met if it allows.
                if not conditions:
                    decided.setdefault(inner[word], action)
                elif action not in _PERMITTED:
                    known = assumed.setdefault(inner[word], action)
                    assumed[inner[word]] = min(known, action, key=lambda value: _strictness(((), value)))
    for (number, which), action in (assumed | decided).items():
        found.setdefault(number, []).append((((0, "SCMP_CMP_EQ", which, 0),), action))
    return found, newest


def _leaf(rules: "Rules", default: int, bits: int) -> "bpf.Code":
    """The code for one number. A rule without conditions overrides all others, as in libseccomp; the first one counts.

    If the conditions of several rules hold, the strictest action is taken, as if the kernel had several filters.
    libseccomp takes the one that its tree reaches first, which does not follow from the order in the profile.
    """
    for conditions, action in rules:
        if not conditions:
            return bpf.answer(action)
    return bpf.decide(sorted(rules, key=_strictness), default, bits)


def _strictness(rule: "tuple[Sequence[Condition], int]") -> int:
    """Sort key, strictest first: the order of actions in seccomp(2), which compares their numbers as signed."""
    action = rule[1] & 0xFFFF0000
    return action - (1 << 32) if action & 0x80000000 else action


def _table(name: str) -> "dict[str, int]":
    """The system call numbers of one architecture, by name (calls/)."""
    module = __import__("toolkit.runtime.seccomp.calls." + name.lower(), None, None, ("CALLS",))
    numbers = {}
    number = 0
    for word in module.CALLS.split():
        if word.isdigit():
            number = int(word)
        else:
            numbers[word] = number
            number += 1
    return numbers
