"""A finished tree as one file: which format a TARGET means, where the tree is made, how the file is written.

    CACHE/trees.new/XX/root     the tree, until it is written; removed at the end, or after a kill by the next build
    DIR/.NAME.ctk-part         the file, while it is written; locked, so that a second build into it is refused
    DIR/NAME                   the complete file, renamed from the former

An ordinary user builds all of it as root of a user namespace (rootless.py), so owners, modes, attributes and devices
in the file are those seen inside; the file itself belongs to the user.
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from toolkit import places
from toolkit.archive import streams, tar_write, walk
from toolkit.bootstrap import beside
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.output.next_steps import image_steps
from toolkit.bootstrap.output.target import empty, forget, result_path
from toolkit.errors import CtkError, InUse, Usage, reason
from toolkit.events import Done, Emit, Event, Planned
from toolkit.kernel import ours
from toolkit.text import quote

DIRECTORY = "directory"
STDOUT = "-"
STAGE = ("write", "Write the file")

Make = Callable[[Request, Emit], Result]
Write = Callable[[int, int, int | None], None]  # the tree, the empty file, the latest time or None


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: its suffixes, and the function that writes it. `streams`: it can be written to a pipe."""

    name: str
    suffixes: tuple[str, ...]
    write: Write
    streams: bool
    hint: str  # what to do with it next (next_steps.image_steps)
    unprivileged: str = ""


def _tar(rootfd: int, out: int, latest_s: int | None) -> None:
    write_all(out, _segments(rootfd, latest_s))


def _tar_zst(rootfd: int, out: int, latest_s: int | None) -> None:
    write_all(out, streams.zstd(_segments(rootfd, latest_s)))


def _tar_gz(rootfd: int, out: int, latest_s: int | None) -> None:
    write_all(out, streams.gzip(_segments(rootfd, latest_s)))


def _squashfs(rootfd: int, out: int, latest_s: int | None) -> None:
    from toolkit.archive import squashfs

    squashfs.write(rootfd, out, walk.walk(rootfd, latest_s=latest_s), time_s=_time_s(latest_s))


def _ext4(rootfd: int, out: int, latest_s: int | None) -> None:
    from toolkit.archive import ext4

    ext4.write(rootfd, out, walk.walk(rootfd, latest_s=latest_s), time_s=_time_s(latest_s))


def _time_s(latest_s: int | None) -> int:
    return int(time.time()) if latest_s is None else latest_s


def _segments(rootfd: int, latest_s: int | None) -> Iterator[bytes]:
    return tar_write.segments(rootfd, walk.walk(rootfd, latest_s=latest_s))


def write_all(out: int, pieces: Iterable[bytes]) -> None:
    """Write all pieces to the descriptor, completely. Raises OSError."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(out, view) :]


_UNTAR = "mkdir fs && tar --numeric-owner --xattrs -xpf {} -C fs"

# A further format (an OCI image) needs only one more line: `--format` and the suffix find it here.
FORMATS = (
    Format("tar", (".tar",), _tar, True, _UNTAR),
    Format("tar.zst", (".tar.zst", ".tzst"), _tar_zst, True, _UNTAR),
    Format("tar.gz", (".tar.gz", ".tgz"), _tar_gz, True, _UNTAR),
    Format("squashfs", (".squashfs", ".sqfs"), _squashfs, False, "mount {} /mnt", "unsquashfs -d fs {}"),
    Format(
        "ext4",
        (".ext4", ".img"),
        _ext4,
        False,
        "mount {} /mnt        (larger: truncate -s 10G {}; resize2fs {})",
        "mkdir fs && /sbin/debugfs -R 'rdump / fs' {} 2>/dev/null",
    ),
)
NAMES = (DIRECTORY, *(one.name for one in FORMATS))

# Suffixes of formats that are not written here, with the program that compresses a tar. A folder of such a name is
# surely a mistake.
_PACKERS = {
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.bz2": "bzip2",
    ".tbz2": "bzip2",
    ".tar.lz4": "lz4",
    ".tar.lzma": "lzma",
}
_OTHERS = (".zip", ".7z", ".iso", ".cpio", ".cpio.gz", ".raw", ".qcow2", ".vmdk", ".vdi", ".ext2", ".ext3", ".erofs")


def format_of(request: Request) -> Format | None:
    """The format of `request.format`, or else of the target's suffix; None for a directory. Raises Usage."""
    given, target = request.format, request.target
    if given and given not in NAMES:
        raise Usage(
            f"use format {given!r}", because="there is no such format", hint="the formats are: " + ", ".join(NAMES)
        )
    found = next((one for one in FORMATS if one.name == given), None)
    if not given:
        if target == STDOUT:
            found = FORMATS[0]
        elif not os.path.isdir(target) and not target.endswith("/"):
            found = next((one for one in FORMATS if target.endswith(one.suffixes)), None)
            if found is None:
                _refuse_other_files(request)
    if target != STDOUT:
        return found
    if found is None or not found.streams:
        because = f"a {found.name if found else DIRECTORY} can't be written to a pipe"
        names = ", ".join(one.name for one in FORMATS if one.streams)
        raise Usage("write to standard output", because=because, hint="these can: " + names)
    if os.isatty(sys.stdout.fileno()):
        raise Usage(
            "write to standard output", because="it is a terminal", hint="| tar -t, or > FILE, or name a file as TARGET"
        )
    return found


