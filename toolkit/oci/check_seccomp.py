"""Rules for `linux.seccomp` (config-linux.md, "Seccomp")."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.check import Report

ACTIONS = (
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
)  # fmt: skip
OPERATORS = (
    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
)  # fmt: skip
ARCHITECTURES = frozenset(
    "SCMP_ARCH_" + name
    for name in (
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X "
        "PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
    ).split()
)
FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)  # fmt: skip
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")


def seccomp(given: "dict[str, Any]", report: "Report") -> None:
    """Names of actions, operators, architectures and flags, and which of them can be combined."""
    default = given.get("defaultAction") or ""
    _action(default, "linux.seccomp.defaultAction", report)
    if default == "SCMP_ACT_NOTIFY":
        # Nothing could start: the agent would have to answer for the runtime's own calls.
        report("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default action", code="E115")
    _errno(given.get("defaultErrnoRet"), default, "linux.seccomp.defaultErrnoRet", report)
    for index, name in enumerate(given.get("architectures") or ()):
        if name not in ARCHITECTURES:
            report(f"linux.seccomp.architectures[{index}]", f"unknown architecture {name!r}", code="E105")
    for index, name in enumerate(given.get("flags") or ()):
        if name not in FLAGS:
            report(f"linux.seccomp.flags[{index}]", f"{name!r} is not one of {', '.join(FLAGS)}", code="E105")
    notifies = False
    for index, rule in enumerate(given.get("syscalls") or ()):
        where = f"linux.seccomp.syscalls[{index}]"
        action = rule.get("action") or ""
        names = rule.get("names")
        if not names:
            report(where + ".names", "must not be empty", code="E104")
        elif "" in names:
            report(where + ".names", "has an empty name", code="E104")
        _action(action, where + ".action", report)
        _errno(rule.get("errnoRet"), action, where + ".errnoRet", report)
        if action == "SCMP_ACT_NOTIFY":
            notifies = True
            if "write" in (names or ()):
                # The runtime reports to its parent by write(2) after the filter is in force.
                report(where + ".names", "SCMP_ACT_NOTIFY cannot be used for the write syscall", code="E115")
        for number, argument in enumerate(rule.get("args") or ()):
            if (argument.get("index") or 0) > 5:
                report(f"{where}.args[{number}].index", f"{argument['index']} is out of range (0 to 5)", code="E108")
            if argument.get("op") not in OPERATORS:
                report(
                    f"{where}.args[{number}].op",
                    f"{argument.get('op')!r} is not one of {', '.join(OPERATORS)}",
                    code="E105",
                )
    if given.get("listenerMetadata") and not given.get("listenerPath"):
        report("linux.seccomp.listenerMetadata", "goes with listenerPath", code="E115")
    if notifies and not given.get("listenerPath"):
        report("linux.seccomp.listenerPath", "is required for SCMP_ACT_NOTIFY", code="E115")


def _action(name: str, where: str, report: "Report") -> None:
    if name not in ACTIONS:
        report(where, f"{name!r} is not one of {', '.join(ACTIONS)}" if name else "is required", code="E105")


def _errno(value: "int | None", action: str, where: str, report: "Report") -> None:
    if not value:
        return
    if action not in _WITH_ERRNO:
        report(where, f"{action or 'no action'} returns no errno; only {' and '.join(_WITH_ERRNO)} do", code="E115")
    elif value > (4095 if action == "SCMP_ACT_ERRNO" else 0xFFFF):
        report(where, f"{value} is out of range", code="E108")
