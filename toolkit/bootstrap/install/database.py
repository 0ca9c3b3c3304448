"""dpkg's database in a tree, written without dpkg as `dpkg --unpack` leaves it.

Sources: deb-*(5) for the control files, dpkg's doc/triggers.txt for the triggers, and for the rest the trees that
debootstrap makes (scripts/compare-tree shows differences).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator

from toolkit.bootstrap.install.unpack import Unpacked
from toolkit.bootstrap.install.usrmerge import ALIASES
from toolkit.errors import Malformed
from toolkit.kernel import reading
from toolkit.kernel.beneath import make_directories

_MOST_BYTES = 256 << 20
ADMIN = "var/lib/dpkg"
_ARCHITECTURE_IN_NAME = b"\nMulti-Arch: same\n"


class Database:
    """The folder var/lib/dpkg below `rootfd`. All methods raise OSError, SystemCall if the tree is in the way."""

    def __init__(self, rootfd: int) -> None:
        self._rootfd = rootfd

    def create(self) -> None:
        """Make the empty database that `dpkg` expects in a new tree; remove what a failed second stage has left."""
        for folder in ("updates", "info", "triggers", "alternatives", "parts", "tmp.ci"):
            with self._folder(f"{ADMIN}/{folder}") as parent:
                for name in os.listdir(parent):
                    os.unlink(name, dir_fd=parent)
        with self._folder(ADMIN) as parent:
            os.rmdir("tmp.ci", dir_fd=parent)  # dpkg makes it while it unpacks
        self.write("info/format", b"1\n")
        for name in ("status", "available", "diversions", "triggers/Unincorp"):
            self.write(name, b"")
        self.write("cmethopt", b"apt apt\n")

    def write(self, name: str, data: bytes, *, mode: int = 0o644, mtime_s: int | None = None) -> None:
        """Replace a file of the database. A link is replaced, not followed."""
        folder, _, last = f"{ADMIN}/{name}".rpartition("/")
        with self._folder(folder) as parent:
            _write(parent, last, data, mode, mtime_s)

    def read(self, name: str) -> bytes:
        """The contents of a file of the database; b"" if it is missing."""
        folder, _, last = f"{ADMIN}/{name}".rpartition("/")
        with self._folder(folder) as parent:
            try:
                fd = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            except FileNotFoundError:
                return b""
            with open(fd, "rb"):
                _check_file(fd, name)
                return reading.whole(fd, name, _MOST_BYTES)

    def register(self, packages: Iterable[Unpacked]) -> None:
        """Register packages as unpacked: their control files, file lists, triggers, and status paragraphs."""
        packages = list(packages)
        self._write_info(packages)
        self._register_interests(packages)
        self._activate(packages)
        names = {(one.package.name.encode(), one.package.architecture.encode()) for one in packages}
        kept = [
            p
            for p in self.read("status").split(b"\n\n")
            if p.strip() and (_name(p), _field(p, b"Architecture: ")) not in names
        ]
        new = [status_paragraph(one) for one in packages]
        self.write("status", b"".join(p.strip(b"\n") + b"\n\n" for p in (*kept, *new)))

    def states(self) -> dict[str, str]:
        """Each package's state ("installed", "half-configured", …), by NAME:ARCHITECTURE."""
        found = {}
        for paragraph in self.read("status").split(b"\n\n"):
            for line in paragraph.split(b"\n"):
                if line.startswith(b"Status: "):
                    key = _name(paragraph) + b":" + _field(paragraph, b"Architecture: ")
                    found[key.decode()] = line.split()[-1].decode()
        return found

    def diversions_for(self, one: Unpacked) -> dict[bytes, bytes]:
        """The package's paths diverted by another package or the administrator, and where to (dpkg-divert(1))."""
        lines = self.read("diversions").splitlines()
        moved = {}
        for path, new, owner in zip(lines[::3], lines[1::3], lines[2::3], strict=False):
            if owner == one.package.name.encode():
                continue
            key = path.lstrip(b"/")
            moved[key] = new.lstrip(b"/")
            if key.partition(b"/")[0] in ALIASES:
                moved[b"usr/" + key] = new.lstrip(b"/")  # its path in a tree with a merged /usr
        return moved

    def write_control(self, one: Unpacked) -> None:
        """Fill tmp.ci, where dpkg runs a preinst: debconf reads the package's name from the control file there."""
        with self._folder(f"{ADMIN}/tmp.ci") as parent:
            for name, data in one.control.items():
                mode = 0o755 if one.modes[name][0] & 0o111 else 0o644
                _write(parent, name, data, mode, None)

    def clear_control(self) -> None:
        """Remove tmp.ci and the files in it."""
        with self._folder(f"{ADMIN}/tmp.ci") as parent:
            for name in os.listdir(parent):
                os.unlink(name, dir_fd=parent)
        with self._folder(ADMIN) as parent:
            os.rmdir("tmp.ci", dir_fd=parent)

    @contextlib.contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        held = make_directories(self._rootfd, path)
        # An O_PATH descriptor is enough for the *at calls, but not to list the directory.
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
        os.close(held)
        try:
            yield fd
        finally:
            os.close(fd)

    def _write_info(self, packages: list[Unpacked]) -> None:
        with self._folder(f"{ADMIN}/info") as info:
            for one in packages:
                name = info_name(one)
                listed = "\n".join(one.files) + "\n"
                _write(info, f"{name}.list", listed.encode("utf-8", "surrogateescape"), 0o644, None)
                for kind, data in one.control.items():
                    if kind != "control":
                        mode, mtime_s = one.modes[kind]
                        _write(info, f"{name}.{kind}", data, 0o755 if mode & 0o111 else 0o644, mtime_s)

    def _register_interests(self, packages: list[Unpacked]) -> None:
        files = self.read("triggers/File").decode().splitlines()
        for one in packages:
            name = info_name(one)
            for directive, trigger in _triggers(one):
                if not directive.startswith("interest"):
                    continue
                line = name + ("/noawait" if directive.endswith("-noawait") else "")
                if trigger.startswith("/"):
                    files.append(f"{trigger} {line}")
                else:
                    self.write(f"triggers/{trigger}", self.read(f"triggers/{trigger}") + line.encode() + b"\n")
        if files:
            self.write("triggers/File", "".join(line + "\n" for line in files).encode())

    def _activate(self, packages: list[Unpacked]) -> None:
        """Record the triggers that the packages activate, explicitly or by their files; dpkg does the rest."""
        interests = [line.split() for line in self.read("triggers/File").decode().splitlines()]
        watched = tuple(trigger for trigger, _ in interests)
        pulled = {line.split()[0]: line for line in self.read("triggers/Unincorp").decode().splitlines()}
        for one in packages:
            for directive, trigger in _triggers(one):
                if directive.startswith("activate"):
                    pulled.setdefault(trigger, f"{trigger} -")
            for path in one.files:
                if not path.startswith(watched):
                    continue
                for trigger in watched:
                    if path == trigger or path.startswith(trigger + "/"):
                        pulled.setdefault(trigger, f"{trigger} -")
        self.write("triggers/Unincorp", "".join(pulled[key] + "\n" for key in sorted(pulled)).encode())


