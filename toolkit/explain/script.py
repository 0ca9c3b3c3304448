"""A launch as a plain POSIX shell script: the acts' own shell lines, put together so that they really start it.

What makes it more than a list: after pivot_root(2) the host's programs are out of reach, and before it nothing may give
up the privileges for it. So the container's first process ends as a shell of the host that has given up everything
(setpriv, prlimit, env have run) and only waits, with builtins left to do. A helper outside then enters its mount
namespace twice by nsenter(1): to pivot, and to unmount the old root. That second time it lands in the old root, which
lies on top; pivot_root(2) has moved the waiting shell to the new one (pivot_root(2), NOTES).
"""

from toolkit.errors import HostLacks
from toolkit.explain.act import Act
from toolkit.explain.launch import Launch
from toolkit.runtime.cgroup_mount import JoinCgroup
from toolkit.runtime.shell_words import propagation
from toolkit.runtime.steps import EnterRoot, MakeRootReadOnly, SetRootPropagation
from toolkit.text import one_line
from toolkit.text import quote as word

_JOINED_BY_NSENTER = ("network", "ipc", "uts", "cgroup")


def write(launch: Launch) -> str:
    """The script. Raises HostLacks for a launch that no shell with util-linux can carry out."""
    _refuse(launch)
    outside = [act for act in launch.acts if act.side == "outside" and act.tool not in ("unshare", "nsenter", "oom")]
    late = [act for act in outside if act.field == "linux.resources.devices"]
    joins = [flag for act in launch.acts if act.tool == "nsenter" for flag in act.flags]
    unshare = next(act for act in launch.acts if act.tool == "unshare")
    start = " ".join([*(("nsenter", *joins) if joins else ()), "unshare", *unshare.flags])
    lines = [
        "#!/bin/sh",
        _comment(f"The container of {launch.bundle}/config.json, by `ctk explain --script`: the steps of ctk, done by"),
        "# programs of util-linux and coreutils. Run it as root, and only with a root that you trust: unlike ctk it",
        "# follows the root's symbolic links.",
        *_left_out(launch),
        "set -eu",
        "",
        f"export root={word(launch.root)}",
        "work=$(mktemp -d)",
        "export work",
        'mkfifo "$work/ready" "$work/go"',
        "",
    ]
    if launch.cgroups:
        lines += ["clean_up() {", *("  " + line + " 2>/dev/null || :" for line in launch.cgroups.removed())]
    else:
        lines += ["clean_up() {"]
    lines += [
        '  rm -r "$work"',
        "}",
        "trap 'code=$?; kill \"$helper\" 2>/dev/null || :; clean_up; exit $code' EXIT",
        "helper=",
        "",
        "# -- outside",
    ]
    limits = [act for act in outside if act.field.startswith("linux.resources") and act not in late]
    for act in outside:
        if act not in late and act not in limits:
            lines += _told(act)
    lines += [
        "",
        "# -- the limits, and the new root entered from outside: see the end of the inner part",
        "enter() {",
        '  read -r pid < "$work/ready"',
        "  trap 'kill -s KILL \"$pid\"' EXIT",
        # As ctk does: only now, for what lets the program run can be too little for what sets it up.
        *("  " + line for act in limits for line in _told(act)),
        '  nsenter --mount="/proc/$pid/ns/mnt" sh -c \'cd "$root" && pivot_root . .\'',
        '  nsenter --mount="/proc/$pid/ns/mnt" umount -l /',
        "  trap - EXIT",
        '  echo go > "$work/go"',
        "}",
        "enter &",
        "helper=$!",
        "",
        "# -- inside, in the new namespaces",
        *_kept("inside", ["set -eu", *_inside(launch, late)]),
        "",
        *_kept("first", ["set -eu", *_first(launch)]),
        "",
        "export inside",
        f'{start} sh -c "$first"',
    ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """A comment, which must not end before its line does, whatever a document's names are."""
    return "# " + one_line(text)


def _kept(name: str, lines: list[str]) -> list[str]:
    """A script in a variable; the word that ends it is none of its lines."""
    inner = "\n".join(lines).split("\n")
    end = name.upper()
    while end in inner:
        end += "_"
    return [f"{name}=$(cat <<'{end}'", *inner, end, ")"]


def _refuse(launch: Launch) -> None:
    because = ""
    plan = launch.plan
    if "user" in plan.new or any(kind == "user" for kind, _ in plan.joins):
        because = "it has a user namespace, which wants its ids mapped from outside"
    elif "mount" not in plan.new:
        because = "it has no mount namespace of its own"
    elif any(kind not in _JOINED_BY_NSENTER for kind, _ in plan.joins):
        because = "it joins a namespace that nsenter(1) cannot join on the way"
    elif not (launch.spec.get("process") or {}).get("args"):
        because = "there is no process"
    if because:
        raise HostLacks("write the launch as a script", because=because, hint="`ctk explain` shows it step by step")


def _left_out(launch: Launch) -> list[str]:
    """What the script does not do, said in its head."""
    process, linux = launch.spec.get("process") or {}, launch.spec.get("linux") or {}
    missing = ["a session and a keyring of its own (setsid, keyctl)"]
    if linux.get("seccomp"):
        missing.append("the system call filter (linux.seccomp): this container is less confined")
    if process.get("terminal"):
        missing.append("a terminal of its own: it uses yours")
    if any((launch.spec.get("hooks") or {}).values()):
        missing.append("hooks")
    if linux.get("memoryPolicy"):
        missing.append("linux.memoryPolicy")
    if linux.get("netDevices"):
        missing.append("linux.netDevices, but for the line that ip(8) would take")
    if launch.cgroups and launch.cgroups.unified:
        missing.append("device rules (linux.resources.devices): cgroup v2 takes an eBPF program for them")
    if launch.cgroups is None or launch.cgroups.systemd:
        missing.append("systemd's scope")
    if any(m.get("uidMappings") or "idmap" in (m.get("options") or ()) for m in launch.spec.get("mounts") or ()):
        missing.append("id-mapped mounts: owners are the host's")
    return [f"# Not in it: {what}." for what in missing]


def _told(act: Act) -> list[str]:
    """An act's lines with the sentence and the field above them."""
    if not act.shell:
        return []
    by = f"  ({act.field})" if act.field else ""
    return [_comment(act.sentence + by), *act.shell]


def _first(launch: Launch) -> list[str]:
    """The first thing in the new namespaces: join the cgroups, of which a cgroup namespace is then made."""
    lines = []
    own_namespace = False
    for act in launch.acts:
        step = launch.plan.steps[act.step] if act.step >= 0 else None
        if isinstance(step, JoinCgroup):
            own_namespace = step.unshare
            lines += [
                _comment(f"{act.sentence}  ({act.field})"),
                *(line for line in act.shell if line.startswith("echo 0")),
            ]
    score = next((act for act in launch.acts if act.tool == "oom"), None)
    if score:
        lines += _told(score)
    return [*lines, f'exec {"unshare --cgroup " if own_namespace else ""}sh -c "$inside"']


def _inside(launch: Launch, late: list[Act]) -> list[str]:
    lines: list[str] = []
    for act in launch.acts:
        if act.side != "inside":
            continue
        step = launch.plan.steps[act.step] if act.step >= 0 else None
        if isinstance(step, JoinCgroup | EnterRoot):
            continue
        if isinstance(step, MakeRootReadOnly):
            act = Act(act.side, act.sentence, "", ('mount -o remount,bind,ro "$root"',), act.field)
        elif isinstance(step, SetRootPropagation):
            act = Act(act.side, act.sentence, "", (f'mount {propagation(step.flags)} "$root"',), act.field)
        lines += _told(act)
    for act in late:
        lines += _told(act)
    return [*lines, "", *_program(launch)]


def _program(launch: Launch) -> list[str]:
    """The end: give everything up, say so, wait for the new root, become the program."""
    process = launch.spec["process"]
    program = [act for act in launch.acts if act.side == "program"]

    def flags(tool: str) -> list[str]:
        return [flag for act in program if act.tool == tool for flag in act.flags]

    chain = []
    if limits := flags("prlimit"):
        chain.append(["prlimit", *limits])
    if kinds := flags("setarch"):
        chain.append(["setarch", *kinds])
    chain.append(["setpriv", *flags("setpriv")])
    chain.append(["env", "-i", *map(word, flags("env"))])
    umask = next(act.shell[0] for act in program if act.tool == "umask")
    cwd = word(process.get("cwd") or "/")
    last = f'read -r go <&9; exec 9<&-; cd {cwd}; unset OLDPWD; {umask}; exec "$@"'
    return [
        "# the program: everything is given up first, then the helper outside enters the new root for us",
        "read -r pid rest < /proc/self/stat",
        'exec 8> "$work/ready" 9<> "$work/go"',
        "exec " + " \\\n  ".join(" ".join(words) for words in chain) + " \\",
        f'  sh -c {word("echo $0 >&8; exec 8>&-; " + last)} "$pid" {" ".join(map(word, process["args"]))}',
    ]
