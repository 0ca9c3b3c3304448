"""Rules for the parts of a spec outside `linux`: version, root, process, mounts, hooks, annotations."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.check import Report

    Spec = dict[str, Any]

HOOK_KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

CAPABILITIES = tuple(
    (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
        "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
        "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
"""Names without CAP_, in the order of their numbers (capabilities(7), Linux 5.9)."""

_RLIMITS = frozenset(
    "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()
)
POLICIES = ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE")
_SCHEDULER_FLAGS = frozenset(
    (
        "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
    )
)  # fmt: skip
IO_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
_NO_ID = 0xFFFFFFFF  # (uid_t)-1, which means "don't change it" to the kernel


def version(spec: "Spec", report: "Report") -> None:
    """ociVersion: required, SemVer 2.0.0, major 1 (config.md, "Specification version").

    Major 0 is accepted too: the standard's own schema/test has 0.5.0-dev, and runc, which never checks the version, has
    always run such bundles.
    """
    given = spec.get("ociVersion")
    if not given:
        report("ociVersion", "is required", hint='write "ociVersion": "1.3.0"', code="E104")
        return
    numbers = given.partition("-")[0].partition("+")[0].split(".")
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        report("ociVersion", f"{given!r} is not a version (SemVer 2.0.0)", hint='write "1.3.0"', code="E109")
    elif numbers[0] not in ("0", "1"):
        report("ociVersion", f"{given!r} is not a version that ctk supports", hint="versions 0.x, 1.x", code="E110")


def root(spec: "Spec", report: "Report") -> None:
    """root.path: required on Linux (config.md, "Root")."""
    given = spec.get("root")
    if given is None:
        report("root", "is required", hint='write "root": {"path": "rootfs"}', code="E104")
    elif not given.get("path"):
        report("root.path", "is required", code="E104")


def process_present(spec: "Spec", report: "Report") -> None:
    """process: required by the time of `start` (runtime.md, "Start"); `run` refuses at once."""
    given = spec.get("process")
    if given is None:
        report("process", "is missing: the container can be created but not started", warning=True, code="W111")
    else:
        process(given, "process.", report)


def process(given: "Spec", at: str, report: "Report") -> None:
    """The process object; `at` is the prefix of its fields' names ("process." or "")."""
    args = given.get("args")
    if not args:
        report(at + "args", "must not be empty", hint='name the program, as ["sh"]', code="E104")
    elif not args[0]:
        report(at + "args[0]", "must not be empty", code="E104")
    cwd = given.get("cwd")
    if not cwd:
        report(at + "cwd", "is required", hint='write "/"', code="E104")
    elif cwd[0] != "/":
        report(at + "cwd", f"{cwd!r} is not an absolute path", code="E106")
    for index, entry in enumerate(given.get("env") or ()):
        if entry.find("=") < 1:
            report(f"{at}env[{index}]", f"invalid environment variable: {entry!r} is not NAME=value", code="E120")
    _user(given.get("user") or {}, at, report)
    for kind, names in (given.get("capabilities") or {}).items():
        for index, name in enumerate(names or () if kind in _SETS else ()):
            if name[:4] != "CAP_" or name[4:] not in CAPABILITIES:
                report(
                    f"{at}capabilities.{kind}[{index}]",
                    f"unknown capability {name!r}",
                    hint="names are written as CAP_NET_ADMIN",
                    warning=True,
                    code="W121",
                )
    if given.get("rlimits"):
        _rlimits(given["rlimits"], at, report)
    adjustment = given.get("oomScoreAdj")
    if adjustment is not None and not -1000 <= adjustment <= 1000:
        report(at + "oomScoreAdj", f"{adjustment} is out of range (-1000 to 1000)", code="E108")
    if given.get("scheduler") is not None:
        _scheduler(given["scheduler"], at + "scheduler.", report)
    priority = given.get("ioPriority")
    if priority is not None:
        if priority.get("class") not in IO_CLASSES:
            report(
                at + "ioPriority.class", f"{priority.get('class')!r} is not one of {', '.join(IO_CLASSES)}", code="E105"
            )
        if not 0 <= (priority.get("priority") or 0) <= 7:
            report(at + "ioPriority.priority", f"{priority['priority']} is out of range (0 to 7)", code="E108")
    for name, value in (given.get("execCPUAffinity") or {}).items():
        if value and name in ("initial", "final") and not is_number_list(value):
            report(
                f"{at}execCPUAffinity.{name}", f"{value!r} is not a list of cpus", hint="write it as 0-3,7", code="E109"
            )


