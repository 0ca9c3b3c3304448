"""A launch as a plain POSIX shell script: the acts' own shell lines, arranged so that they start the container.

It takes more than a list of lines: after pivot_root(2) the host's programs are out of reach, and before it nothing may
drop the privileges that it needs. So the container's first process becomes a shell of the host that has dropped
everything (setpriv, prlimit, env have run) and waits, with only builtins left to run. A helper outside then enters its
mount namespace twice with nsenter(1): to pivot, and to unmount the old root. The second time it enters the old root,
which is on top; pivot_root(2) has moved the waiting shell to the new one (pivot_root(2), NOTES).
"""

from dataclasses import dataclass

from toolkit.errors import CtkError, HostLacks
from toolkit.explain import script_hooks, script_program, script_user
from toolkit.explain.act import Act
from toolkit.explain.launch import Launch, MakeConsole
from toolkit.runtime import seccomp
from toolkit.runtime.cgroup_mount import JoinCgroup
from toolkit.runtime.new_root import EnterRoot, MakeRootReadOnly, SetRootPropagation
from toolkit.runtime.shell_words import propagation
from toolkit.runtime.steps import AwaitHooks
from toolkit.text import one_line, quote

_JOINED_BY_NSENTER = ("network", "ipc", "uts", "cgroup")


def write(launch: Launch) -> str:
    """The script. Raises HostLacks for a launch that a shell with util-linux can't carry out."""
    _refuse(launch)
    joins = [flag for act in launch.acts if act.tool == "nsenter" for flag in act.flags]
    unshare = next(act for act in launch.acts if act.tool == "unshare")
    user = script_user.wanted(launch)
    made = ("--mount", "--propagation", "slave") if user else unshare.flags
    start = " ".join([*(("nsenter", *joins) if joins else ()), "unshare", *made, 'sh -c "$first"'])
    if (launch.spec.get("process") or {}).get("terminal"):
        start = f"SHELL=/bin/sh script -q -e -c {quote('exec ' + start)} /dev/null"
    outside = _Outside.of(launch)
    lines = [
        *_preamble(launch, user=user),
        *_clean_up(launch),
        *outside.before(),
        *_helper(launch, outside, user=user),
        "# -- inside, in the new namespaces",
        *_kept("inside", ["set -eu", *_inside(launch, [] if user else outside.late)]),
        "",
    ]
    if user:
        own_cgroups = any(isinstance(step, JoinCgroup) and step.unshare for step in launch.plan.steps)
        entered = script_user.entered(unshare.flags, own_cgroups=own_cgroups)
        lines += [*_kept("mapped", ["set -eu", *entered]), "export mapped", ""]
    lines += [*_kept("first", ["set -eu", *_first(launch)]), "", "export first inside", start]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Outside:
    """The acts outside the new namespaces."""

    acts: list[Act]
    limits: list[Act]
    late: list[Act]  # device rules: the deny-all must not meet the mknod(1) of the inner part

    @classmethod
    def of(cls, launch: Launch) -> "_Outside":
        every = [act for act in launch.acts if act.side == "outside" and act.tool not in ("unshare", "nsenter", "oom")]
        late = [act for act in every if act.field == "linux.resources.devices"]
        limits = [act for act in every if act.field.startswith("linux.resources") and act not in late]
        return cls([act for act in every if act not in late and act not in limits], limits, late)

    def before(self) -> list[str]:
        """The lines before the namespaces are made."""
        lines = ["# -- outside"]
        for act in self.acts:
            if act.field.startswith("linux.netDevices"):
                lines += map(_comment, act.shell)
            elif not act.field.endswith("idMappings"):
                lines += _told(act)
        return [*lines, ""]


def _preamble(launch: Launch, *, user: bool) -> list[str]:
    hooked = any((launch.spec.get("hooks") or {}).values())
    return [
        "#!/bin/sh",
        _comment(
            f"The container of {launch.bundle}/config.json, written by `ctk explain --script`: ctk's own steps, done"
        ),
        "# with programs of util-linux and coreutils. Run it as root, and only with a root file system that you trust:",
        "# unlike ctk it follows the root's symbolic links.",
        *_left_out(launch),
        "set -eu",
        "",
        f"export root={quote(launch.root)}",
        "work=$(mktemp -d)",
        "export work",
        'mkfifo "$work/ready" "$work/go" "$work/made" "$work/hooked"',
        *(script_user.rooms(launch) if user else ()),
        *(script_hooks.state_function(launch) if hooked else ()),
        *_filter(launch),
        "",
    ]


