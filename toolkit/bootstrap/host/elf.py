"""The files that a program of this host needs to start: its interpreter and its libraries, found as ld.so(8) does.

Each DT_NEEDED name is searched for in the DT_RPATH of the file that needs it and of those that loaded that one (if they
have no DT_RUNPATH), in its DT_RUNPATH, in /etc/ld.so.cache, and in the system's folders. All variants for better
processors (glibc-hwcaps/…, "The subdirectories for hardware capabilities") are included beside the plain library,
because the processor decides later which one is loaded. LD_LIBRARY_PATH is ignored: the container has its own
environment.
"""

import os
import struct
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from toolkit.errors import NotFound

_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_HWCAPS_BIT = 1 << 62  # an entry for a glibc-hwcaps folder (sysdeps/generic/dl-cache.h, DL_CACHE_HWCAP_EXTENSION)
_NODEFLIB = 0x800  # DF_1_NODEFLIB
_SYSTEM_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")


@dataclass(frozen=True, slots=True)
class Elf:
    """What the loader reads from one file."""

    path: str
    machine: tuple[str, int]
    interpreter: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    no_default: bool


def read(path: str) -> Elf | None:
    """The dynamic section of a file; None if it is not an ELF file. Raises OSError."""
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
        file.seek(0)
        interpreter, needed, rpath, runpath, flags = "", [], "", "", 0
        try:
            elf: Any = ELFFile(file)
            machine = (str(elf["e_machine"]), int(elf.elfclass))
            for segment in elf.iter_segments():
                if isinstance(segment, InterpSegment):
                    interpreter = segment.get_interp_name()
                elif isinstance(segment, DynamicSegment):
                    tag: Any  # its attributes depend on its kind
                    for tag in segment.iter_tags():
                        kind = tag.entry.d_tag
                        if kind == "DT_NEEDED":
                            needed.append(tag.needed)
                        elif kind == "DT_RPATH":
                            rpath = tag.rpath
                        elif kind == "DT_RUNPATH":
                            runpath = tag.runpath
                        elif kind == "DT_FLAGS_1":
                            flags = tag.entry.d_val
        except (ELFError, struct.error, ValueError):
            return None
    folder = os.path.dirname(os.path.realpath(path))
    # DT_RPATH is ignored if there is a DT_RUNPATH (ld.so(8)).
    return Elf(
        path,
        machine,
        interpreter,
        tuple(needed),
        () if runpath else _expanded(rpath, folder),
        _expanded(runpath, folder),
        bool(flags & _NODEFLIB),
    )


def _expanded(folders: str, origin: str) -> tuple[str, ...]:
    """A search path with $ORIGIN, $LIB and $PLATFORM expanded (ld.so(8), "Dynamic string tokens")."""
    found = []
    for folder in folders.split(":"):
        if not folder:
            continue
        folder = folder.replace("${", "$").replace("}", "")
        folder = folder.replace("$ORIGIN", origin).replace("$PLATFORM", os.uname().machine)
        multiarch = f"lib/{os.uname().machine}-linux-gnu"
        libs = (multiarch, "lib64", "lib") if "$LIB" in folder else ("",)
        found += [folder.replace("$LIB", lib) for lib in libs]
    return tuple(found)


def cache_entries(data: bytes) -> dict[str, list[tuple[str, bool]]]:
    """Library name to (path, whether it is in a glibc-hwcaps folder), in the cache's order; {} for another format."""
    start = data.find(_CACHE_MAGIC)  # a table in the older format may come before it
    if start < 0 or len(data) < start + 48:
        return {}
    (count,) = struct.unpack_from("<I", data, start + 20)
    found: dict[str, list[tuple[str, bool]]] = {}
    for index in range(count):
        at = start + 48 + index * 24
        if at + 24 > len(data):
            break
        _, key, value, _, hwcap = struct.unpack_from("<iIIIQ", data, at)
        name, path = (_text(data, start + offset) for offset in (key, value))
        found.setdefault(name, []).append((path, bool(hwcap & _HWCAPS_BIT)))
    return found


def _text(data: bytes, at: int) -> str:
    return os.fsdecode(data[at : data.find(b"\0", at)])