_SETS = frozenset(("bounding", "effective", "inheritable", "permitted", "ambient"))


def _user(user: "Spec", at: str, report: "Report") -> None:
    for name in ("uid", "gid"):
        if user.get(name) == _NO_ID:
            report(f"{at}user.{name}", f"{_NO_ID} is not an id", code="E117")
    for index, gid in enumerate(user.get("additionalGids") or ()):
        if gid == _NO_ID:
            report(f"{at}user.additionalGids[{index}]", f"{_NO_ID} is not an id", code="E117")
    if (user.get("umask") or 0) > 0o777:
        report(at + "user.umask", f"{user['umask']} has more than the nine permission bits", warning=True, code="W123")


def _rlimits(rlimits: "list[Spec]", at: str, report: "Report") -> None:
    seen = set()
    for index, rlimit in enumerate(rlimits):
        path = f"{at}rlimits[{index}]"
        kind = rlimit.get("type") or ""
        if kind[:7] != "RLIMIT_" or kind[7:] not in _RLIMITS:
            report(
                path + ".type",
                f"unknown resource limit {kind!r}",
                hint="as RLIMIT_NOFILE, see setrlimit(2)",
                code="E105",
            )
        elif kind in seen:
            report(path + ".type", f"{kind} is given twice", code="E107")
        seen.add(kind)
        for field in ("soft", "hard"):
            if rlimit.get(field) is None:
                report(f"{path}.{field}", "is required", code="E104")
        if (rlimit.get("soft") or 0) > (rlimit.get("hard") or 0):
            report(
                path + ".soft", f"{rlimit['soft']} is more than the hard limit, {rlimit.get('hard') or 0}", code="E108"
            )


def _scheduler(scheduler: "Spec", at: str, report: "Report") -> None:
    """sched_setattr(2): which field goes with which policy."""
    policy = scheduler.get("policy") or ""
    if policy not in POLICIES:
        report(
            at + "policy", f"{policy!r} is not one of {', '.join(POLICIES)}" if policy else "is required", code="E105"
        )
        return
    nice = scheduler.get("nice") or 0
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= nice <= 19:
        report(at + "nice", f"{nice} is out of range (-20 to 19)", code="E108")
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        report(at + "priority", f"goes with SCHED_FIFO and SCHED_RR, not with {policy}", code="E115")
    for name in ("runtime", "deadline", "period"):
        if scheduler.get(name) and policy != "SCHED_DEADLINE":
            report(at + name, f"goes with SCHED_DEADLINE, not with {policy}", code="E115")
    if policy == "SCHED_DEADLINE":
        _deadline(scheduler, at, report)
    for index, flag in enumerate(scheduler.get("flags") or ()):
        if flag not in _SCHEDULER_FLAGS:
            report(f"{at}flags[{index}]", f"unknown flag {flag!r}", code="E105")


def _deadline(scheduler: "Spec", at: str, report: "Report") -> None:
    """sched_setattr(2): 1024 ns <= runtime <= deadline <= period, and a period of 0 means the deadline."""
    call = "sched_setattr: `SCHED_DEADLINE`"
    for name in ("runtime", "deadline"):
        if scheduler.get(name) is None:
            report(at + name, f"{call} requires `{name}`", hint="in nanoseconds", code="E115")
            return
    runtime, deadline, period = scheduler["runtime"], scheduler["deadline"], scheduler.get("period") or 0
    if runtime == 0:
        report(at + "runtime", f"{call} runtime must be greater than 0", code="E108")
    elif not 1024 <= runtime < 1 << 63:
        report(at + "runtime", f"{call} runtime {runtime} must be between 1024 and {(1 << 63) - 1}", code="E108")
    elif runtime > deadline:
        report(at + "runtime", f"{call} runtime {runtime} must be <= deadline {deadline}", code="E108")
    elif period and deadline > period:
        report(at + "deadline", f"{call} deadline {deadline} must be <= period {period}", code="E108")


