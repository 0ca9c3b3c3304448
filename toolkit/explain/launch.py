"""The launch of a container, act by act: the plan's own steps, with what ctk does around them.

The steps are those that `ctk run` carries out (toolkit/runtime/plan.py), and each describes itself; the acts before,
beside and after them are computed from the same objects that the runtime uses (Identity, the cgroups' plans).
"""

import os
from dataclasses import dataclass, field
from typing import Any

from toolkit.errors import Invalid
from toolkit.explain import cgroups, identity
from toolkit.explain.act import Act
from toolkit.explain.check import read
from toolkit.explain.inside import Inside
from toolkit.explain.network import wiring
from toolkit.kernel import namespaces, reading
from toolkit.oci import check as rules
from toolkit.oci import json_text
from toolkit.runtime import plan as plans
from toolkit.runtime.cgroup_mount import JoinCgroup, MountCgroup
from toolkit.runtime.comfort.networks import Networking
from toolkit.runtime.comfort.overlay import LayOver
from toolkit.runtime.devices import MakeDevices
from toolkit.runtime.launch import INIT_ANNOTATION
from toolkit.runtime.steps import AwaitHooks, Step
from toolkit.text import quote

Spec = dict[str, Any]

_UNSHARE = {
    "user": "--user", "pid": "--pid", "network": "--net", "ipc": "--ipc", "uts": "--uts", "time": "--time",
    "cgroup": "--cgroup", "mount": "--mount",
}  # fmt: skip


_INIT = Act(
    "program",
    "stay as a small init: start the program as a child, pass signals on, reap dead processes",
    "clone(SIGCHLD); kill(CHILD, SIGNAL); wait4(-1, …)",
    note="a shell needs more than a line for it: trap, wait",
)


@dataclass
class Launch:
    """A bundle's launch, planned but not carried out."""

    spec: Spec
    bundle: str
    id: str
    root: str
    plan: plans.LaunchPlan
    cgroups: "cgroups.Cgroups | None"
    acts: list[Act] = field(default_factory=list)


class MakeConsole(Step):
    """The console's step, for explanation only: the real one needs the socket that the terminal is sent through."""

    __slots__ = ()

    def describe(self) -> "tuple[str, str, str]":
        """The same as in toolkit/runtime/console.py."""
        from toolkit.runtime.console import DESCRIPTION

        return DESCRIPTION


def of(
    bundle: str,
    container_id: str = "",
    *,
    config: str = "",
    no_pivot: bool = False,
    systemd: bool = False,
    layer: str | None = None,
    lowers: tuple[str, ...] = (),
    init: bool = False,
    asked: Networking | None = None,
) -> Launch:
    """The launch of the bundle in the folder `bundle`, with all its acts. Raises NotFound, Invalid.

    `layer` is the folder of a writable layer over the root, "" for one in memory; `lowers` are
    the folders below it, if they are not the root. `init` adds a small first process. `asked` is
    what `--net` and `-p` ask for.
    """
    text, bundle = read(bundle, config)
    document = json_text.loads(text)
    if not isinstance(document, dict):
        raise Invalid("", "it is not a JSON object")
    rules.require(document)
    spec: Any = document
    if asked is not None:
        asked.choose(spec)
    container_id = container_id or name_of(bundle)
    plans.name_host(spec, container_id)
    root = plans.root_path(spec, bundle)
    process = spec.get("process") or {}
    console = MakeConsole("process.terminal") if process.get("terminal") else None
    over = None
    if layer is not None:
        over = LayOver(os.path.abspath(layer) if layer else "", lowers, in_user_namespace=False)
    plan = plans.plan(spec, bundle, root, no_pivot=no_pivot, console=console, over=over)
    if "user" in plan.new:
        from toolkit.runtime import mapping

        mapping.complete(spec["linux"])
    known = cgroups.known(spec, container_id, systemd=systemd)
    launch = Launch(spec, bundle, container_id, root, plan, known)
    wired = wiring.acts(asked, container_id) if asked is not None else ()
    launch.acts = [*_before(launch), *_inside(launch), *wired, *_steps(launch), *_after(launch)]
    if init or (spec.get("annotations") or {}).get(INIT_ANNOTATION) == "true":
        launch.acts.insert(-1, _INIT)
    return launch