class Loader:
    """Finds libraries as the host's dynamic loader does; `closure` gives all that a file needs."""

    def __init__(self, cache: str = "/etc/ld.so.cache") -> None:
        self._cache: dict[str, list[tuple[str, bool]]] = {}
        try:
            with open(cache, "rb") as file:
                self._cache = cache_entries(file.read())
        except OSError:
            pass
        self._read: dict[str, Elf | None] = {}

    def elf(self, path: str) -> Elf | None:
        """`read`, once per file; None for a file that can't be read."""
        if path not in self._read:
            try:
                self._read[path] = read(path)
            except OSError:
                self._read[path] = None
        return self._read[path]

    def closure(self, path: str) -> list[str]:
        """The paths of the interpreter and the libraries that the program or library at `path` needs, without `path`.

        Raises NotFound for a library that can't be found.
        """
        first = self.elf(path)
        if first is None:
            return []
        found: list[str] = []
        system = list(_SYSTEM_FOLDERS)
        interpreter = first.interpreter
        if interpreter:
            found.append(interpreter)
            # Debian's loader searches its multiarch folder, which is the one that it is in.
            system.insert(0, os.path.dirname(os.path.realpath(interpreter)))
        if "ld-musl-" in interpreter:
            system = _musl_folders(interpreter)
        seen: set[str] = set()
        todo: list[tuple[Elf, tuple[Elf, ...]]] = [(first, ())]
        while todo:
            elf, brought_by = todo.pop(0)
            for name in elf.needed:
                if name in seen:
                    continue
                seen.add(name)
                paths = self._find(name, elf, brought_by, first.machine, system)
                if not paths:
                    because = f"{elf.path!r} needs it, and it is in no library folder"
                    raise NotFound(f"find the library {name!r}", because=because)
                for library in paths:
                    if library not in found:
                        found.append(library)
                    inner = self.elf(library)
                    if inner is not None:
                        todo.append((inner, (elf, *brought_by)))
        return found

    def named(self, name: str, like: str) -> list[str]:
        """The paths of the library `name` for a program like `like` that opens it by dlopen(3); [] if there is none."""
        elf = self.elf(like)
        if elf is None:
            return []
        system = [os.path.dirname(os.path.realpath(elf.interpreter or like)), *_SYSTEM_FOLDERS]
        return self._find(name, elf, (), elf.machine, system)

    def _find(
        self, name: str, elf: Elf, brought_by: tuple[Elf, ...], machine: tuple[str, int], system: list[str]
    ) -> list[str]:
        """The path of the library that is loaded, and its variants for better processors."""
        if "/" in name:
            return [name] if self._fits(name, machine) else []
        folders = list(elf.runpath)
        if not elf.runpath:
            folders = [folder for one in (elf, *brought_by) for folder in one.rpath]
        for folder in folders:
            if paths := self._in_folder(folder, name, machine):
                return paths
        if elf.no_default:
            return []
        fitting = [(path, better) for path, better in self._cache.get(name, ()) if self._fits(path, machine)]
        plain = [path for path, better in fitting if not better][:1]
        if fitting:
            return plain + [path for path, better in fitting if better]
        for folder in system:
            if paths := self._in_folder(folder, name, machine):
                return paths
        return []

    def _in_folder(self, folder: str, name: str, machine: tuple[str, int]) -> list[str]:
        found = [f"{folder}/{name}"] if self._fits(f"{folder}/{name}", machine) else []
        try:
            variants = sorted(os.listdir(f"{folder}/glibc-hwcaps"))
        except OSError:
            return found
        paths = [f"{folder}/glibc-hwcaps/{variant}/{name}" for variant in variants]
        return found + [path for path in paths if self._fits(path, machine)]

    def _fits(self, path: str, machine: tuple[str, int]) -> bool:
        elf = self.elf(path) if os.path.isfile(path) else None
        return elf is not None and elf.machine == machine


def _musl_folders(interpreter: str) -> list[str]:
    """musl's search path (ldso/dynlink.c): /etc/ld-musl-ARCH.path, or the built-in one."""
    name = os.path.basename(interpreter).removesuffix(".so.1")
    try:
        with open(f"/etc/{name}.path", encoding="utf-8") as file:
            return file.read().replace(":", "\n").split()
    except OSError:
        return ["/lib", "/usr/local/lib", "/usr/lib"]


def script_interpreter(path: str) -> list[str]:
    """The words of a script's first line (`#!`); [] if it is not a script. Raises OSError."""
    with open(path, "rb") as file:
        if file.read(2) != b"#!":
            return []
        return os.fsdecode(file.readline(256)).split()
