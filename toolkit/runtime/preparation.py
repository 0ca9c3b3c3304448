"""Prepare what the container's first process needs of us: descriptors, terminal, seccomp filter, labels."""

import os

from toolkit.errors import CtkError, HostLacks, Invalid
from toolkit.oci import json_text, state
from toolkit.runtime import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from toolkit.oci.types import Linux, Process, Spec
    from toolkit.runtime.console import MakeConsole
    from toolkit.runtime.ending import Ending
    from toolkit.runtime.launch import Launch
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.record import Record


def listening() -> int:
    """The number of descriptors from 3 on that a service manager has opened for us (sd_listen_fds(3)).

    0 unless LISTEN_PID is our own pid: else they were meant for an ancestor, which left the variables in its
    environment, and the descriptors from 3 on can be anything. The launcher's shell becomes Python, so the pid is ours.
    """
    count = os.environ.get("LISTEN_FDS", "")
    ours = os.environ.get("LISTEN_PID", "") == str(os.getpid())
    return int(count) if ours and count.isascii() and count.isdigit() and int(count) < 1000 else 0


def preserved(count: int, ending: "Ending", listening: int = 0) -> "list[int]":
    """The open descriptors among those of socket activation (`listening` of them) and --preserve-fds.

    Call it before we open any descriptor of our own.
    """
    total = count + listening
    if listening:
        ending.environment += [f"LISTEN_FDS={listening}", "LISTEN_PID=1"]
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if 3 <= fd < 3 + total and _is_open(fd)] if total else []


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False  # the one that listdir used
    return True


def reset_affinity(pid: int) -> None:
    """Let the container run on all cpus of its cpuset, even if its caller was pinned to some (sched_setaffinity(2))."""
    try:
        os.sched_setaffinity(pid, range(os.sysconf("SC_NPROCESSORS_CONF")))
    except OSError as error:
        log.debug(f"reset the cpu affinity: {error.strerror}")


def console_step(launch: "Launch", the_process: "Process") -> "tuple[MakeConsole, socket] | tuple[None, None]":
    """(the step that makes the terminal, the child's end of the socket that its master is sent through)."""
    if not the_process.get("terminal"):
        return None, None
    from toolkit.runtime import console

    if launch.options.console_socket:
        end = console.connect(launch.options.console_socket)
    else:
        launch.console, end = console.pair()
    step = console.MakeConsole(end, the_process.get("consoleSize"))
    namespaces = (launch.spec.get("linux") or {}).get("namespaces") or ()
    step.mounted = any(entry["type"] == "mount" for entry in namespaces)
    return step, end


def prepare_seccomp(ending: "Ending", spec: "Spec", rec: "Record") -> None:
    """Compile (or fetch) the filter of linux.seccomp. Raises Invalid, HostLacks."""
    profile = (spec.get("linux") or {}).get("seccomp")
    if not profile:
        return
    from toolkit import places
    from toolkit.runtime import seccomp
    from toolkit.runtime.handover import Filter

    if (spec.get("annotations") or {}).get("run.oci.seccomp_fail_unknown_syscall") == "1":
        seccomp.refuse_unknown(profile)
    compiled = seccomp.program_for(profile, places.cache_dir())
    ending.seccomp = Filter(compiled.code, compiled.flags)
    log.debug(f"seccomp filter flags: {compiled.flags}")
    if compiled.listener_path:
        from toolkit.runtime import console

        try:
            ending.listener_end = console.connect(compiled.listener_path)
        except CtkError as error:
            raise HostLacks(
                f"failed to connect with seccomp agent (linux.seccomp.listenerPath: {compiled.listener_path!r})",
                because=error.because,
                hint=error.hint,
            ) from None
        ending.listener_message = lambda pid: _listener_message(rec, pid, compiled.metadata)


# The version of the container process state, not of our spec: as in the runtime spec's own example, and in crun.
_SECCOMP_STATE = "0.2.0"


def _listener_message(rec: "Record", pid: int, metadata: str) -> bytes:
    """The message to a seccomp agent with the listener's descriptor (runtime spec, "The Container Process State")."""
    return json_text.dumps(
        {
            "ociVersion": _SECCOMP_STATE,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": metadata,
            "state": state.for_hooks(rec.id, rec.pid or pid, "creating", rec.bundle, rec.annotations),
        }
    ).encode()


def refuse_host_sysctls(the_plan: "LaunchPlan", linux: "Linux") -> None:
    """Refuse sysctls if a namespace that is joined turns out to be the host's: they would change the host.

    Raises Invalid, like the check of config.json for a namespace that is not in the spec at all.
    """
    from toolkit.kernel.namespaces import NAMESPACES
    from toolkit.oci.check_linux import sysctl_namespace, sysctl_parts

    for kind, path in the_plan.joins:
        names = [name for name in linux["sysctl"] if sysctl_namespace(sysctl_parts(name)) == kind]
        try:
            if not names or not os.path.samestat(os.stat(path), os.stat("/proc/self/ns/" + NAMESPACES[kind][1])):
                continue
        except OSError:
            continue  # joining it will report what is wrong
        raise Invalid(
            f"linux.sysctl[{names[0]!r}]",
            f"is not allowed in the host's {kind} namespace: it would change the host's",
            hint=f"{path!r} is the namespace of the runtime itself",
        )


def mount_label(linux: "Linux") -> str:
    """The SELinux context for the mounts of the container, "" if there is none to apply."""
    label: str = linux.get("mountLabel") or ""
    if label:
        from toolkit.kernel.host import HostFacts

        if not HostFacts().selinux:
            # runc refuses the container, crun says nothing; runtime-tools' test of the field expects it to start.
            log.warning("linux.mountLabel has no effect: selinux is not enabled on this host")
            return ""
    return label


def open_label_proc(ending: "Ending") -> None:
    """Refuse security labels early if their LSM is missing, and open a procfs that the container cannot forge."""
    if not (ending.apparmor or ending.selinux):
        return
    from toolkit.kernel.host import HostFacts

    facts = HostFacts()
    if ending.apparmor and not facts.apparmor:
        if ending.apparmor == "unconfined":
            ending.apparmor = ""
        else:
            raise HostLacks(
                f"apply AppArmor profile {ending.apparmor!r} (process.apparmorProfile)",
                because="apparmor is not enabled on this host",
                hint="remove process.apparmorProfile",
            )
    # The kernel checks the profile only at the handover, on `start`; its error could then look like the program's.
    if ending.apparmor and not _is_loaded(ending.apparmor):
        raise HostLacks(
            f"apply AppArmor profile {ending.apparmor!r} (process.apparmorProfile)",
            because="no such profile is loaded",
            hint="load it with `apparmor_parser -r FILE`; /sys/kernel/security/apparmor/profiles lists those that are",
        )
    if ending.selinux and not facts.selinux:
        raise HostLacks(
            f"apply SELinux label {ending.selinux!r} (process.selinuxLabel)",
            because="selinux is not enabled on this host",
            hint="remove process.selinuxLabel",
        )
    if ending.apparmor or ending.selinux:
        ending.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_loaded(profile: str) -> bool:
    """Whether the kernel lists the profile; True if we can't know, and for stacked or namespaced profile names."""
    if profile == "unconfined" or profile[:1] in (":", "&") or "//" in profile:
        return True
    try:
        with open("/sys/kernel/security/apparmor/profiles", encoding="utf-8", errors="surrogateescape") as file:
            return any(line.rpartition(" (")[0] == profile for line in file)
    except OSError:
        return True