def _clean_up(launch: Launch) -> list[str]:
    """The clean-up, which runs however the script ends."""
    lines = ["clean_up() {"]
    if launch.cgroups:
        lines += ["  " + line + " 2>/dev/null || :" for line in launch.cgroups.removed()]
    if stopped := script_hooks.lines(launch, "poststop", "stopped", ""):
        lines += [
            '  if [ -e "$work/started" ]; then',
            *(f"    {line} || :" for line in stopped if line[0] != "#"),
            "  fi",
        ]
    return [
        *lines,
        '  rm -r "$work"',
        "}",
        # After the start the helper ends by itself; before it, it may wait for ever and has to be killed.
        "end() {",
        '  if [ -e "$work/started" ]; then wait "$helper" || :; else kill "$helper" 2>/dev/null || :; fi',
        "  clean_up",
        "}",
        "trap 'code=$?; end; exit $code' EXIT",
        "helper=",
        "",
    ]


def _helper(launch: Launch, outside: _Outside, *, user: bool) -> list[str]:
    """The process that stays outside and does its part when the inner one is ready."""
    return [
        "# -- the limits, and the new root entered from outside: see the end of the inner part",
        "enter() {",
        '  pid=; trap \'[ -z "$pid" ] || kill -s KILL "$pid"\' EXIT',
        *("  " + line for line in (script_user.mapped_by_helper(launch) if user else ())),
        *(["  " + line for line in _hooks_from_outside(launch)] if script_hooks.awaited(launch) else []),
        '  read -r pid < "$work/ready"',
        # Late, as ctk does it: limits that are enough for the program can be too small for the set-up.
        *("  " + line for act in (*outside.limits, *(outside.late if user else ())) for line in _told(act)),
        *("  " + line for line in (script_user.named_by_helper(launch) if user else ())),
        f'  nsenter --mount="/proc/$pid/ns/mnt" sh -c \'cd "{"$work/root" if user else "$root"}" && pivot_root . .\'',
        '  nsenter --mount="/proc/$pid/ns/mnt" umount -l /',
        '  : > "$work/started"',
        '  echo go > "$work/go"',
        *("  " + line for line in script_hooks.lines(launch, "poststart", "running", '"$pid"')),
        "  trap - EXIT",
        "}",
        "enter &",
        "helper=$!",
        "",
    ]


def _comment(text: str) -> str:
    """A comment on one line, even if a name in the document contains a newline."""
    return "# " + one_line(text)


def _kept(name: str, lines: list[str]) -> list[str]:
    """Lines that put a script into a variable; the here-document's delimiter is not one of its lines."""
    inner = "\n".join(lines).split("\n")
    end = name.upper()
    while end in inner:
        end += "_"
    return [f"{name}=$(cat <<'{end}'", *inner, end, ")"]


def _refuse(launch: Launch) -> None:
    because = ""
    plan = launch.plan
    if any(kind == "user" for kind, _ in plan.joins):
        because = "it joins a user namespace, in which a process no longer has the privileges of the host's root"
    elif "mount" not in plan.new:
        because = "it has no mount namespace of its own"
    elif any(kind not in _JOINED_BY_NSENTER for kind, _ in plan.joins):
        because = "it joins a kind of namespace that this script cannot join with nsenter(1)"
    elif not (launch.spec.get("process") or {}).get("args"):
        because = "there is no process"
    if because:
        raise HostLacks("write the launch as a script", because=because, hint="`ctk explain` shows it step by step")


