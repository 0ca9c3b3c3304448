"""The folders below the cache where trees are made that become a file or an image.

    CACHE/trees.new/XX/root     the tree, until it is written
    CACHE/trees.new/new.XX      one that is not locked yet

A folder is in use as long as a process has it locked. What a killed build has left, the next one or gc removes.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator

from toolkit import places
from toolkit.bootstrap.output import builds_in_progress
from toolkit.bootstrap.output.target import empty
from toolkit.errors import CtkError, InUse, reason
from toolkit.events import Emit, silent
from toolkit.kernel import ours

_NEW = "new."
_NEW_S = 60  # for so long, one that has no lock is assumed to be getting it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _above() -> str:
    return os.path.join(places.cache_dir(), "trees.new")


@contextlib.contextmanager
def make() -> Iterator[str]:
    """A new folder, while the block runs. Those of killed builds are removed first."""
    above = _above()
    try:
        ours.make_private(above)
        for path in left():
            with contextlib.suppress(OSError, CtkError):
                remove(path, silent)
        # It is locked before it gets the name by which other builds find it.
        folder = tempfile.mkdtemp(prefix=_NEW, dir=above)
        fd = os.open(folder, _FOLDER)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named = os.path.join(above, os.path.basename(folder).removeprefix(_NEW))
        os.rename(folder, named)
    except OSError as error:
        raise CtkError(
            f"make a folder below {above!r}",
            because=reason(error),
            hint="CTK_CACHE names another folder for it",
        ) from None
    try:
        yield named
    finally:
        empty(named, fd)
        os.rmdir(named)
        os.close(fd)


def left() -> Iterator[str]:
    """The paths of those that killed builds have left."""
    try:
        names = sorted(os.listdir(_above()))
    except OSError:
        return
    for name in names:
        path = os.path.join(_above(), name)
        with contextlib.suppress(OSError):
            fd = os.open(path, _FOLDER)
            try:
                if name.startswith(_NEW) and time.time() - os.fstat(fd).st_mtime < _NEW_S:
                    continue
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(fd)
            yield path


def remove(path: str, emit: Emit) -> None:  # noqa: ARG001 (rootless.run calls functions like this)
    """Remove one, and the note about its tree. Raises InUse, CtkError, OSError."""
    fd = os.open(path, _FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        empty(path, fd)
        os.rmdir(path)
    except BlockingIOError:
        raise InUse(f"remove {path!r}", because="another ctk is working in it") from None
    finally:
        os.close(fd)
    builds_in_progress.forget(os.path.join(path, "root"))
