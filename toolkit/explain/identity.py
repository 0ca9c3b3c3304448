"""The acts that set the program's scheduler, rights, ids, limits and filter, and the execve(2) at the end.

They are made from the runtime's own Identity, in the order in which toolkit/runtime/credentials.py applies it.
"""

from typing import Any

from toolkit.explain.act import Act
from toolkit.kernel import capabilities
from toolkit.runtime.identity import Identity
from toolkit.text import quote as word

Spec = dict[str, Any]

_POLICIES = {
    "SCHED_OTHER": "--other", "SCHED_FIFO": "--fifo", "SCHED_RR": "--rr", "SCHED_BATCH": "--batch",
    "SCHED_IDLE": "--idle", "SCHED_DEADLINE": "--deadline",
}  # fmt: skip
_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


def shaped(spec: Spec) -> list[Act]:
    """What needs privileges that the process gives up later: scheduler, I/O priority, memory policy."""
    process, linux = spec.get("process") or {}, spec.get("linux") or {}
    acts = []
    policy = linux.get("memoryPolicy")
    if policy:
        call = f"set_mempolicy({policy.get('mode')}, {policy.get('nodes') or 'NULL'})"
        line = f"numactl … (mode {policy.get('mode')})"
        acts.append(Act("inside", "choose the memory nodes of its memory", call, (), "linux.memoryPolicy", note=line))
    scheduler = process.get("scheduler")
    if scheduler:
        shown = ", ".join(f"sched_{name}={value}" for name, value in scheduler.items() if value)
        kind = scheduler.get("policy") or "SCHED_OTHER"
        lines = [f"chrt {_POLICIES.get(kind, '--other')} --pid {scheduler.get('priority') or 0} $$"]
        if kind == "SCHED_DEADLINE":
            times = " ".join(
                f"--sched-{name} {scheduler[name]}" for name in ("runtime", "deadline", "period") if scheduler.get(name)
            )
            lines = [f"chrt --deadline {times} --pid 0 $$"]
        if scheduler.get("nice"):
            lines.append(f"renice -n {scheduler['nice']} -p $$ > /dev/null")
        call = f"sched_setattr(0, {{{shown}}}, 0)"
        acts.append(Act("inside", f"be scheduled as {kind}", call, tuple(lines), "process.scheduler"))
    priority = process.get("ioPriority")
    if priority:
        kind, data = priority.get("class") or "IOPRIO_CLASS_BE", priority.get("priority") or 0
        call = f"ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE({kind}, {data}))"
        number = _CLASSES.get(kind, 2)
        line = f"ionice --class {number}" + (f" --classdata {data}" if number != 3 else "") + " --pid $$"
        acts.append(Act("inside", "set its I/O priority", call, (line,), "process.ioPriority"))
    return acts


def _caps(bits: int) -> str:
    return "|".join(f"1<<{name}" for name in capabilities.names(bits)) or "0"


def _setpriv(bits: int) -> str:
    """A capability set in the form of setpriv(1)."""
    return ",".join(["-all", *("+" + name[4:].lower() for name in capabilities.names(bits))])


def _privilege(sentence: str, call: str, flags: list[str], field: str) -> Act:
    return Act("program", sentence, call, (f"setpriv {' '.join(flags)} …",), field, "setpriv", tuple(flags))


def applied(spec: Spec, home: str) -> list[Act]:
    """The acts from the new root to the program; `home` is the HOME that is added, "" for none."""
    process = spec.get("process")
    if not process:
        return [Act("program", "wait for `start`, which fails: there is no process", "", (), "process")]
    linux = spec.get("linux") or {}
    who = Identity(process)
    acts = []
    personality = linux.get("personality")
    if personality:
        domain = "PER_LINUX32" if personality.get("domain") == "LINUX32" else "PER_LINUX"
        flag = "linux32" if domain == "PER_LINUX32" else "linux64"
        what = "pretend to be another system"
        call = f"personality({domain})"
        acts.append(Act("program", what, call, (f"setarch {flag} …",), "linux.personality", "setarch", (flag,)))
    acts += _rights(who)
    cwd = process.get("cwd") or "/"
    acts.append(Act("program", f"go to {cwd}", f'chdir("{cwd}")', (f"cd {word(cwd)}",), "process.cwd", "cd", (cwd,)))
    call = f"umask({who.umask:04o})"
    acts.append(
        Act("program", "set the umask", call, (call.replace("(", " ").rstrip(")"),), "process.user.umask", "umask")
    )
    for limit in process.get("rlimits") or ():
        name = limit["type"].removeprefix("RLIMIT_").lower()
        flag = f"--{name}={limit['soft']}:{limit['hard']}"
        call = f"prlimit64(0, {limit['type']}, {{rlim_cur={limit['soft']}, rlim_max={limit['hard']}}}, NULL)"
        acts.append(
            Act("program", f"limit {name}", call, (f"prlimit {flag} …",), "process.rlimits", "prlimit", (flag,))
        )
    acts += _labels(process)
    if linux.get("seccomp"):
        call = "seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=…, filter=…})"
        note = "no program of util-linux does it"
        acts.append(Act("program", "load the system call filter", call, (), "linux.seccomp", note=note))
    return [*acts, _program(process, home)]