def info_name(one: Unpacked) -> str:
    """The base name of the package's files in info/: with the architecture if several can be installed."""
    control = b"\n" + one.control["control"] + b"\n"
    return f"{one.package.name}:{one.package.architecture}" if _ARCHITECTURE_IN_NAME in control else one.package.name


def status_paragraph(one: Unpacked) -> bytes:
    """The package's paragraph in the status file, in the state `unpacked`."""
    lines = one.control["control"].strip(b"\n").split(b"\n")
    if not lines[0].startswith(b"Package:"):
        lines.sort(key=lambda line: not line.startswith(b"Package:"))
        if not lines[0].startswith(b"Package:"):
            raise Malformed(f"register {one.package.name}", because="its control file has no field Package")
    text = lines[0] + b"\nStatus: install ok unpacked\n" + b"\n".join(lines[1:]) + b"\n"
    named = [line.split() for line in one.control.get("conffiles", b"").splitlines() if line.strip()]
    if named:
        text += b"Conffiles:\n"
    for (
        *flags,
        path,
    ) in named:  # deb-conffiles(5): its only flag, remove-on-upgrade, comes before the path
        digest = one.conffiles.get(path.decode("utf-8", "surrogateescape"), "newconffile")
        text += b" ".join((b"", path, digest.encode(), *flags)) + b"\n"
    return text


def _triggers(one: Unpacked) -> Iterator[tuple[str, str]]:
    """(directive, trigger) of deb-triggers(5)."""
    for line in one.control.get("triggers", b"").decode("utf-8", "replace").splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2:
            yield words[0], words[1]


def _name(paragraph: bytes) -> bytes:
    return _field(paragraph, b"Package: ")


def _field(paragraph: bytes, start: bytes) -> bytes:
    for line in paragraph.split(b"\n"):
        if line.startswith(start):
            return line[len(start) :].strip()
    return b""


def _write(parent: int, name: str, data: bytes, mode: int, mtime_s: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, mode, dir_fd=parent)
    try:
        _check_file(fd, name)
        os.ftruncate(fd, 0)
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if mtime_s is not None:
            os.utime(fd, (mtime_s, mtime_s))
    finally:
        os.close(fd)


def _check_file(fd: int, name: str) -> None:
    """Raise OSError if it is not a regular file: opening a fifo that a package or script made would block for ever."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "it is not a file", f"/{ADMIN}/{name}")