def mounts(spec: "Spec", report: "Report") -> None:
    """Destinations, sources of binds, id-mapped mounts (config.md, "Mounts")."""
    for index, mount in enumerate(spec.get("mounts") or ()):
        destination = mount.get("destination")
        if not destination:
            report(f"mounts[{index}].destination", "is required", code="E104")
        elif destination[0] != "/":
            report(
                f"mounts[{index}].destination",
                f"{destination!r} is not an absolute path; taken below /",
                warning=True,
                code="W124",
            )
        options = mount.get("options") or ()
        bind = mount.get("type") == "bind" or "bind" in options or "rbind" in options
        if bind and not mount.get("source"):
            report(f"mounts[{index}].source", "is required for a bind mount", code="E104")
        mapped = mount.get("uidMappings"), mount.get("gidMappings")
        if mapped[0] or mapped[1]:
            if not (mapped[0] and mapped[1]):
                missing = "gidMappings" if mapped[0] else "uidMappings"
                report(f"mounts[{index}].{missing}", "uidMappings and gidMappings go together", code="E115")
            if not bind:
                report(f"mounts[{index}]", "id mappings are for bind mounts only", code="E115")
            for name, mappings in zip(("uidMappings", "gidMappings"), mapped, strict=True):
                id_mappings(mappings or (), f"mounts[{index}].{name}", report)
        elif ("idmap" in options or "ridmap" in options) and not _user_namespace(spec):
            report(
                f"mounts[{index}].options",
                "idmap needs uidMappings and gidMappings of the mount, or a user namespace to take them from",
                code="E115",
            )


def _user_namespace(spec: "Spec") -> bool:
    return any(entry.get("type") == "user" for entry in (spec.get("linux") or {}).get("namespaces") or ())


def id_mappings(mappings: "Any", path: str, report: "Report") -> None:
    """Mappings of ids: user_namespaces(7), "User and group ID mappings"."""
    for index, mapping in enumerate(mappings):
        size = mapping.get("size") or 0
        if not size:
            report(f"{path}[{index}].size", "must be more than 0", code="E117")
        for name in ("containerID", "hostID"):
            if (mapping.get(name) or 0) + size > 1 << 32:
                report(f"{path}[{index}].{name}", "the mapped range ends above 4294967295", code="E117")
    if len(mappings) > 340:
        report(path, f"has {len(mappings)} entries; the kernel takes 340 at most (4.15 and later)", code="E117")


def hooks(spec: "Spec", report: "Report") -> None:
    """Hooks: an absolute path, and a timeout above 0 if given (config.md, "POSIX-platform Hooks")."""
    for kind, entries in (spec.get("hooks") or {}).items():
        if kind not in HOOK_KINDS:
            continue
        for index, hook in enumerate(entries or ()):
            path = hook.get("path")
            if not path:
                report(f"hooks.{kind}[{index}].path", "is required", code="E104")
            elif path[0] != "/":
                report(f"hooks.{kind}[{index}].path", f"{path!r} is not an absolute path", code="E106")
            timeout = hook.get("timeout")
            if timeout is not None and timeout <= 0:
                report(f"hooks.{kind}[{index}].timeout", f"{timeout} is not above 0 (seconds)", code="E108")


def annotations(spec: "Spec", report: "Report") -> None:
    """Annotations: no empty key (config.md, "Annotations")."""
    if "" in (spec.get("annotations") or ()):
        report("annotations", "has an empty key", code="E104")


def host_names(spec: "Spec", report: "Report") -> None:
    """hostname and domainname: 64 bytes at most (sethostname(2)), in a UTS namespace of the container's own."""
    for name in ("hostname", "domainname"):
        given = spec.get(name)
        if given:
            if len(given.encode()) > 64:
                report(name, "is longer than 64 bytes", code="E108")
            if not any(entry.get("type") == "uts" for entry in (spec.get("linux") or {}).get("namespaces") or ()):
                report(
                    name,
                    "would change the host's: there is no uts namespace",
                    hint='add {"type": "uts"} to linux.namespaces',
                    code="E112",
                )


def is_number_list(text: str) -> bool:
    """Whether `text` is a kernel list of numbers, as "0-3,7" (cpuset(7), "List format")."""
    for part in text.strip().split(","):
        low, dash, high = part.strip().partition("-")
        if not _is_number(low) or (dash and not (_is_number(high) and int(low) <= int(high))):
            return False
    return True


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


RULES = (version, root, process_present, mounts, hooks, annotations, host_names)
