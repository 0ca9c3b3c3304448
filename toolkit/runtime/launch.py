"""The parent side of a launch: from config.json to a container that waits for `start` (or runs at once)."""

import errno
import os

from toolkit.errors import CtkError, HostLacks, Invalid, NotFound, reason
from toolkit.kernel import process, reading, roots
from toolkit.kernel.host import HostFacts
from toolkit.oci import check, json_text

# `check` imports this on demand; here it always needs it, so preload.py loads it with the rest.
from toolkit.oci import check_linux as _check_linux  # noqa: F401
from toolkit.oci import check_resources as _check_resources  # noqa: F401
from toolkit.runtime import (
    cgroups,
    first_process,
    hooks,
    log,
    outside,
    plan,
    preparation,
    record,
    spawn,
    stops,
)
from toolkit.runtime import conversation as words
from toolkit.runtime.argv import FLAGS
from toolkit.runtime.ending import Ending
from toolkit.runtime.identity import raise_rlimits
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from toolkit.oci.types import Spec
    from toolkit.runtime.comfort.networks import Networking
    from toolkit.runtime.console import MakeConsole
    from toolkit.runtime.notify import Listener
    from toolkit.runtime.options import Options
    from toolkit.runtime.record import Record
    from toolkit.runtime.steps import Step


class Launch:
    """A container that is being made: what `create` and `run` know about it, and what to undo if they fail."""

    def __init__(self, options: "Options") -> None:
        self.options = options
        self.listening = preparation.listening()  # read here: a child of ours may do the launch (holder.py)
        self.pid = 0
        self.spec: "Spec" = {}
        self.text = b""  # the text of config.json
        self.bundle = ""
        self.record: "Record | None" = None
        self.cgroup: "cgroups.Manager | None" = None
        self.console: "socket | None" = None  # our end of the terminal's socket, when we relay it ourselves
        self.mapped = False  # the ids of the new user namespace are mapped
        self.master = -1  # of that terminal
        self.waits = False  # the child waits at its fifo for `start`
        self.has_cgroup = False  # it was made before the child was
        self.overlay: "Step | None" = None  # lays a writable layer over the root (comfort/overlay.py)
        self.init = False  # a small first process of ours stays (handover.py)
        self.stdio: "tuple[int, int, int] | None" = None  # in place of our own standard streams
        self.notify: "Listener | None" = None  # to what its program tells the service manager
        self.network: "Networking | None" = None  # what --net and -p ask for
        self.extra: "dict[str, Any]" = {}  # what the record keeps beside it


INIT_ANNOTATION = "ctk.init"
"""Annotation of a spec that wants the small first process of `--init`: "true"."""


