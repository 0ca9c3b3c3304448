"""A container whose files are read: frozen if it runs, and not started meanwhile; podman and docker do the same.

A child waits for the end of a pipe that we hold, and lets the container go on: it does so, too, if we are killed.
"""

import _signal
import fcntl
import os

from toolkit import places
from toolkit.errors import CtkError, InUse, NotFound, SystemCall, reason
from toolkit.runtime import cgroups, lifecycle, removal
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.cgroups.interface import Manager

MEMORY = "memory"


class AtRest:
    """As a context manager: while nothing is written to the layer of the container `name`, or of the bundle there.

    `bundle` is its bundle's path, which need not exist. `layer` is the folder that it writes to, MEMORY for one that
    nobody else can reach; it may be missing. `warning` says why it goes on running; "" if it does not. Entering raises
    InUse, CtkError.
    """

    def __init__(self, root: str, name: str, layer: str, *, pause: bool) -> None:
        self._pause = pause
        self._container = None if "/" in name else _record(root, name)
        self._frozen: tuple[int, int] | None = None
        self._fd = -1
        self.warning = ""
        self.bundle = self._container.bundle if self._container else ""  # "" of one that was never quite made
        self.bundle = self.bundle or os.path.abspath(name if "/" in name else places.bundle_dir(name))
        self.layer = str(self._container.extra.get("layer") or "") if self._container else ""
        self.layer = self.layer or os.path.join(self.bundle, layer)

    def __enter__(self) -> "AtRest":
        if self._container is None:
            self._lock_layer()
            return self
        removal.lock(self._container)  # nobody starts, resumes or removes it
        try:
            if lifecycle.status(self._container) == "running":
                self._freeze(self._container)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._frozen is not None:
            pid, fd = self._frozen
            os.close(fd)
            os.waitpid(pid, 0)
        if self._container is not None:
            self._container.unlock()
        if self._fd >= 0:
            os.close(self._fd)

    def _freeze(self, container: records.Record) -> None:
        if not self._pause:
            self.warning = f"{container.id} goes on running: files may change while they are read"
            return
        try:
            if not container.cgroups:
                raise CtkError("it has no cgroup of its own")
            manager = cgroups.from_facts(container.cgroups)
            self._frozen = _thawer(manager)
            manager.freeze()
        except (CtkError, OSError) as error:
            self.warning = f"{container.id} can't be paused ({error}): files may change while they are read"

    def _lock_layer(self) -> None:
        """Take the lock that a container has on its layer while it runs (overlay.py)."""
        if not os.path.isdir(self.layer):
            return
        doing = f"read what was written to {self.layer!r}"
        try:
            self._fd = os.open(self.layer, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise InUse(doing, because="a container is using it", hint="name the container (ctk list)") from None
        except OSError as error:
            raise CtkError(doing, because=reason(error)) from None


def _thawer(manager: "Manager") -> tuple[int, int]:
    """A child that thaws at the end of a pipe, whoever closes it: (pid, our end). Raises OSError."""
    theirs, ours = os.pipe()
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        pid = os.fork()
        if not pid:
            try:
                os.setsid()  # who kills our group or session does not mean this
                os.close(ours)
                os.read(theirs, 1)
                manager.thaw()
            except (OSError, SystemCall):
                pass  # the container was killed meanwhile, and its cgroup is gone
            finally:
                os._exit(0)
    except BaseException:
        os.close(ours)
        raise
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        os.close(theirs)
    return pid, ours


def _record(root: str, name: str) -> "records.Record | None":
    try:
        return records.load(root, name)
    except NotFound:
        return None
