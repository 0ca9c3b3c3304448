"""sd_notify(3) for containers: the program's READY=1 is passed on to the service manager that started us (Type=notify).

As in runc, a socket in the record's folder is bind-mounted to /run/notify and named in the program's NOTIFY_SOCKET.
Only two things are passed on: that it is ready, and the unit's main process. That is the container's first process if
no process of ours stays; else it is our own, which ends with the container and with its exit code.
"""

import os
import select

from toolkit.errors import CtkError
from toolkit.runtime import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from toolkit.oci.types import Mount, Spec
    from toolkit.runtime.record import Record

POINT = "/run/notify"
_FOLDER, _NAME, _SAID = "notify", "notify.sock", "ready"
_READY = b"READY=1"
_SEND_S = 5.0
BARRIER_S = 30.0
"""The time for the manager to confirm that it has read our message; as in runc."""


def folder(record: "Record") -> str:
    """The folder that the container sees at POINT."""
    return f"{record.folder}/{_FOLDER}"


def has_said_so(record: "Record") -> bool:
    """Whether the container's program has reported that it is ready."""
    return os.path.exists(f"{record.folder}/{_SAID}")


def prepare(record: "Record", spec: "Spec") -> bool:
    """Make the folder, and mount it in the container: changes `spec`, not its text. False if no manager waits for it.

    Raises OSError.
    """
    namespaces = (spec.get("linux") or {}).get("namespaces") or ()
    if not spec.get("process") or not any(entry["type"] == "mount" for entry in namespaces) or not _manager():
        return False
    os.mkdir(folder(record))
    os.chmod(folder(record), 0o755)
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    mount: "Mount" = {"destination": POINT, "source": folder(record), "options": options}
    spec["mounts"] = [*(spec.get("mounts") or ()), mount]
    environment = [entry for entry in spec["process"].get("env") or () if not entry.startswith("NOTIFY_SOCKET=")]
    spec["process"] = {**spec["process"], "env": [*environment, f"NOTIFY_SOCKET={POINT}/{_NAME}"]}
    return True


def _manager() -> "socket | None":
    """A socket connected to the service manager, None if there is none: the variable may be an ancestor's."""
    import _socket

    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return None  # not set, or the address of another machine (vsock)
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    end.settimeout(_SEND_S)
    try:
        end.connect("\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        end.close()
        log.debug(f"NOTIFY_SOCKET {address!r}: {error.strerror}")
        return None
    return end


class Listener:
    """The socket of a container, as relay.Watch; its folder must exist. `main_pid` 0: the caller itself.

    As long as we stay it also reads messages after READY=1: sd_notify_barrier(3), which systemd-notify(1) calls at its
    end, fails if nothing listens, and blocks if nothing reads.
    """

    events = 1  # POLLIN

    def __init__(self, record: "Record", main_pid: int = 0) -> None:
        import _socket

        self.main_pid = main_pid
        self._said = f"{record.folder}/{_SAID}"
        self.on_progress: "Callable[[bool], None] | None" = None  # called on progress, with: has the manager confirmed?
        self.has_notified = False  # the manager has been sent READY=1, but may not have read it yet
        self._barrier = -1
        self._end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        inside = os.open(folder(record), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{inside}/{_NAME}"  # the record's path may be longer than the 107 bytes of unix(7)
            self._end.bind(path)
            os.chmod(path, 0o777)  # whichever user the program runs as
        finally:
            os.close(inside)
        self._end.setblocking(False)
        self._ready = select.epoll()
        self._ready.register(self._end.fileno(), select.EPOLLIN)
        self.fd = self._ready.fileno()
        """To poll for both: the container's messages and the manager's confirmation."""

    @property
    def manager_knows(self) -> bool:
        """Whether READY=1 was sent, and the manager has confirmed it or there is no manager."""
        return self.has_notified and self._barrier < 0

    def signalled(self) -> None:
        """Does nothing: messages wait in the socket."""

    def heard(self) -> None:
        """Read what is there: one message, the manager's confirmation."""
        for fd, _ in self._ready.poll(0):
            if fd == self._barrier:
                os.close(fd)  # this removes it from the epoll, too
                self._barrier = -1
                self._progress()
            else:
                self._message()

    def _message(self) -> None:
        try:
            said = self._end.recv(4096)  # without descriptors, so a barrier's is closed
        except OSError:
            return
        if self.has_notified or _READY not in said.split(b"\n"):
            return
        self.has_notified = True
        try:
            os.close(os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError:
            pass  # a full disk, or the folder was removed: the marker is then missing
        self._tell()
        self._progress()

    def _progress(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self._barrier < 0)

    def _tell(self) -> None:
        end = _manager()
        if end is None:
            return
        try:
            end.send(_READY + b"\n")
            end.send(b"MAINPID=%d\n" % (self.main_pid or os.getpid()))
            # sd_notify_barrier(3): when the manager closes the pipe's other end it has read what came before.
            self._barrier, theirs = os.pipe2(os.O_CLOEXEC)
            try:
                end.sendmsg([b"BARRIER=1"], [(1, 1, theirs.to_bytes(4, "little"))])  # SOL_SOCKET, SCM_RIGHTS
            finally:
                os.close(theirs)
            self._ready.register(self._barrier, select.EPOLLIN)
        except OSError as error:
            if self._barrier >= 0:  # it will never be confirmed
                os.close(self._barrier)
                self._barrier = -1
            log.warning(f"notify the service manager (NOTIFY_SOCKET): {error.strerror or error}")
        finally:
            end.close()

    def wait(self, record: "Record") -> None:
        """Wait until it is ready and the manager knows, or has ended. After an interrupt the container still runs."""
        from toolkit.runtime import signals

        try:
            pidfd = signals.open_init(record)
        except CtkError:
            return  # it has ended
        try:
            while not self.manager_knows:
                poll = select.poll()
                poll.register(self.fd, select.POLLIN)
                if not self.has_notified:
                    poll.register(pidfd, select.POLLIN)
                ready = [fd for fd, _ in poll.poll(BARRIER_S * 1000 if self.has_notified else None)]
                if self.fd in ready:  # first: it may have reported ready and then ended
                    self.heard()
                elif ready:
                    return
                elif self.has_notified:
                    log.warning(f"the service manager did not answer within {BARRIER_S:.0f} s (BARRIER=1)")
                    return
        except KeyboardInterrupt:
            pass
        finally:
            os.close(pidfd)


def listener_for(record: "Record", main_pid: int = 0) -> "Listener | None":
    """The listener for a container that was prepared for it, if a manager waits for it."""
    if not os.environ.get("NOTIFY_SOCKET") or not os.path.isdir(folder(record)):
        return None
    try:
        return Listener(record, main_pid)
    except OSError as error:
        log.warning(f"listen at the container's NOTIFY_SOCKET: {error.strerror or error}")
        return None
