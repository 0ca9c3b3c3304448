"""Edits of `process`: the program, its user and its rights."""

from collections.abc import Sequence

from toolkit.bundle.document import Edit, Spec
from toolkit.errors import Usage
from toolkit.text import quote

# The capabilities that `apt-get install` needs: apt drops to _apt (SETUID, SETGID) and gives folders to it (CHOWN,
# FOWNER, DAC_OVERRIDE, FSETID), dpkg restores file capabilities (SETFCAP), and some maintainer scripts chroot. This is
# the engines' default set without MKNOD, NET_RAW and SETPCAP. Without them apt fails with `setgroups 65534 failed`.
PACKAGE_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

# capabilities(7), in the kernel's order (include/uapi/linux/capability.h), up to 40 (5.9).
CAPABILITIES = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
        "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
        "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
# Not the ambient set: it may have only inheritable capabilities (capabilities(7)), and there are none here.
_SETS = ("bounding", "effective", "permitted")


def args(words: Sequence[str]) -> Edit:
    """`process.args`: the program and its arguments. No shell interprets them."""

    def edit(spec: Spec) -> Spec:
        spec.setdefault("process", {})["args"] = list(words)
        return spec

    return edit


def terminal(wanted: bool) -> Edit:
    """`process.terminal`. False is written by leaving the field out, as in runc's spec."""

    def edit(spec: Spec) -> Spec:
        process = spec.setdefault("process", {})
        if not wanted:
            process.pop("terminal", None)
        elif "terminal" in process:
            process["terminal"] = True
        else:
            spec["process"] = {"terminal": True, **process}
        return spec

    return edit


def environment(entries: Sequence[str]) -> Edit:
    """Set NAME=VALUE pairs in `process.env`. An existing name keeps its place."""
    for entry in entries:
        if entry.startswith("=") or "=" not in entry:
            raise Usage(f"read --env {entry!r}", because="not NAME=VALUE")

    def edit(spec: Spec) -> Spec:
        env = spec.setdefault("process", {}).setdefault("env", [])
        for entry in entries:
            name = entry.partition("=")[0] + "="
            at = next((index for index, known in enumerate(env) if known.startswith(name)), len(env))
            env[at : at + 1] = [entry]
        return spec

    return edit


def cwd(path: str) -> Edit:
    """`process.cwd`, an absolute path in the container."""
    if not path.startswith("/"):
        raise Usage(f"read --cwd {path!r}", because="it must be absolute: it is a path in the container")

    def edit(spec: Spec) -> Spec:
        spec.setdefault("process", {})["cwd"] = path
        return spec

    return edit


def user(text: str) -> Edit:
    """`process.user` from UID[:GID[,GID…]]. Further groups become `additionalGids`."""
    ids, _, groups = text.partition(":")
    numbers = [ids, *(groups.split(",") if groups else [])]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        hint = f"look it up: grep {quote(f'^{ids}:')} ROOTFS/etc/passwd"
        raise Usage(f"read --user {text!r}", because="a spec has only numbers: UID[:GID[,GID…]]", hint=hint)

    def edit(spec: Spec) -> Spec:
        who = spec.setdefault("process", {}).setdefault("user", {})
        who["uid"] = int(ids)
        who["gid"] = int(numbers[1]) if len(numbers) > 1 else who.get("gid", 0)
        if len(numbers) > 2:
            who["additionalGids"] = [int(number) for number in numbers[2:]]
        return spec

    return edit


def no_new_privileges(wanted: bool) -> Edit:
    """`process.noNewPrivileges`."""

    def edit(spec: Spec) -> Spec:
        process = spec.setdefault("process", {})
        if wanted:
            process["noNewPrivileges"] = True
        else:
            process.pop("noNewPrivileges", None)
        return spec

    return edit


def capability_names(words: Sequence[str], *, option: str) -> tuple[str, ...]:
    """'chown', 'CAP_CHOWN' and 'ALL' as the kernel's names. Raises Usage, with similar names."""
    names: list[str] = []
    for word in (piece for entry in words for piece in entry.split(",") if piece):
        name = word.upper() if word.upper().startswith("CAP_") else "CAP_" + word.upper()
        if name == "CAP_ALL":
            names += CAPABILITIES
        elif name in CAPABILITIES:
            names.append(name)
        else:
            from difflib import get_close_matches

            near = get_close_matches(name, CAPABILITIES, 1)
            hint = f"did you mean {near[0]}?" if near else "capabilities(7) lists them"
            raise Usage(f"read {option} {word!r}", because="no such capability", hint=hint)
    return tuple(dict.fromkeys(names))


def add_capabilities(names: Sequence[str]) -> Edit:
    """Add to the sets by which root in the container has a capability."""

    def edit(spec: Spec) -> Spec:
        sets = spec.setdefault("process", {}).setdefault("capabilities", {})
        for kind in _SETS:
            sets[kind] = sorted({*sets.get(kind, []), *names})
        return spec

    return edit


def drop_capabilities(names: Sequence[str]) -> Edit:
    """Remove from every set."""

    def edit(spec: Spec) -> Spec:
        sets = spec.setdefault("process", {}).setdefault("capabilities", {})
        for kind in (*_SETS, "inheritable", "ambient"):
            if kind in sets:
                sets[kind] = [name for name in sets[kind] if name not in names]
        return spec

    return edit


def rlimit(text: str) -> Edit:
    """One of `process.rlimits` from --ulimit's TYPE=SOFT[:HARD] (nofile=1024:4096)."""
    kind, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    numbers = [2**64 - 1 if value in ("unlimited", "-1") else value for value in (soft, hard or soft)]
    if not kind or not all(isinstance(value, int) or value.isdigit() for value in numbers):
        raise Usage(f"read --ulimit {text!r}", because="not TYPE=SOFT[:HARD]", hint="for example nofile=1024:4096")
    name = kind.upper() if kind.upper().startswith("RLIMIT_") else "RLIMIT_" + kind.upper()
    entry = {"type": name, "hard": int(numbers[1]), "soft": int(numbers[0])}

    def edit(spec: Spec) -> Spec:
        limits = spec.setdefault("process", {}).setdefault("rlimits", [])
        at = next((index for index, known in enumerate(limits) if known.get("type") == name), len(limits))
        limits[at : at + 1] = [entry]
        return spec

    return edit
