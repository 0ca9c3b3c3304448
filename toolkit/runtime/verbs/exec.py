"""`exec`: run another process in a running container."""

import os

from toolkit.errors import CtkError, Invalid, reason
from toolkit.kernel import capabilities, process, reading
from toolkit.kernel.program.program import Program
from toolkit.oci import check, json_text
from toolkit.oci import check_process as _check_process  # noqa: F401  # `check` would import it
from toolkit.runtime import cgroups, entering, finish, foreground, lifecycle, log, outside, preparation
from toolkit.runtime import conversation as words
from toolkit.runtime import record as records
from toolkit.runtime.ending import Ending
from toolkit.runtime.identity import Identity, raise_rlimits, set_affinity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from toolkit.oci.types import Capabilities, Process, Spec, User
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Run the process; returns its exit code, 0 with --detach. Raises CtkError."""
    record = records.load(options.root, options.id)
    _check_status(record, options)
    spec = record.config()
    the_process = _process(options, spec)
    terminal = bool(the_process.get("terminal"))
    if terminal and options.detach and not options.console_socket:
        raise CtkError("cannot allocate tty if runc will detach without setting console socket")
    if options.console_socket and not (terminal and options.detach):
        raise CtkError("cannot use console socket if runc will not detach or allocate tty")
    if not options.detach:
        outside.hold_signals()
    entrance = entering.Entrance(record)
    ending = Ending(the_process)
    ending.preserved = preparation.preserved(options.preserve_fds, ending)
    preparation.prepare_seccomp(ending, spec, record)
    preparation.open_label_proc(ending)
    identity = Identity(the_process)
    ours, end = _terminal_socket(options, terminal)
    group = cgroups.from_facts(record.cgroups) if record.cgroups else None
    entry = None
    if group is not None and _joins_by_itself(options, the_process, group):
        entry = group.entry()
    parent, childs = words.pair()
    pipes = (childs.reading, childs.writing)
    p = Program(childs.writing)
    hops = entering.enter(p, entrance, entry, pipes)
    p.call("setsid")
    finish.hear(p, childs.reading, words.JOINED)
    if end is not None:
        from toolkit.runtime import console_program

        console_program.emit(p, end.fileno(), the_process.get("consoleSize"))
    finish.emit(p, ending, identity, spec.get("linux") or {}, pipes, finish.folder_has_files(record.rootfs))
    kept = [*entrance.descriptors(), *ending.kept(), *(entry.descriptors() if entry is not None else ())]
    if end is not None:
        kept.append(end.fileno())
    pid = entering.start(p, hops, parent, childs, kept, ending.arguments)
    entrance.close()
    if entry is not None:
        entry.close()
    if end is not None:
        end.close()
    try:
        _place(pid, the_process, group if entry is None else None, list(options.cgroup), record.pid)
        master = _handshake(pid, ending, options, the_process, parent, ours)
    except BaseException:
        entering.end(pid)
        raise
    for text in parent.warnings:
        log.warning(text)
    if options.detach:
        return 0
    if master < 0:
        return foreground.wait(pid)
    from toolkit.runtime import relay

    return relay.run(pid, foreground.wake_up(), master, ())


def _joins_by_itself(options: "Options", the_process: "Process", group: "cgroups.Manager") -> bool:
    """Whether the process may join the container's cgroups by itself.

    On v1 not if it gets processors, which are set before and after (and again by the kernel, when it joins), and not if
    the container may be paused: it would be frozen before it is in all of them.
    """
    if options.cgroup:
        return False
    return group.unified or not (the_process.get("execCPUAffinity") or options.ignore_paused)


def _check_status(record: "records.Record", options: "Options") -> None:
    if not options.ignore_paused or lifecycle.status(record) != "paused":
        lifecycle.require(record, "exec")


def _place(pid: int, the_process: "Process", group: "cgroups.Manager | None", subs: "list[str]", init: int) -> None:
    """Set limits and processors, and join the cgroup, unless the clone joined it (then `group` is None)."""
    raise_rlimits(pid, the_process.get("rlimits") or [])
    affinity = the_process.get("execCPUAffinity") or {}
    # Initial: before it joins the cgroup, because otherwise it could wake up on another cpu; final: in the cgroup.
    preparation.reset_affinity(pid)
    set_affinity(pid, affinity.get("initial"))
    if log.debugging():
        cpus = sum(1 << cpu for cpu in os.sched_getaffinity(pid))
        log.debug(f"nsexec container setup: nsexec[{pid}]: affinity: {cpus:#x}")
    if group is not None:
        group.join_sub(pid, subs, init)
    set_affinity(pid, affinity.get("final"))


def _handshake(
    pid: int,
    ending: Ending,
    options: "Options",
    the_process: "Process",
    parent: "words.Conversation",
    ours: "socket | None",
) -> int:
    """Go through the handshake up to where its program begins; returns the master of its terminal, -1 for none."""
    parent.say(words.JOINED)
    if the_process.get("oomScoreAdj") is not None:
        outside.write_oom_score(pid, the_process["oomScoreAdj"])
    parent.hear(words.READY)
    log.debug(f"child process in init() is ready: pid {pid}")
    if options.pid_file:
        outside.write_pid_file(options.pid_file, pid)
    if options.pidfd_socket:
        from toolkit.runtime import console

        console.send_pidfd(options.pidfd_socket, process.pidfd_open(pid))
    master = -1
    if ours is not None:
        from toolkit.runtime import console

        master = console.take(ours)
    log.debug("setns_init: about to exec")
    message = ending.listener_message
    parent.go(message(pid) if message is not None else None)
    parent.hear_end()
    return master


def _terminal_socket(options: "Options", terminal: bool) -> "tuple[socket | None, socket | None]":
    """(our end, the child's end) of the socket that the master is sent through; for an engine's, only the child's."""
    if not terminal:
        return None, None
    from toolkit.runtime import console

    if options.console_socket:
        return None, console.connect(options.console_socket)
    return console.pair()


def _process(options: "Options", spec: "Spec") -> "Process":
    """The process object: from --process, or that of config.json changed by the options."""
    if options.process:
        try:
            text = reading.named(options.process)  # it may be a pipe of the caller's shell (/dev/fd/63)
        except OSError as error:
            raise CtkError(f"open {options.process}", because=reason(error)) from None
        document = json_text.loads(text, options.process)
        if not isinstance(document, dict):
            raise Invalid("", "it is not a JSON object", document=options.process)
        for finding in check.errors(document, exec=True):
            if finding.message != "is required":  # an option may supply it; but the types must be right
                raise Invalid(finding.path, finding.message, hint=finding.hint, document=options.process)
        given: "Any" = document  # its types are right
        result: "Process" = given
    else:
        if not options.args:
            raise CtkError(
                "exec args cannot be empty", hint="name a command: ctk exec ID COMMAND; for a shell, ctk exec -t ID sh"
            )
        result = {**(spec.get("process") or {})}
        result["args"] = options.args
        result.pop("consoleSize", None)
        result["terminal"] = options.tty
    if options.tty:
        result["terminal"] = True
    if options.cwd:
        result["cwd"] = options.cwd
    if options.env:
        result["env"] = [*(result.get("env") or ()), *options.env]
    if options.user:
        user: "User" = {**(result.get("user") or {})}
        user["uid"], gid = _user(options.user)
        if gid is not None:
            user["gid"] = gid
        result["user"] = user
    if options.additional_gids:
        user = {**(result.get("user") or {})}
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *options.additional_gids]
        result["user"] = user
    if options.cap:
        result["capabilities"] = _with_caps(result.get("capabilities") or {}, options.cap)
    if options.no_new_privs:
        result["noNewPrivileges"] = True
    if options.apparmor:
        result["apparmorProfile"] = options.apparmor
    if options.process_label:
        result["selinuxLabel"] = options.process_label
    _check(result, options)
    return result