def _left_out(launch: Launch) -> list[str]:
    """Comments at the top of the script about what it does not do."""
    process, linux = launch.spec.get("process") or {}, launch.spec.get("linux") or {}
    missing = ["a session and a keyring of its own (setsid, keyctl)"]
    if process.get("terminal"):
        missing.append("a terminal of its own devpts: script(1) makes one of the host's")
    missing += script_hooks.left_out(launch)
    if names := script_program.left_out(script_program.variables(launch)):
        missing.append(f"the variables {one_line(', '.join(names))}: the shell reserves them")
    if linux.get("memoryPolicy"):
        missing.append("linux.memoryPolicy")
    if linux.get("netDevices"):
        missing.append("linux.netDevices, except for the ip(8) command in a comment")
    if launch.cgroups and launch.cgroups.unified:
        missing.append("device rules (linux.resources.devices): cgroup v2 takes an eBPF program for them")
    if launch.cgroups is None or launch.cgroups.systemd:
        missing.append("systemd's scope")
    if any(m.get("uidMappings") or "idmap" in (m.get("options") or ()) for m in launch.spec.get("mounts") or ()):
        missing.append("id-mapped mounts: owners are the host's")
    return [f"# Left out: {what}." for what in missing]


def _told(act: Act) -> list[str]:
    """An act's lines, with its sentence and field in a comment above them."""
    if not act.shell:
        return []
    by = f"  ({act.field})" if act.field else ""
    return [_comment(act.sentence + by), *act.shell]


def _first(launch: Launch) -> list[str]:
    """The first lines in the new namespaces: join the cgroups; they become the root of the cgroup namespace."""
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
    if script_user.wanted(launch):
        return [*lines, *script_user.prepared(launch), 'exec unshare --user --keep-caps sh -c "$mapped"']
    return [*lines, f'exec {"unshare --cgroup " if own_namespace else ""}sh -c "$inside"']


def _inside(launch: Launch, late: list[Act]) -> list[str]:
    lines: list[str] = []
    for act in launch.acts:
        if act.side != "inside":
            continue
        step = launch.plan.steps[act.step] if act.step >= 0 else None
        if isinstance(step, JoinCgroup | EnterRoot):
            continue
        if isinstance(step, AwaitHooks):
            lines += _hooks_from_inside(launch)
            continue
        if script_user.wanted(launch):
            done = script_user.told(launch, act)
            if done is None:
                continue
            act = done
        if isinstance(step, MakeConsole):
            lines += _console()
        if isinstance(step, MakeRootReadOnly):
            act = Act(act.side, act.sentence, "", ('mount -o remount,bind,ro "$root"',), act.field)
        elif isinstance(step, SetRootPropagation):
            act = Act(act.side, act.sentence, "", (f'mount {propagation(step.flags)} "$root"',), act.field)
        lines += _told(act)
    for act in late:
        lines += _told(act)
    return [*lines, "", *script_program.lines(launch)]


def _hooks_from_outside(launch: Launch) -> list[str]:
    """For the helper: the hooks that run on the host once the root is set up."""
    return [
        'read -r pid < "$work/made"',
        *script_hooks.lines(launch, "prestart", "created", '"$pid"'),
        *script_hooks.lines(launch, "createRuntime", "creating", '"$pid"'),
        'echo go > "$work/hooked"',
    ]


def _hooks_from_inside(launch: Launch) -> list[str]:
    lines = ["# the hooks that run outside, and those that run in here", "read -r pid rest < /proc/self/stat"]
    lines += ['echo "$pid" > "$work/made"', 'read -r go < "$work/hooked"']
    if script_hooks.of(launch, "createContainer"):
        lines += [*script_hooks.state_function(launch)]
        lines += script_hooks.lines(launch, "createContainer", "creating", '"$pid"')
    return lines


def _filter(launch: Launch) -> list[str]:
    """The system call filter as a file for setpriv(1), which loads one since util-linux 2.40."""
    profile = (launch.spec.get("linux") or {}).get("seccomp")
    if not profile:
        return []
    said = "no system call filter: loading linux.seccomp needs setpriv of util-linux 2.40 or newer"
    try:
        program = seccomp.program_for(profile, None)
    except CtkError as error:
        return [_comment(f"Left out: the system call filter: {error}"), "export filter="]
    code = "".join(f"\\{byte:03o}" for byte in program.code)
    return [
        "export filter=",
        "case $(setpriv --help) in",
        f'*--seccomp-filter*) printf {quote(code)} > "$work/filter"; filter=--seccomp-filter=$work/filter ;;',
        f"*) echo {quote(said)} >&2 ;;",
        "esac",
    ]


def _console() -> list[str]:
    told = "# the terminal that script(1) made, as large as yours  (process.terminal)"
    return [told, ': > "$root/dev/console"', 'mount --bind "$(tty)" "$root/dev/console"']