def _refuse_other_files(request: Request) -> None:
    """Raise Usage for a target with the suffix of a format that is not written here."""
    target = request.target
    suffix = next((one for one in (*_PACKERS, *_OTHERS) if target.endswith(one)), "")
    if not suffix:
        return
    hint = f"a file has one of {', '.join(suffix for one in FORMATS for suffix in one.suffixes)}"
    if suffix in _PACKERS:
        packed = f" | {_PACKERS[suffix]} > {quote(target)}"
        hint = f"ctk bootstrap {quote(request.suite)} - …" + packed + f"; {hint}"
    hint += f"; --format {DIRECTORY} makes a folder of this name"
    raise Usage(f"make {target!r}", because=f"{suffix} files are not written", hint=hint)


def build(request: Request, form: Format, emit: Emit, make: Make) -> Result:
    """Make the tree with `make` in a folder of our own, and write it as `form` to the request's target.

    Raises like `make`, and InUse, CtkError; nothing is left of tree and file then.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as undo:
        part = undo.enter_context(Part(request)) if request.target != STDOUT else None
        work = undo.enter_context(work_folder())
        done: list[Done] = []
        tree = os.path.join(work, "root")
        inner = replace(request, target=tree, format=DIRECTORY, restart=False, keep_failed=False)
        result = make(inner, _within(emit, done))
        with stage(STAGE[0], emit) as report:
            size = _write_out(form, tree, sys.stdout.fileno() if part is None else part.fd, request)
            report.detail = f"{size / 1e6:.1f} MB" if size else form.name
        result = replace(result, target=os.path.abspath(request.target) if part else STDOUT)
        if part is not None:
            part.finish(result, result_path(tree))
    text = f"{result.title} is {'in ' + request.target if part else 'on standard output'}"
    facts = {**done[0].result, "target": result.target, "format": form.name, "file_bytes": size}
    facts["file"] = result_path(result.target) if part else ""
    emit(
        Done(
            text,
            time.monotonic() - began,
            facts,
            image_steps(form.hint, form.unprivileged, request.target) if part else (),
        )
    )
    return result


def _within(emit: Emit, done: list[Done]) -> Emit:
    """An `emit` that adds our stage to the plan and puts Done into a list instead of passing it on."""

    def passing(event: Event) -> None:
        if isinstance(event, Planned):
            emit(Planned((*event.stages, STAGE)))
        elif isinstance(event, Done):
            done.append(event)
        else:
            emit(event)

    return passing


def _write_out(form: Format, tree: str, out: int, request: Request) -> int:
    """Write the tree. Returns the size of the file, 0 for a pipe. Raises CtkError."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    rootfd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        form.write(rootfd, out, int(epoch) if epoch.isdigit() else None)
        about = os.fstat(out)
    except OSError as error:
        needed = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = sum(entry.size_bytes + 512 for entry in walk.walk(rootfd))
            needed = f" (the tree has {-(-size >> 20)} MiB, unpacked)"
        raise failed(request.target, error, needed) from None
    finally:
        os.close(rootfd)
    return about.st_size if stat.S_ISREG(about.st_mode) else 0