def read_bundle(options: "Options") -> "tuple[Spec, bytes, str]":
    """(spec, its text, the bundle's absolute path). Raises NotFound, Invalid."""
    bundle = os.path.abspath(options.bundle or ".")
    path = os.path.join(bundle, options.config or "config.json")
    try:
        text = reading.read(os.path.realpath(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(
                f"open {options.config or 'config.json'}",
                because=f"no such file or directory (the bundle is {bundle!r})",
                hint=(options.id and not options.bundle and record.kept_bundle(options.id))
                or "make one with `ctk spec`, name the bundle with --bundle DIR, or do all: ctk up SUITE NAME",
            ) from None
        raise CtkError(f"open {path!r}", because=reason(error)) from None
    document = json_text.loads(text)
    if not isinstance(document, dict):
        raise Invalid("", "it is not a JSON object")
    for finding in check.errors(document):
        raise Invalid(finding.path, finding.message, hint=finding.hint)
    spec: "Any" = document
    return spec, text, bundle


def create(launch: Launch, *, wait_for_start: bool) -> None:
    """Make the container; then its process waits for `start`, or runs. All or nothing. Raises CtkError."""
    options = launch.options
    launch.spec, launch.text, launch.bundle = read_bundle(options)
    if launch.network is not None:
        launch.text = launch.network.choose(launch.spec)
    spec = launch.spec
    if not wait_for_start and not spec.get("process"):
        raise Invalid("process", "is required to start a container")
    plan.name_host(spec, options.id)
    root = plan.root_path(spec, launch.bundle)
    check_root(root, spec)
    terminal = bool((spec.get("process") or {}).get("terminal"))
    _check_terminal(options, terminal, wait_for_start)
    rec = launch.record = record.reserve(options.root, options.id)
    try:
        stops.passed()
        rec.bundle, rec.rootfs, rec.terminal = launch.bundle, root, terminal
        rec.annotations = spec.get("annotations") or {}
        rec.oci_version = spec["ociVersion"]
        rec.rootless = os.geteuid() != 0
        rec.extra = launch.extra
        rec.save_config(launch.text)
        stops.passed()
        linux = spec.get("linux") or {}
        if linux.get("intelRdt"):
            raise HostLacks(
                "set up linux.intelRdt",
                because="ctk does not support Intel RDT",
                hint="remove linux.intelRdt",
            )
        launch.cgroup = cgroup_manager(options, linux.get("cgroupsPath"), rec.annotations)
        if os.environ.get("NOTIFY_SOCKET"):
            from toolkit.runtime import notify

            if notify.prepare(rec, spec) and not wait_for_start:
                launch.notify = notify.listener_for(rec)
        # The cgroups' paths are written to disk before the cgroups exist: whatever kills us, `delete` finds them.
        rec.cgroups = launch.cgroup.facts()
        rec.save()
        stops.passed()
        # startContainer hooks are run by `start`, before the program: `run` then calls it.
        launch.waits = wait_for_start or bool((spec.get("hooks") or {}).get("startContainer"))
        _start_child(launch, root, launch.waits)
    except BaseException:
        undo(launch)
        raise


def undo(launch: Launch) -> None:
    """Remove everything that exists of the container."""
    if launch.pid > 0:
        try:
            os.kill(launch.pid, 9)
            os.waitpid(launch.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
    if launch.cgroup is not None:
        try:
            launch.cgroup.kill()
            launch.cgroup.delete()
        except (CtkError, OSError) as error:  # the first error is reported, not that of the clean-up
            log.warning(str(error))
    if launch.network is not None:
        launch.network.undo(launch)
    if launch.record is not None:
        try:
            launch.record.remove()
        except OSError as error:
            log.warning(f"remove {launch.record.folder!r}: {reason(error)}")


def cgroup_manager(options: "Options", path: "str | None", annotations: "dict[str, str]") -> "cgroups.Manager":
    """The manager of the cgroup that the command line and linux.cgroupsPath ask for; it has not made anything yet."""
    if options.cgroup_manager == "disabled":
        return cgroups.none()
    rootless = _is_rootless(options)
    return cgroups.manager(path, options.id, systemd=options.systemd_cgroup, rootless=rootless, annotations=annotations)


def _is_rootless(options: "Options") -> bool:
    if options.rootless not in ("", "auto"):
        return FLAGS.get(options.rootless, bool(options.rootless))
    if os.geteuid() != 0:
        return True
    # Root in a user namespace, as under rootless podman, has no rights over the host's cgroups.
    return HostFacts().in_user_namespace


def check_root(root: str, spec: "Spec") -> None:
    """Raise NotFound unless the folder exists, Invalid if it is our own `/`."""
    try:
        own = roots.is_own(root)
    except OSError as error:
        given = spec["root"]["path"]
        raise NotFound(
            f"use {root!r} as the root (root.path: {given!r})",
            because=reason(error),
            hint=f"make it with `ctk bootstrap SUITE {quote(given)}`, or write the right one into root.path",
        ) from None
    if own:
        raise Invalid(
            "root.path",
            f"is the host's own root: {spec['root']['path']!r}",
            hint="make a root for the container: ctk bootstrap SUITE DIR",
        )


def _check_terminal(options: "Options", terminal: bool, wait_for_start: bool) -> None:
    detached = wait_for_start or options.detach
    if terminal and detached and not options.console_socket:
        raise CtkError(
            "cannot allocate tty if runc will detach without setting console socket",
            hint="give --console-socket or (`run`) --hold, or set process.terminal to false",
        )
    if options.console_socket and not (terminal and detached):
        raise CtkError("cannot use console socket if runc will not detach or allocate tty")


def _start_child(launch: Launch, root: str, wait_for_start: bool) -> None:
    ending = _ending(launch)
    console_step, child_end = preparation.console_step(launch, launch.spec.get("process") or {})
    the_plan = _planned(launch, root, console_step)
    rec, cgroup = launch.record, launch.cgroup
    assert rec is not None and cgroup is not None
    if wait_for_start:
        rec.make_fifo()
        # Opened for both directions: so it never reports an end, and `start` gets ENXIO if nothing waits any more.
        ending.fifo = os.open(rec.fifo_path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    preparation.open_label_proc(ending)
    prepared = spawn.Prepared(the_plan, ending, cgroup, words.pair())
    if the_plan.wants_hooks:
        hooks.send_output(rec.annotations)
        _enter_bundle(launch)
    if child_end is not None:
        prepared.terminal = child_end.fileno()
    first_process.start(launch, prepared)
    if child_end is not None:
        child_end.close()
    stops.passed()
    _handshake(launch, prepared)
    if ending.fifo >= 0:
        os.close(ending.fifo)


def _ending(launch: Launch) -> Ending:
    """The settings for the execve(2) at the end."""
    options, rec = launch.options, launch.record
    assert rec is not None
    ending = Ending(launch.spec.get("process") or {})
    ending.preserved = preparation.preserved(options.preserve_fds, ending, launch.listening)
    ending.stdio = launch.stdio
    if launch.init or rec.annotations.get(INIT_ANNOTATION) == "true":
        ending.init = True
    if not options.no_new_keyring:
        ending.keyring = f"_ses.{options.id}"
    preparation.prepare_seccomp(ending, launch.spec, rec)
    return ending


def _planned(launch: Launch, root: str, console_step: "MakeConsole | None") -> "plan.LaunchPlan":
    spec = launch.spec
    linux = spec.get("linux") or {}
    the_plan = plan.plan(
        spec,
        launch.bundle,
        root,
        no_pivot=launch.options.no_pivot,
        console=console_step,
        over=launch.overlay,
        mount_label=preparation.mount_label(linux) if linux.get("mountLabel") else "",
    )
    if linux.get("sysctl") and the_plan.joins:
        preparation.refuse_host_sysctls(the_plan, linux)
    if spec.get("mounts") and not the_plan.own_mounts:
        log.warning("mounts are left out: without a mount namespace they would change the host")
    if "user" in the_plan.new:
        from toolkit.runtime import mapping

        mapping.complete(spec["linux"])
    return the_plan


def _handshake(launch: Launch, prepared: spawn.Prepared) -> None:
    """Go through the launch with the child, up to the point where its program begins."""
    parent = prepared.parent
    _parent_handshake(launch, prepared)
    if prepared.pidfd >= 0 and launch.options.pidfd_socket:
        from toolkit.runtime import console

        console.send_pidfd(launch.options.pidfd_socket, prepared.pidfd)
    if launch.console is not None:
        from toolkit.runtime import console

        launch.master = console.take(launch.console)
    log.debug("init: closing the pipe to signal completion")
    message = prepared.ending.listener_message
    parent.go(message(launch.pid) if message is not None else None)
    stops.passed()
    parent.hear_end()
    if prepared.intermediate:
        _reap(prepared.intermediate)
    stops.passed()
    for text in parent.warnings:
        log.warning(text)
    parent.close()
    if prepared.hook_streams is not None:
        prepared.hook_streams.close()


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the caller ignores SIGCHLD


def _enter_bundle(launch: Launch) -> None:
    """Change to the bundle, as hooks expect; the caller's relative paths keep their meaning."""
    options = launch.options
    for name in ("pid_file", "pidfd_socket"):
        if getattr(options, name):
            setattr(options, name, os.path.abspath(getattr(options, name)))
    os.chdir(launch.bundle)


def _parent_handshake(launch: Launch, prepared: spawn.Prepared) -> None:
    """The parent's half of the handshake, up to the point before GO."""
    spec, rec, pid = launch.spec, launch.record, launch.pid
    the_plan, cgroup, parent = prepared.plan, prepared.cgroup, prepared.parent
    assert rec is not None
    linux = spec.get("linux") or {}
    the_process = spec.get("process") or {}
    if "user" in the_plan.new and not launch.mapped:
        from toolkit.runtime import mapping

        mapping.write(pid, linux.get("uidMappings") or (), linux.get("gidMappings") or ())
    if prepared.userns:
        parent.say(words.MAPPED)
    resources = linux.get("resources") or {}
    raise_rlimits(pid, the_process.get("rlimits") or [])
    if not launch.has_cgroup:
        spawn.create_cgroup(cgroup)
        stops.passed()
    if prepared.entry is None:
        cgroup.join(pid)
        stops.passed()
    preparation.reset_affinity(pid)
    cgroup.delegate(spec)
    parent.say(words.JOINED)
    cgroup.apply(resources)
    stops.passed()
    if the_process.get("oomScoreAdj") is not None:
        outside.write_oom_score(pid, the_process["oomScoreAdj"])
    rec.pid, rec.start_time = pid, process.start_time(pid)
    rec.cgroups = cgroup.facts()
    for name, device in (linux.get("netDevices") or {}).items():
        from toolkit.runtime import net_devices

        # By its path if one is joined, because the child may not have joined it yet.
        joined = next((path for kind, path in the_plan.joins if kind == "network"), f"/proc/{pid}/ns/net")
        net_devices.move(name, device.get("name") or name, joined)
    if launch.network is not None:
        launch.network.attach(launch)
    if the_plan.wants_hooks:
        if prepared.hook_streams is not None:
            prepared.hook_streams.put(hooks.state_for(rec, "creating", pid))
        parent.hear(words.MOUNTED)
        hooks_of = spec["hooks"]
        # For the deprecated prestart hooks the status is "created" (runtime spec 1.0, "Prestart"; crun does the same,
        # runc says "creating").
        hooks.run("prestart", hooks_of.get("prestart") or (), hooks.state_for(rec, "created", pid))
        hooks.run("createRuntime", hooks_of.get("createRuntime") or (), hooks.state_for(rec, "creating", pid))
        parent.say(words.HOOKED)
    parent.hear(words.READY)
    rec.root_place = parent.root
    log.debug(f"child process in init() is ready: pid {pid}")
    stops.passed()
    # Only now, so that the deny-all of the device rules does not stop the child's mknod(2).
    cgroup.apply_devices(resources.get("devices") or ())
    rec.save()
    stops.passed()
    if launch.options.pid_file:
        outside.write_pid_file(launch.options.pid_file, pid)