def _check(result: "Process", options: "Options") -> None:
    document = options.process or "process"
    for finding in check.errors(result, exec=True):
        raise Invalid(finding.path, finding.message, hint=finding.hint, document=document)


def _with_caps(given_sets: "Capabilities", names: "list[str]") -> "Capabilities":
    sets: "Any" = given_sets
    result: "Any" = {
        kind: list(sets.get(kind) or ()) for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    for given in names:
        name = given.upper()
        name = name if name.startswith("CAP_") else "CAP_" + name
        if name not in capabilities.NUMBERS:
            # As in crun since 1.29; runc warns. The user can correct the command line.
            raise CtkError(f"unknown capability {given!r} (--cap)", hint="names are those of capabilities(7)")
        for kind in ("bounding", "effective", "permitted"):
            if name not in result[kind]:
                result[kind].append(name)
        if name in result["inheritable"] and name not in result["ambient"]:
            result["ambient"].append(name)
    found: "Capabilities" = result
    return found


def _user(text: str) -> "tuple[int, int | None]":
    """Parse UID[:GID], decimal and in range; it is never looked up as a name (security.md S11)."""
    uid, colon, gid = text.partition(":")
    numbers = []
    for word in (uid, gid) if colon else (uid,):
        if not (word.isascii() and word.isdigit()) or int(word) > 0xFFFFFFFE or len(word) > 10:
            raise CtkError(f"invalid user {text!r}", because="not UID[:GID] in decimal, 0 to 4294967294")
        numbers.append(int(word))
    return numbers[0], numbers[1] if colon else None