def failed(target: str, error: OSError, needed: str = "") -> CtkError:
    """The error for a file that can't be written. `needed` says how large it would be."""
    because, hint = reason(error), ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        because, hint = because + needed, "free some space, or name a file elsewhere"
    return CtkError(f"write {target!r}", because=because, hint=hint)


class Part:
    """The incomplete file, locked. It is removed after the block unless `finish` or `name` has renamed it.

    Not an `atomic.Writing`, because its name beside the target is fixed: two builds of one file must meet there, and a
    build reuses the file of a killed one. With a new name for each, killed builds would fill the user's folder.
    """

    def __init__(self, request: Request) -> None:
        self._path = os.path.abspath(request.target)
        self._part = beside.path(self._path, ".ctk-part")
        self._doing = f"write {request.target!r}"
        self._force = request.restart
        self.fd = -1

    def __enter__(self) -> "Part":
        if os.path.lexists(self._path):
            if not stat.S_ISREG(os.lstat(self._path).st_mode):
                raise InUse(self._doing, because="what is there is not a file", hint="name another one")
            if not self._force:
                raise InUse(
                    self._doing, because="it is there already", hint="name another file, or --force replaces it"
                )
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.fd = os.open(self._part, flags, 0o644)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have renamed or removed the file between open and flock.
            mine = os.path.samestat(os.fstat(self.fd), os.lstat(self._part))
        except BlockingIOError:
            mine = False
        except OSError as error:
            self._close()
            raise CtkError(self._doing, because=reason(error)) from None
        about = os.fstat(self.fd)
        # In a folder that others may write to, a second hard link means that somebody linked a file of ours here.
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_nlink > 1:
            self._close()
            raise InUse(
                self._doing, because=f"{self._part!r} is somebody else's", hint="remove it, or name another file"
            )
        if not mine:
            self._close()
            raise InUse(self._doing, because="another ctk is making it now", hint="wait for it, or name another file")
        os.ftruncate(self.fd, 0)
        return self

    def finish(self, result: Result, facts: str) -> None:
        """Give the file its final name, and write the result file beside it. Raises CtkError."""
        try:
            with open(facts, encoding="utf-8") as file:
                document: dict[str, Any] = json.load(file)
            about = os.fstat(self.fd)
            document["directory"] = [about.st_dev, about.st_ino]
            document["result"]["target"] = result.target
            beside.write(result_path(self._path), json.dumps(document, indent=1) + "\n")
            try:
                self.name()
            except OSError:
                forget(self._path)  # its file will not exist
                raise
        except OSError as error:
            needed = f" (the file has {-(-os.fstat(self.fd).st_size >> 20)} MiB)"
            raise failed(self._path, error, needed) from None

    def name(self) -> None:
        """Give the complete file its final name. Raises OSError."""
        os.rename(self._part, self._path)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self.fd), os.lstat(self._part)):
                os.unlink(self._part)
        self._close()

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@contextlib.contextmanager
def work_folder() -> Iterator[str]:
    """A new folder of our own below the cache, locked while it is used. Those of killed builds are removed first."""
    above = os.path.join(places.cache_dir(), "trees.new")
    try:
        ours.make_private(above)
        for name in os.listdir(above):
            _remove_stale(os.path.join(above, name))
        # It is locked before it gets the name by which other builds find it.
        folder = tempfile.mkdtemp(prefix="new.", dir=above)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named = os.path.join(above, os.path.basename(folder).removeprefix("new."))
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


def _remove_stale(path: str) -> None:
    """Remove a work folder whose process is gone. One without its final name is assumed to be so after a minute."""
    with contextlib.suppress(OSError, CtkError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.path.basename(path).startswith("new.") and not _is_old(fd):
                return
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            empty(path, fd)
            os.rmdir(path)
        finally:
            os.close(fd)


def _is_old(fd: int) -> bool:
    return time.time() - os.fstat(fd).st_mtime > 60
