"""`ctk stop`, `ctk restart`, `ctk rm`: send the stop signal, wait, then kill; report if the signal can't work."""

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
    """Stop the container: its stop signal, `timeout_s` of grace, SIGKILL. Does nothing if it has ended.

    `signal` "": that of its annotations, else what its program needs (systemd: SIGRTMIN+3), else TERM. `say` gets
    messages for the user. Raises NotFound, CtkError.
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
            # It waits for `start`, and ignores signals (pid_namespaces(7)).
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
            "kernel drops such signals for PID 1: killed at once (with --init, another first process forwards them)"
        )
    elif signals.wait_for_end(pidfd, timeout_s):
        return
    elif number != _KILL:
        say(f"{container.id!r}: still running {timeout_s:g} s after {name}: killed")
    removal.kill(container)


def _wanted(container: "Record") -> int:
    if text := container.annotations.get(STOP_SIGNAL):
        return signals.parse(text)
    # systemd(1), "Signals": on SIGTERM it executes itself again, on SIGRTMIN+3 it shuts down.
    return signals.parse("RTMIN+3") if _command(container.pid) == "systemd" else _TERM


def _takes(container: "Record", number: int) -> bool:
    """Whether the signal has an effect.

    It has none on a pid namespace's first process that neither handles it nor waits for it (pid_namespaces(7)).
    """
    if not _own_pid_namespace(container):
        return True
    try:
        text = reading.read(f"/proc/{container.pid}/status").decode("ascii", "replace")
    except OSError:
        return True
    masks = dict(line.split(":\t", 1) for line in text.split("\n") if line.startswith(("SigBlk", "SigCgt")))
    # Blocked counts, because signalfd(2) requires it. A process in sigwaitinfo(2), such as ctk's own --init and tini,
    # has it blocked too, but status shows the mask during the call (kernel/signal.c, do_sigtimedwait).
    return any(int(masks.get(kind, "0"), 16) >> (number - 1) & 1 for kind in ("SigBlk", "SigCgt")) or _waits(container)


def _waits(container: "Record") -> bool:
    """Whether the first process is in sigwaitinfo(2), or we can't know."""
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
    """Kill the others: without a pid namespace of its own they outlive the first process."""
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
    """Remove the container; a running one only with `force`, which also accepts one that does not exist.

    Raises NotFound, CtkError.
    """
    try:
        removal.delete(records.load(root, container_id), force=force)
    except NotFound:
        if not force:
            raise


def again(root: str, container_id: str) -> "list[str]":
    """The command line that replaces the container by a new one with the same options. Raises NotFound.

    It is made from the bundle, so changes to its config.json since then take effect.
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
    """Put the log aside for the next holder of that id; returns a function that removes it if there is none."""
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
    """Wait until the holder of a container that has ended has recorded the end (and, with --rm, removed it)."""
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
