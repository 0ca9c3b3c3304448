"""Check config.json's linux.seccomp: names become values, and each error has its JSON path.

Source: OCI runtime spec 1.2, config-linux.md, section Seccomp.
"""

from toolkit.errors import Invalid
from toolkit.kernel import seccomp as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    # One condition on an argument: index, operator, value, second value.
    Condition = tuple[int, str, int, int]
    # One rule: the names of its system calls, the filter's return value, its conditions (all of them must hold).
    Rule = tuple[Sequence[str], int, Sequence[Condition]]

_EPERM, _ENOSYS = 1, 38
_MAX_ERRNO = 4095  # the kernel truncates larger values (SECCOMP_RET_ERRNO in seccomp(2))

ACTIONS = {
    "SCMP_ACT_KILL": kernel.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": kernel.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": kernel.SECCOMP_RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": kernel.SECCOMP_RET_TRAP,
    "SCMP_ACT_ERRNO": kernel.SECCOMP_RET_ERRNO,
    "SCMP_ACT_TRACE": kernel.SECCOMP_RET_TRACE,
    "SCMP_ACT_ALLOW": kernel.SECCOMP_RET_ALLOW,
    "SCMP_ACT_LOG": kernel.SECCOMP_RET_LOG,
    "SCMP_ACT_NOTIFY": kernel.SECCOMP_RET_USER_NOTIF,
}
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
FLAGS = {
    # As with runc, accepted and without effect: it is for other threads, and the process that loads the filter has
    # none.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": kernel.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}
ARCHITECTURES = (
    "SCMP_ARCH_X86 SCMP_ARCH_X86_64 SCMP_ARCH_X32 SCMP_ARCH_ARM SCMP_ARCH_AARCH64 SCMP_ARCH_MIPS SCMP_ARCH_MIPS64 "
    "SCMP_ARCH_MIPS64N32 SCMP_ARCH_MIPSEL SCMP_ARCH_MIPSEL64 SCMP_ARCH_MIPSEL64N32 SCMP_ARCH_PPC SCMP_ARCH_PPC64 "
    "SCMP_ARCH_PPC64LE SCMP_ARCH_S390 SCMP_ARCH_S390X SCMP_ARCH_PARISC SCMP_ARCH_PARISC64 SCMP_ARCH_RISCV64 "
    "SCMP_ARCH_LOONGARCH64 SCMP_ARCH_M68K SCMP_ARCH_SH SCMP_ARCH_SHEB"
).split()


class Profile:
    """A checked profile: the default action, the architectures named, the flags for seccomp(2), the rules in order."""

    __slots__ = ("architectures", "default", "flags", "rules")

    def __init__(self, default: int, architectures: "Sequence[str]", flags: int, rules: "Sequence[Rule]") -> None:
        self.default = default
        self.architectures = architectures
        self.flags = flags
        self.rules = rules


def read(seccomp: "Mapping[str, Any]") -> Profile:
    """The profile that `seccomp`, the parsed linux.seccomp, describes. Raises Invalid. Null counts as absent."""
    default = _action(seccomp, "defaultAction", "defaultErrnoRet", "linux.seccomp.")
    if default == kernel.SECCOMP_RET_USER_NOTIF:
        # The call that sends the descriptor would itself wait for the agent, which has no descriptor yet.
        raise Invalid("linux.seccomp.defaultAction", "'SCMP_ACT_NOTIFY' cannot be the default action")
    architectures = _words(seccomp, "architectures", "linux.seccomp.", ARCHITECTURES)
    flags = 0
    if seccomp.get("flags") is None:
        # As in runc since 1.2: without flags in the spec, the faster program (no speculation barrier).
        flags = kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    for word in _words(seccomp, "flags", "linux.seccomp.", FLAGS):
        flags |= FLAGS[word]
    rules: list[Rule] = []
    notify = False
    for number, entry in enumerate(_list(seccomp, "syscalls", "linux.seccomp.")):
        path = f"linux.seccomp.syscalls[{number}]"
        if not isinstance(entry, dict):
            raise Invalid(path, "must be an object")
        names = _words(entry, "names", path + ".", None)
        action = _action(entry, "action", "errnoRet", path + ".")
        conditions = _conditions(entry, path)
        if action == kernel.SECCOMP_RET_USER_NOTIF:
            notify = True
            if "write" in names:
                # As in runc: write(2) may be needed to send the descriptor to the agent.
                raise Invalid(path + ".action", "SCMP_ACT_NOTIFY cannot be used for the write syscall")
        rules.extend((names, action, single) for single in _separate(conditions))
    for key in ("listenerPath", "listenerMetadata"):
        if seccomp.get(key) is not None and not isinstance(seccomp[key], str):
            raise Invalid(f"linux.seccomp.{key}", "must be a string")
    if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
        raise Invalid("linux.seccomp.listenerMetadata", "needs 'listenerPath'")
    if notify:
        if not seccomp.get("listenerPath"):
            raise Invalid("linux.seccomp.listenerPath", "is required for 'SCMP_ACT_NOTIFY'")
        flags |= kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER
    else:
        flags &= ~kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV  # EINVAL without a listener
    return Profile(default, architectures, flags, rules)


def _list(holder: "Mapping[str, Any]", key: str, path: str) -> "Sequence[Any]":
    value = holder.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Invalid(path + key, "must be an array")
    return value


def _words(
    holder: "Mapping[str, Any]", key: str, path: str, known: "Sequence[str] | Mapping[str, int] | None"
) -> "Sequence[str]":
    words = _list(holder, key, path)
    for number, word in enumerate(words):
        if not isinstance(word, str) or not word:
            raise Invalid(f"{path}{key}[{number}]", "must be a non-empty string")
        if known is not None and word not in known:
            raise Invalid(f"{path}{key}[{number}]", f"unknown value {word!r}", hint="known: " + ", ".join(known))
    return words


def _number(value: object, path: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise Invalid(path, f"must be an integer from 0 to {limit}")
    return value


def _action(holder: "Mapping[str, Any]", key: str, errno_key: str, path: str) -> int:
    word = holder.get(key)
    if word is None:
        raise Invalid(path + key, "is missing")
    action = ACTIONS.get(word) if isinstance(word, str) else None
    if action is None:
        raise Invalid(path + key, f"unknown value {word!r}", hint="known: " + ", ".join(ACTIONS))
    number = holder.get(errno_key)
    if action in (kernel.SECCOMP_RET_ERRNO, kernel.SECCOMP_RET_TRACE):
        limit = _MAX_ERRNO if action == kernel.SECCOMP_RET_ERRNO else 0xFFFF
        return action | (_EPERM if number is None else _number(number, path + errno_key, limit))
    if number is not None:
        raise Invalid(path + errno_key, f"{word!r} takes no errno")
    return action


def _conditions(entry: "Mapping[str, Any]", path: str) -> "list[Condition]":
    found = []
    for number, argument in enumerate(_list(entry, "args", path + ".")):
        here = f"{path}.args[{number}]"
        if not isinstance(argument, dict):
            raise Invalid(here, "must be an object")
        operator = argument.get("op")
        if operator not in OPERATORS:
            raise Invalid(here + ".op", f"unknown value {operator!r}", hint="known: " + ", ".join(OPERATORS))
        index = _number(argument.get("index", 0), here + ".index", 5)
        value = _number(argument.get("value", 0), here + ".value", (1 << 64) - 1)
        second = _number(argument.get("valueTwo") or 0, here + ".valueTwo", (1 << 64) - 1)
        found.append((index, operator, value, second))
    return found


def _separate(conditions: "list[Condition]") -> "Sequence[Sequence[Condition]]":
    """The conditions of one entry, as rules.

    They must all hold; but if two of them check the same argument, each is a rule of its own. libseccomp can't have two
    conditions on one argument, so runc and crun split them, and profiles rely on that.
    """
    indexes = [condition[0] for condition in conditions]
    if len(set(indexes)) == len(indexes):
        return (conditions,)
    return [(condition,) for condition in conditions]
