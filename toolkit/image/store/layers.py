"""Laid-out layers: each below a folder of its own, for overlayfs, once for all images that have it.

    IMAGES/layers/HEX.FORM/tree/     the layer's files, as layer/apply.py makes them in that form
    IMAGES/layers/HEX.FORM/facts     what they were like when they were made: a line of JSON, and facts.py's records
    IMAGES/layers/HEX.FORM/boot      the boot in which they were last known to be so
    IMAGES/layers/HEX.FORM/implicit  its folders that are so, if there are any (implicit.py)

HEX is that of the diff id: in the form for overlayfs a layer does not depend on those below it. A layer is made in
`making/`, whose folder's flock(2) the maker holds, and gets its name when its diff id was verified.

An ordinary user's layers are laid out, used and compared as root of a user namespace (children/rootless.py), which has
their owners; a path of theirs is taken there, too.

Files are not written out to the disk for each layer, which would take longer than laying them out. So a crash of the
machine may have left some of them empty, and in a new boot they are compared with their facts before they are used.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from toolkit.errors import CtkError, Invalid, SystemCall, reason
from toolkit.events import Emit, Note, silent
from toolkit.image import digest as digests
from toolkit.image.store import facts
from toolkit.image.store.place import LAYERS, MAKING, Place, is_at
from toolkit.kernel import atomic, process, reading, rmtree_beneath, subids
from toolkit.kernel.host import HostFacts
from toolkit.oci import json_text

OVERLAY = "overlay"
_TREE, _FACTS, _BOOT, _IMPLICIT = "tree", "facts", "boot", "implicit"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 2 << 30  # of the facts of a layer


class LaidOut(NamedTuple):
    """A laid-out layer. `used_s` is when it was last used."""

    diff_id: str
    form: str
    path: str
    size_bytes: int
    used_s: float


class Making:
    """A layer that is being laid out below `rootfd`, an empty folder. If it is `there`, nothing is to be done.

    The caller sets `implicit`, the paths of folders that it has made up.
    """

    def __init__(self, rootfd: int) -> None:
        self.there = rootfd < 0
        self.rootfd = rootfd
        self.implicit: tuple[bytes, ...] = ()


class Layers:
    """The laid-out layers of a store. `form` is layer/apply.py's, usually OVERLAY."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def path(self, diff_id: str, form: str = OVERLAY) -> str:
        """Where its tree is, or would be: a lower directory for mount(2)."""
        return os.path.join(self._folder(diff_id, form), _TREE)

    def has(self, diff_id: str, form: str = OVERLAY) -> bool:
        """Whether it is laid out. `use` looks closer."""
        return os.path.isdir(self.path(diff_id, form))

    def use(self, diff_id: str, form: str = OVERLAY) -> str:
        """The path of its tree, to be mounted now; "" if it has to be laid out (again). The caller has a lease on it.

        In a new boot its files are compared with their facts first, and a layer that has changed is removed.
        Raises CtkError.
        """
        folder = self._folder(diff_id, form)
        if not self.has(diff_id, form):
            return ""
        boot = process.boot_id()
        try:
            if _read_text(os.path.join(folder, _BOOT)) != boot:
                if self._changed(diff_id, form):
                    return self._renew(diff_id, form, boot)
                atomic.replace(os.path.join(folder, _BOOT), boot.encode())
            os.utime(os.path.join(folder, _FACTS))
        except OSError as error:
            raise self._place.failed(error) from None
        return os.path.join(folder, _TREE)

    def _changed(self, diff_id: str, form: str) -> bool:
        """Whether it is not as it was made, looked at with the rights that it was made with."""
        if _is_user_with_ids():
            from toolkit.children import rootless  # with pickle and shutil, which root does not need

            found: list[str] = rootless.run(_compare_here, (self._place.folder, diff_id, form), silent)
            return bool(found)
        return bool(self.differences(diff_id, form))

    def _renew(self, diff_id: str, form: str, boot: str) -> str:
        """Remove a layer that has changed, unless somebody has laid it out again meanwhile: then its path."""
        with self._place.changing():
            path = self.path(diff_id, form)
            if _read_text(os.path.join(os.path.dirname(path), _BOOT)) == boot:
                return path
            away = self.set_aside(diff_id, form)
        if away:
            self.remove_set_aside(away)
        return ""

    def implicit(self, diff_id: str, form: str = OVERLAY) -> frozenset[bytes]:
        """The paths of its implicit folders. Raises CtkError."""
        try:
            data = reading.read(os.path.join(self._folder(diff_id, form), _IMPLICIT), limit_bytes=_MOST_BYTES)
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise self._place.failed(error) from None
        return frozenset(data.split(b"\0"))

    def differences(self, diff_id: str, form: str = OVERLAY, most: int = 10) -> list[str]:
        """How its files differ from what was laid out. Raises OSError."""
        folder = self._folder(diff_id, form)
        try:
            records = reading.read(os.path.join(folder, _FACTS), limit_bytes=_MOST_BYTES).partition(b"\n")[2]
        except FileNotFoundError:
            return ["what it was like is not known"]
        fd = os.open(os.path.join(folder, _TREE), _FOLDER)
        try:
            return facts.differences(fd, records, most)
        finally:
            os.close(fd)

    @contextmanager
    def laying_out(self, diff_id: str, form: str = OVERLAY, *, emit: Emit = silent) -> Iterator[Making]:
        """A layer's way in: the caller fills `rootfd` and verifies the diff id; at the end the layer gets its name.

        After an exception nothing of it is left. Waits while another process lays out the same; then it is `there`.
        Raises CtkError.
        """
        self._place.prepare()
        making = self._place.path(MAKING, f"{digests.split(diff_id)[1]}.{form}")
        if self.has(diff_id, form):
            yield Making(-1)
            return
        fd = self._lock(making, f"wait for another ctk, which lays out {diff_id}", emit)
        rootfd = -1
        try:
            there = self.has(diff_id, form)
            if not there:
                try:
                    rmtree_beneath.empty(fd)  # what a killed one has left
                    os.mkdir(_TREE, 0o755, dir_fd=fd)
                    os.chmod(_TREE, 0o755, dir_fd=fd)
                    rootfd = os.open(_TREE, _FOLDER, dir_fd=fd)
                except OSError as error:
                    raise self._place.failed(error) from None
            made = Making(rootfd)
            yield made
            if not there:
                self._finish(fd, made, making, diff_id, form)
        finally:
            if rootfd >= 0:
                os.close(rootfd)
            try:
                if is_at(fd, making):
                    rmtree_beneath.empty(fd)
                    os.rmdir(making)
            except (OSError, SystemCall):
                pass  # what failed before is the error to report; the next one, or `prune`, finds the rest
            os.close(fd)

    def _finish(self, fd: int, made: Making, making: str, diff_id: str, form: str) -> None:
        try:
            tree = facts.of(made.rootfd)
            head = {"diffID": diff_id, "form": form, "entries": tree.entries, "sizeBytes": tree.size_bytes}
            for name, data in (
                (_FACTS, json_text.dumps(head).encode() + b"\n" + tree.records),
                (_BOOT, process.boot_id().encode()),
                *(((_IMPLICIT, b"\0".join(made.implicit)),) if made.implicit else ()),
            ):
                out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
                try:
                    atomic.write(out, data)
                finally:
                    os.close(out)
            os.rename(making, self._folder(diff_id, form))
        except OSError as error:
            raise self._place.failed(error) from None

    def drop(self, diff_id: str, form: str = OVERLAY) -> None:
        """Remove it. The caller knows that nobody uses it. Raises CtkError."""
        if away := self.set_aside(diff_id, form):
            self.remove_set_aside(away)

    def set_aside(self, diff_id: str, form: str = OVERLAY) -> str:
        """Take its name away, which is done in a moment; the path that `remove_set_aside` removes, "" if there is none.

        Raises CtkError.
        """
        away = self._place.path(MAKING, f"removing.{os.urandom(8).hex()}")
        try:
            os.rename(self._folder(diff_id, form), away)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._place.failed(error) from None
        return away

    def remove_set_aside(self, path: str) -> None:
        """Remove a folder of `making/`, unless somebody is at work on it. Raises CtkError.

        An ordinary user with subordinate ids, to whom files in it may belong, becomes root of a user namespace for it.
        """
        if _is_user_with_ids():
            from toolkit.children import rootless

            rootless.run(_remove_here, path, silent)
        else:
            _remove_here(path, silent)

    def abandoned(self) -> list[str]:
        """What killed processes have left in `making/`, for `remove_set_aside`. Raises OSError."""
        found = []
        folder = self._place.path(MAKING)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            fd = _locked(os.path.join(folder, name))
            if fd is not None:
                os.close(fd)
                found.append(os.path.join(folder, name))
        return found

    def all(self) -> list[LaidOut]:
        """The laid-out layers, the longest unused first. Raises CtkError."""
        found = []
        try:
            names = os.listdir(self._place.path(LAYERS))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._place.failed(error) from None
        for name in names:
            encoded, _, form = name.partition(".")
            diff_id = f"{'sha256' if len(encoded) == 64 else 'sha512'}:{encoded}"
            folder = self._place.path(LAYERS, name)
            if not digests.is_digest(diff_id) or not os.path.isdir(folder):
                continue
            size_bytes, used_s = self._about(folder)
            found.append(LaidOut(diff_id, form, os.path.join(folder, _TREE), size_bytes, used_s))
        return sorted(found, key=lambda one: (one.used_s, one.path))

    def _about(self, folder: str) -> tuple[int, float]:
        """Its size and when it was last used, as far as its facts can be read."""
        try:
            with open(os.path.join(folder, _FACTS), "rb") as file:
                head = json_text.loads(file.readline(4096), folder)
                used_s = os.fstat(file.fileno()).st_mtime
            size_bytes = head["sizeBytes"]
        except (OSError, Invalid, KeyError, TypeError):
            return 0, 0.0
        return (size_bytes if isinstance(size_bytes, int) else 0), used_s

    def _folder(self, diff_id: str, form: str) -> str:
        return self._place.path(LAYERS, f"{digests.split(diff_id)[1]}.{form}")

    def _lock(self, path: str, waiting: str, emit: Emit) -> int:
        try:
            while True:
                try:
                    os.mkdir(path, 0o700)
                except FileExistsError:
                    pass
                try:
                    fd = os.open(path, _FOLDER)
                except FileNotFoundError:
                    continue  # its maker has just renamed or removed it
                try:
                    try:
                        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        emit(Note(waiting))
                        fcntl.flock(fd, fcntl.LOCK_EX)
                    if is_at(fd, path):
                        return fd
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)
        except OSError as error:
            raise self._place.failed(error) from None


def _is_user_with_ids() -> bool:
    """Whether layers of ours may have files of our subordinate ids, which we reach in a user namespace only."""
    return os.geteuid() != 0 and len(subids.of_caller()[0]) > 1 and not HostFacts().user_namespaces


def _compare_here(request: tuple[str, str, str], emit: Emit) -> list[str]:  # noqa: ARG001 (as _remove_here)
    folder, diff_id, form = request
    return Layers(Place(folder)).differences(diff_id, form, 1)


def _remove_here(path: str, emit: Emit) -> None:  # noqa: ARG001 (rootless.run calls functions like this)
    """Remove a folder with the rights of this process. Raises CtkError."""
    fd = _locked(path)
    if fd is None:
        return
    try:
        rmtree_beneath.empty(fd)
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CtkError(f"remove {path!r}", because=reason(error)) from None
    finally:
        os.close(fd)


def _locked(path: str) -> int | None:
    """A descriptor of this folder with its flock(2) held; None if another holds it, or if it is gone."""
    try:
        fd = os.open(path, _FOLDER)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(fd, path):
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _read_text(path: str) -> str:
    try:
        return reading.read(path, limit_bytes=4096).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
