"""Compile config.json's linux.seccomp to a program for the kernel, with a cache.

An engine sends the same profile of 400 names with every container. Compiling it costs more than the rest of a start, so
the program is cached in a file with the whole profile and the program made from it. A second start reads this file and
imports nothing; `compiler` and the tables below `calls` are loaded only if there is no such file
(docs/decisions/0005-seccomp.md).
"""

import marshal
import os

from toolkit import __version__
from toolkit.kernel import atomic, ours
from toolkit.kernel.libc import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MAGIC = b"ctkbpf1\n"
_HEADER = 16  # the magic, then the profile's size and the filter's flags, 4 bytes each
_MAX_SIZE = 4 << 20
_MAX_FILES = 256
# For the file's name. It is only a name: what counts is that the profile in the file equals the one asked for.
_PRIME = (1 << 127) - 1


class Program:
    """A compiled filter: `code` (an array of struct sock_filter) and `flags` for seccomp(2).

    If the profile has SCMP_ACT_NOTIFY, `notify` is true, `flags` has SECCOMP_FILTER_FLAG_NEW_LISTENER, and the
    descriptor that the kernel returns is sent to the socket at `listener_path` with `metadata`.
    """

    __slots__ = ("code", "flags", "listener_path", "metadata")

    def __init__(self, code: bytes, flags: int, listener_path: str = "", metadata: str = "") -> None:
        self.code = code
        self.flags = flags
        self.listener_path = listener_path
        self.metadata = metadata

    @property
    def notify(self) -> bool:
        """Whether the kernel will notify an agent."""
        return self.flags & 8 != 0  # SECCOMP_FILTER_FLAG_NEW_LISTENER


def program_for(seccomp: "Mapping[str, Any]", cache_dir: "str | None") -> Program:
    """The program for `seccomp`, the parsed linux.seccomp, on this machine.

    `cache_dir` is ctk's cache folder (places.cache_dir()), made if missing, or None for no cache; a cache that cannot
    be used is ignored. Raises Invalid with the JSON path of what is wrong in the profile.
    """
    folder = f"{cache_dir}/seccomp" if cache_dir is not None else None
    source = _source(seccomp) if folder is not None else None
    if folder is not None and source is not None:
        found = _load(folder, source)
        if found is not None:
            return _with_listener(*found, seccomp)
    from toolkit.runtime.seccomp import compiler

    code, flags = compiler.compiled(seccomp, MACHINE)
    if folder is not None and source is not None:
        _store(folder, source, code, flags)
    return _with_listener(code, flags, seccomp)


def refuse_unknown(seccomp: "Mapping[str, Any]") -> None:
    """Raise Invalid for a name that no architecture of this machine has; normally such a rule is left out.

    For crun's annotation run.oci.seccomp_fail_unknown_syscall.
    """
    from toolkit.runtime.seccomp import compiler

    compiler.refuse_unknown(seccomp, MACHINE)


def _with_listener(code: bytes, flags: int, seccomp: "Mapping[str, Any]") -> Program:
    return Program(code, flags, seccomp.get("listenerPath") or "", seccomp.get("listenerMetadata") or "")


def _source(seccomp: "Mapping[str, Any]") -> "bytes | None":
    """The input of the program as bytes: the profile, the machine, and the compiler's version."""
    try:
        # Version 2 has no back references, so equal documents give equal bytes.
        return marshal.dumps((__version__, MACHINE, dict(seccomp)), 2)
    except ValueError:  # too deeply nested, or not JSON: the compiler will report what is wrong
        return None


def _name(source: bytes) -> str:
    return format(int.from_bytes(source, "little") % _PRIME, "032x")


def _open_own(path: str, flags: int, at: "int | None" = None) -> int:
    """Open a file or folder that nobody but us could have written. Raises OSError if it is missing or another's."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    facts = os.fstat(fd)
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        os.close(fd)
        raise PermissionError(1, "writable by others", path)
    return fd


def _load(folder: str, source: bytes) -> "tuple[bytes, int] | None":
    """The cached program, with its flags.

    A cached program decides what a container may do, so it is used only if the folder and the file are ours, nobody
    else can write to them, and the file has exactly this profile.
    """
    directory = fd = -1
    try:
        directory = _open_own(folder, os.O_RDONLY | os.O_DIRECTORY)
        fd = _open_own(_name(source), os.O_RDONLY | os.O_NONBLOCK, directory)
        data = os.read(fd, _MAX_SIZE)
    except OSError:
        return None
    finally:
        if fd >= 0:
            os.close(fd)
        if directory >= 0:
            os.close(directory)
    end = _HEADER + len(source)
    if data[:8] != _MAGIC or int.from_bytes(data[8:12], "little") != len(source) or data[_HEADER:end] != source:
        return None
    code = data[end:]
    # The file is renamed into place when it is complete, but a crash of the host may have cut off its end.
    if not code or len(code) % 8 or len(data) == _MAX_SIZE or code[-8:] == bytes(8):
        return None
    return code, int.from_bytes(data[12:16], "little")


def _store(folder: str, source: bytes, code: bytes, flags: int) -> None:
    """Cache the program. Errors are ignored: the container starts without the cache, too."""
    directory = -1
    try:
        ours.make_private(folder)
        directory = _open_own(folder, os.O_RDONLY | os.O_DIRECTORY)
        names = os.listdir(directory)
        if len(names) >= _MAX_FILES:
            for name in names:
                os.unlink(name, dir_fd=directory)
        header = _MAGIC + len(source).to_bytes(4, "little") + flags.to_bytes(4, "little")
        atomic.replace(_name(source), header + source + code, dir_fd=directory)
    except OSError:
        return
    finally:
        if directory >= 0:
            os.close(directory)