def _rights(who: Identity) -> list[Act]:
    acts = []
    if who.no_new_privileges:
        call = "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"
        what = "forbid gaining privileges from setuid programs"
        acts.append(_privilege(what, call, ["--no-new-privs"], "process.noNewPrivileges"))
    bounding = who.masks["bounding"]
    dropped = who.last + 1 - len(capabilities.names(bounding))
    acts.append(
        _privilege(
            f"drop {dropped} capabilities permanently",
            f"prctl(PR_CAPBSET_DROP, …) for all but {', '.join(capabilities.names(bounding)) or 'none'}",
            [f"--bounding-set={_setpriv(bounding)}"],
            "process.capabilities.bounding",
        )
    )
    groups = ",".join(map(str, who.groups))
    call = f"setgroups({len(who.groups)}, [{groups}])"
    field = "process.user.additionalGids"
    acts.append(
        _privilege(
            f"keep only the groups {groups}" if groups else "drop all supplementary groups",
            call,
            [f"--groups={groups}" if groups else "--clear-groups"],
            field,
        )
    )
    call = f"setresgid({who.gid}, {who.gid}, {who.gid})"
    acts.append(_privilege(f"become group {who.gid}", call, [f"--regid={who.gid}"], "process.user.gid"))
    call = f"setresuid({who.uid}, {who.uid}, {who.uid})"
    acts.append(_privilege(f"become user {who.uid}", call, [f"--reuid={who.uid}"], "process.user.uid"))
    inheritable = who.masks["inheritable"]
    count = len(capabilities.names(who.masks["permitted"]))
    kept = f"{count} {'capability' if count == 1 else 'capabilities'}"
    call = (
        f"capset({{pid=0}}, {{effective={_caps(who.masks['effective'])}, permitted={_caps(who.masks['permitted'])}, "
        f"inheritable={_caps(inheritable)}}})"
    )
    acts.append(_privilege(f"keep {kept}", call, [f"--inh-caps={_setpriv(inheritable)}"], "process.capabilities"))
    ambient = who.masks["ambient"] & who.masks["permitted"] & inheritable
    call = "; ".join(
        ["prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"]
        + [f"prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {name})" for name in capabilities.names(ambient)]
    )
    flags = [f"--ambient-caps={_setpriv(ambient)}"]
    what = f"keep {len(capabilities.names(ambient)) or 'none'} of them across execve(2) as an ordinary user"
    acts.append(_privilege(what, call, flags, "process.capabilities.ambient"))
    return acts


def _labels(process: Spec) -> list[Act]:
    acts = []
    for field, file, option in (
        ("apparmorProfile", "attr/apparmor/exec", "--apparmor-profile"),
        ("selinuxLabel", "attr/exec", "--selinux-label"),
    ):
        label = process.get(field)
        if label:
            text = f"exec {label}" if field == "apparmorProfile" else label
            call = f'write(open("/proc/thread-self/{file}", O_WRONLY), "{text}")'
            acts.append(_privilege(f"be confined as {label}", call, [f"{option}={word(label)}"], "process." + field))
    return acts


def environment(process: Spec, home: str) -> list[str]:
    """The program's environment; if a variable is given twice, the last one counts."""
    listed = list({entry.partition("=")[0]: entry for entry in process.get("env") or ()}.values())
    if home:
        listed = [entry for entry in listed if not entry.startswith("HOME=")] + ["HOME=" + home]
    return listed


def _program(process: Spec, home: str) -> Act:
    args, variables = list(process.get("args") or ()), environment(process, home)
    shown = ", ".join(f'"{entry}"' for entry in args)
    call = f'execve("{args[0]}", [{shown}], [{len(variables)} variables])'
    line = " ".join(["env -i", *map(word, variables), *map(word, args)])
    return Act("program", "become the program", call, (line,), "process.args", "env", tuple(variables))