def name_of(bundle: str) -> str:
    """An id made from the name of the bundle's folder, for a container that has none yet."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in os.path.basename(bundle))
    return name.lstrip(".-") or "container"


def _before(launch: Launch) -> list[Act]:
    plan, linux = launch.plan, launch.spec.get("linux") or {}
    acts = []
    if launch.cgroups:
        acts.append(launch.cgroups.made())
    for kind, path in plan.joins:
        flag = namespaces.NAMESPACES[kind][0]
        option = f"{_UNSHARE[kind]}={quote(path)}"
        call = f'setns(open("{path}", O_RDONLY), {namespaces.flag_names(flag)})'
        where = _namespace_field(linux, kind)
        acts.append(
            Act(
                "outside",
                f"join the {kind} namespace {path}",
                call,
                (f"nsenter {option} …",),
                where,
                "nsenter",
                (option,),
            )
        )
    made = [kind for kind in _UNSHARE if kind in plan.new and kind != "cgroup"]
    flags = [_UNSHARE[kind] for kind in made]
    if "pid" in made:
        flags += ["--fork", "--kill-child"]
    if "mount" in made:
        flags += ["--propagation", "unchanged"]
    for clock, offset in (linux.get("timeOffsets") or {}).items():
        flags.append(f"--{clock}={(offset or {}).get('secs') or 0}")
    what = "make the first process in new namespaces: " + ", ".join(made) if made else "make the first process"
    call = f"clone3({{flags={namespaces.flag_names(plan.clone_flags)}, exit_signal=SIGCHLD}})"
    line = " ".join(["unshare", *flags, "sh …"]) if flags else "sh …"
    acts.append(Act("outside", what, call, (line,), "linux.namespaces", "unshare", tuple(flags)))
    if "user" in plan.new:
        for name in ("uidMappings", "gidMappings"):
            lines = [f"{e['containerID']} {e['hostID']} {e['size']}" for e in linux.get(name) or ()]
            file = "/proc/PID/" + name[0] + "id_map"
            call = f'write(open("{file}", O_WRONLY), "{"; ".join(lines)}")'
            shell = f"printf '%s\\n' {' '.join(map(quote, lines))} > {file}"
            acts.append(Act("outside", f"map the ids: {'; '.join(lines)}", call, (shell,), "linux." + name))
    if launch.cgroups:
        acts += launch.cgroups.limited()
    score = (launch.spec.get("process") or {}).get("oomScoreAdj")
    if score is not None:
        call = f'write(open("/proc/PID/oom_score_adj", O_WRONLY), "{score}")'
        line = f"echo {score} > /proc/self/oom_score_adj"
        acts.append(Act("outside", f"set its oom score to {score}", call, (line,), "process.oomScoreAdj", "oom"))
    for name, device in (linux.get("netDevices") or {}).items():
        target = (device or {}).get("name") or name
        call = f"sendmsg(netlink, {{RTM_NEWLINK, {name}, IFLA_NET_NS_PID=PID, IFLA_IFNAME={target}}})"
        line = f"ip link set {quote(name)} netns PID name {quote(target)}"
        acts.append(
            Act(
                "outside", f"move the interface {name} into the container", call, (line,), f"linux.netDevices[{name!r}]"
            )
        )
    return acts


def _namespace_field(linux: Spec, kind: str) -> str:
    for index, entry in enumerate(linux.get("namespaces") or ()):
        if entry.get("type") == kind:
            return f"linux.namespaces[{index}].path"
    return "linux.namespaces"


def _inside(launch: Launch) -> list[Act]:
    """The acts of the first process before the plan's steps (toolkit/runtime/first_process.py)."""
    acts = [
        Act("inside", "start a session of its own", "setsid()", note="a shell keeps its terminal's session"),
        Act(
            "inside",
            "join a new session keyring, without your keys",
            f'keyctl(KEYCTL_JOIN_SESSION_KEYRING, "_ses.{launch.id}")',
            note="no program of util-linux does it",
        ),
    ]
    if "network" in launch.plan.new:
        call = 'ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, {ifr_name="lo", ifr_flags=IFF_UP|IFF_RUNNING})'
        lines = ("mount -t sysfs sysfs /sys", "echo 0x9 > /sys/class/net/lo/flags", "umount /sys")
        acts.append(Act("inside", "bring up the loopback interface", call, lines, "linux.namespaces"))
    return acts + identity.shaped(launch.spec)


def _steps(launch: Launch) -> list[Act]:
    acts = []
    for place, step in enumerate(launch.plan.steps):
        if isinstance(step, JoinCgroup):
            if launch.cgroups:
                acts.append(launch.cgroups.joined(step, place))
            continue
        if isinstance(step, MountCgroup) and launch.cgroups:
            acts.append(launch.cgroups.mounted(step, place))
            continue
        sentence, calls, shell = step.describe()
        note = ""
        if isinstance(step, AwaitHooks):
            note = "ctk runs them, with the container's state as JSON on their standard input"
        elif isinstance(step, MakeConsole):
            note = "the terminal's other end stays with ctk, which passes on what you type"
        elif isinstance(step, MakeDevices) and "user" in launch.plan.new:
            note = "in a user namespace mknod(2) is refused: nodes made outside are bound instead"
        acts.append(
            Act("inside", sentence, calls, tuple(shell.split("\n")) if shell else (), step.field, step=place, note=note)
        )
    return acts


def _after(launch: Launch) -> list[Act]:
    acts = launch.cgroups.devices_limited() if launch.cgroups else []
    home = _home(launch)
    return acts + identity.applied(launch.spec, home)


def _home(launch: Launch) -> str:
    """HOME as the runtime adds it, from the image's /etc/passwd; "" if process.env has one."""
    process = launch.spec.get("process") or {}
    given = [entry for entry in process.get("env") or () if entry.startswith("HOME=")]
    if given and given[-1] != "HOME=":
        return ""
    uid = str((process.get("user") or {}).get("uid") or 0)
    path = Inside(launch.spec, launch.bundle).host_path("/etc/passwd")
    try:
        fd = reading.open_file(path)
        try:
            text = os.read(fd, 1 << 20).decode("utf-8", "surrogateescape")  # so much of it as the runtime reads
        finally:
            os.close(fd)
        for line in text.split("\n"):
            columns = line.split(":")
            if len(columns) > 5 and columns[2] == uid:
                return columns[5] or "/"
    except OSError:
        pass
    return "/"
