"""A finished tree in a format: which one a TARGET means, where the tree is made, how the file is written.

    CACHE/trees.new/XX/root    the tree, until it is written (work_folder.py)
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
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from toolkit.archive import walk
from toolkit.bootstrap import beside
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.output import formats, work_folder
from toolkit.bootstrap.output.finished import Tree
from toolkit.bootstrap.output.formats import FORMATS, STORE, Format
from toolkit.bootstrap.output.next_steps import image_steps
from toolkit.bootstrap.output.target import forget, result_path
from toolkit.errors import CtkError, InUse, Usage, reason
from toolkit.events import Done, Emit, Event, Planned
from toolkit.image.name import next_steps, parse
from toolkit.text import quote

DIRECTORY = "directory"
STDOUT = "-"
STAGE = ("write", "Write the file")

Make = Callable[[Request, Emit], Result]
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
    if request.tag and not target:
        return _for_store(request)
    found = next((one for one in FORMATS if one.name == given), None)
    if not given:
        if target == STDOUT:
            found = FORMATS[0]
        elif not target.endswith("/"):
            found = formats.by_suffix(target)
            if found is None and not os.path.isdir(target):
                _refuse_other_files(request)
    if request.tag:
        _check_name(request, found)
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


def _for_store(request: Request) -> Format:
    """The store, for a request with a name and no target. Raises Usage."""
    if request.format:
        because = f"there is no TARGET, which {request.format!r} needs"
        raise Usage("read the command line", because=because, hint="without --format the image goes into the store")
    _check_name(request, STORE)
    return STORE


def _check_name(request: Request, form: Format | None) -> None:
    """Raise Usage if a target of this format has no name, or not this one."""
    from toolkit.bootstrap.output import image

    if form is None or not form.image:
        because = f"it is for an image, and {request.target!r} is a {form.name if form else DIRECTORY}"
        hint = "leave out TARGET, and the image goes into the store; or choose an image's --format"
        raise Usage(f"use --tag {request.tag!r}", because=because, hint=hint)
    image.check_name(request, form.name)


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
        part = None
        if form is not STORE and request.target != STDOUT:
            part = undo.enter_context((FolderPart if form.folder else Part)(request))
        work = undo.enter_context(work_folder.make())
        done: list[Done] = []
        root = os.path.join(work, "root")
        inner = replace(request, target=root, format=DIRECTORY, tag="", restart=False, keep_failed=False)
        title = "Write the image" if form.image else STAGE[1]
        result = make(inner, _within(emit, done, (STAGE[0], title)))
        with stage(STAGE[0], emit) as report:
            out = sys.stdout.fileno() if part is None else part.fd
            size, more = _write_out(form, Tree(request, result, work, emit), out)
            report.detail = f"{size / 1e6:.1f} MB" if size else form.name
        target = f"{STORE.name}:{more['reference']}" if form is STORE else request.target
        result = replace(result, target=os.path.abspath(target) if part else target)
        if part is not None:
            part.finish(result, result_path(root))
    facts = {**done[0].result, "target": result.target, "format": form.name, "file_bytes": size, **more}
    facts["file"] = result_path(result.target) if part else ""
    emit(Done(_told(request, form, result, more), time.monotonic() - began, facts, _steps(request, form, more)))
    return result


def _told(request: Request, form: Format, result: Result, more: dict[str, Any]) -> str:
    if form is STORE:
        called = parse(more["reference"]).familiar
        return f"{result.title} is the image {called} of the store: {more['digest']}"
    return f"{result.title} is {'on standard output' if request.target == STDOUT else 'in ' + request.target}"


def _steps(request: Request, form: Format, more: dict[str, Any]) -> tuple[str, ...]:
    if form is STORE:
        return next_steps(parse(more["reference"]))
    return () if request.target == STDOUT else image_steps(form.hint, form.unprivileged, request.target)


def _within(emit: Emit, done: list[Done], last: tuple[str, str]) -> Emit:
    """An `emit` that adds our stage, the last, to the plan and puts Done into a list instead of passing it on."""

    def passing(event: Event) -> None:
        if isinstance(event, Planned):
            emit(Planned((*event.stages, last)))
        elif isinstance(event, Done):
            done.append(event)
        else:
            emit(event)

    return passing


def _write_out(form: Format, tree: Tree, out: int) -> tuple[int, dict[str, Any]]:
    """Write the tree. The size of the file, 0 if there is none, and what `form.write` says. Raises CtkError."""
    try:
        with tree:
            more = form.write(tree, out)
        if "bytes" not in more:
            about = os.fstat(out)
            more["bytes"] = about.st_size if stat.S_ISREG(about.st_mode) else 0
    except OSError as error:
        needed = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with tree:
                size = sum(entry.size_bytes + 512 for entry in walk.walk(tree.rootfd))
            needed = f" (the tree has {-(-size >> 20)} MiB, unpacked)"
        raise failed(tree.request.target, error, needed) from None
    return more.pop("bytes"), more


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
            self._check_there()
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

    def _check_there(self) -> None:
        """Raise InUse if what has the name must not be replaced."""
        if not stat.S_ISREG(os.lstat(self._path).st_mode):
            raise InUse(self._doing, because="what is there is not a file", hint="name another one")
        if not self._force:
            raise InUse(self._doing, because="it is there already", hint="name another file, or --force replaces it")

    def finish(self, result: Result, facts: str) -> None:
        """Give the file its final name, and write the result file beside it. Raises CtkError."""
        try:
            with open(facts, encoding="utf-8") as file:
                document: dict[str, Any] = json.load(file)
            about = self._about()
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

    def _about(self) -> os.stat_result:
        return os.fstat(self.fd)

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


class FolderPart(Part):
    """The same for a layout, whose writer makes the folder (image.write_folder): the file is only its lock."""

    def _check_there(self) -> None:
        from toolkit.bootstrap.output import image

        if not stat.S_ISDIR(os.lstat(self._path).st_mode):
            raise InUse(self._doing, because="what is there is not a folder", hint="name another one")
        if not os.listdir(self._path):
            return
        if not image.is_layout(self._path):
            raise InUse(self._doing, because="the folder has other files in it", hint="name another folder")
        if not self._force:
            hint = "name another folder, or --force replaces all of it"
            raise InUse(self._doing, because="images are there already", hint=hint)

    def _about(self) -> os.stat_result:
        return os.stat(self._path)

    def name(self) -> None:
        """The folder has its name."""
