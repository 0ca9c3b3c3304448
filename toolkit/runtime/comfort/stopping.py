"""`ctk stop`, `ctk restart`, `ctk rm`: ask, wait, and only then kill; say so when asking is no use."""

import os
import time

from toolkit.errors import CtkError, NotFound
from toolkit.kernel import reading
from toolkit.runtime import lifecycle, removal, signals
from toolkit.runtime import record as records
from toolkit.runtime.comfort import journal
from toolkit.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.runtime.record import Record

STOP_SIGNAL = "org.opencontainers.image.stopSignal"
"""The annotation that an image's StopSignal becomes (image spec, conversion.md)."""

_TERM, _KILL = 15, 9


def stop(root: str, container_id: str, *, signal: str, timeout_s: float, say: "Callable[[str], None]") -> None:
    """End the container: its stop signal, `timeout_s` of grace, SIGKILL. One that has ended is left as it is.

    `signal` "": what its annotations say, else what its program wants (systemd: SIGRTMIN+3), else TERM. `say` gets what
    a person should know. Raises NotFound, CtkError.
    """
    container = records.load(root, container_id)
    status = lifecycle.status(container)
    if status in ("stopped", "creating"):
        return
    number = signals.parse(signal) if signal else _wanted(container)
    try:
        pidfd = signals.open_init(container)
    except CtkError:
        return  # it ended just now
    try:
        if status == "created":
            # It waits for `start` and takes no signal (pid_namespaces(7)).
            signals.send(pidfd, _KILL)
        else:
            _ask(container, pidfd, number, timeout_s, say)
        if not signals.wait_for_end(pidfd, 10):
            raise CtkError(f"stop {container_id!r}", because="it did not end within 10 s of SIGKILL")
    finally:
        os.close(pidfd)
    if not _own_pid_namespace(container):
        _kill_rest(container)


def _ask(container: "Record", pidfd: int, number: int, timeout_s: float, say: "Callable[[str], None]") -> None:
    name = _name(number)
    heard = number == _KILL or _takes(container, number)
    signals.send(pidfd, number)
    removal.thaw(container)
    if not heard:
        program = one_line(_command(container.pid))
        say(
            f"{container.id!r}: its first process ({program}) has no handler for {name}, and the "
            "kernel drops such signals for PID 1: killed at once (with --init, another first process passes them on)"
        )
    elif signals.wait_for_end(pidfd, timeout_s):
        return
    elif number != _KILL:
        say(f"{container.id!r}: still running {timeout_s:g} s after {name}: killed")
    removal.kill(container)


def _wanted(container: "Record") -> int:
    if text := container.annotations.get(STOP_SIGNAL):
        return signals.parse(text)
    # systemd(1), "Signals": SIGTERM makes it execute itself anew, SIGRTMIN+3 shut down.
    return signals.parse("RTMIN+3") if _command(container.pid) == "systemd" else _TERM


def _takes(container: "Record", number: int) -> bool:
    """Will the signal do anything? Not if it comes to a pid namespace's first process that neither handles nor waits
    for it (pid_namespaces(7)).
    """
    if not _own_pid_namespace(container):
        return True
    try:
        text = reading.read(f"/proc/{container.pid}/status").decode("ascii", "replace")
    except OSError:
        return True
    masks = dict(line.split(":\t", 1) for line in text.split("\n") if line.startswith(("SigBlk", "SigCgt")))
    # Blocked counts: signalfd(2) wants it so. Who stands in sigwaitinfo(2), as ctk's own --init and tini do, has it
    # blocked too, but status shows the mask that holds during the call (kernel/signal.c, do_sigtimedwait).
    return any(int(masks.get(kind, "0"), 16) >> (number - 1) & 1 for kind in ("SigBlk", "SigCgt")) or _waits(container)


def _waits(container: "Record") -> bool:
    """Is the first process in sigwaitinfo(2), or can't we know?"""
    try:
        return b"sigtimedwait" in reading.read(f"/proc/{container.pid}/wchan")
    except OSError:
        return True


def _own_pid_namespace(container: "Record") -> bool:
    try:
        return os.readlink(f"/proc/{container.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:
        try:
            listed = (container.config().get("linux") or {}).get("namespaces") or ()
        except CtkError:
            return False
        return any(entry.get("type") == "pid" and not entry.get("path") for entry in listed)


def _kill_rest(container: "Record") -> None:
    """Without a pid namespace of its own the first process leaves the others behind."""
    if container.cgroups and lifecycle.of_this_boot(container):
        from toolkit.runtime import cgroups

        cgroups.from_facts(container.cgroups).kill()


def _command(pid: int) -> str:
    try:
        return reading.read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
    except OSError:
        return "?"


def _name(number: int) -> str:
    from toolkit.runtime.comfort import ending

    return ending.signal_name(number)


def remove(root: str, container_id: str, *, force: bool) -> None:
    """Remove the container; a running one only by `force`, for which one that is not there is fine too.

    Raises NotFound, CtkError.
    """
    try:
        removal.delete(records.load(root, container_id), force=force)
    except NotFound:
        if not force:
            raise


def again(root: str, container_id: str) -> "list[str]":
    """The words of the command that starts the container anew, in place of the one that is there. Raises NotFound.

    It is the bundle that counts: what was changed in its config.json since takes effect.
    """
    container = records.load(root, container_id)
    if container.torn or not container.bundle:
        raise NotFound(f"restart {container_id!r}", because="it was never fully created", hint="see `ctk gc`")
    words = container.extra.get("options")
    kept = [str(word) for word in words] if isinstance(words, list) else ["run", "--hold"]
    if "--hold=true" not in kept and container.extra.get("held"):
        kept.append("--hold")
    return [f"--root={root}", *kept, "--detach", "--replace", f"--bundle={container.bundle}", container_id]


def leave_log(root: str, container_id: str) -> "Callable[[], None]":
    """Put the log aside for the next holder of that id; what is returned removes it, should there be none."""
    aside = journal.left_behind(root, container_id)
    try:
        container = records.load(root, container_id)
        os.rename(f"{container.folder}/{journal.FILE}", aside)
    except (NotFound, OSError):
        pass

    def forget() -> None:
        try:
            os.unlink(aside)
        except FileNotFoundError:
            pass

    return forget


def wait_until_noted(root: str, container_id: str, timeout_s: float = 5.0) -> None:
    """Wait until the holder of a container that has ended has written its last words (and, with --rm, removed it)."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            container = records.load(root, container_id)
            fd = os.open(f"{container.folder}/{journal.FILE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (NotFound, OSError):
            return
        try:
            if not journal.being_written(fd):
                return
        finally:
            os.close(fd)
        time.sleep(0.02)
