"""A stand-in for the module `os` while a runtime verb runs: what `posix` has, and the little of `os` that verbs use.

Importing the real one takes 1.3 ms of processor time, a tenth of `ctk state`: 0.7 of it are the abstract base classes
that `os.environ` and `os.PathLike` are made of. preload.py puts this module into `sys.modules` as `os` if nothing has
imported the real one. Whatever is missing here (`os.walk`, `os.PathLike`) brings the real module: its contents are
copied into this one, and later imports get it. So a module of the standard library that needs more of `os` than we do
works as ever, only later; tests/architecture/test_hot_path.py holds which verbs never need it.

It counts on UTF-8 as the encoding of the file system, which `__main__` sees to. Drop it when `import os` is cheap.
"""

import posix as _posix
import sys as _sys
from posix import *  # noqa: F403  # as `os` does
from posix import _exit as _exit  # it has it, too

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

name = "posix"
curdir, pardir, sep, extsep, pathsep, linesep, devnull = ".", "..", "/", ".", ":", "\n", "/dev/null"
SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2
environb = _posix.environ


def fsencode(filename: "Any") -> bytes:
    """As os.fsencode."""
    filename = _posix.fspath(filename)
    return filename.encode("utf-8", "surrogateescape") if isinstance(filename, str) else filename


def fsdecode(filename: "Any") -> str:
    """As os.fsdecode."""
    filename = _posix.fspath(filename)
    return filename if isinstance(filename, str) else filename.decode("utf-8", "surrogateescape")


class _Environment(dict):  # type: ignore[type-arg]  # a parameter would be evaluated
    """As os.environ: changes also go to the process and to posix.environ, of which the real os.environ is made."""

    def __setitem__(self, key: str, value: str) -> None:
        raw, text = fsencode(key), fsencode(value)
        _posix.putenv(raw, text)
        _posix.environ[raw] = text
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: str) -> None:
        dict.__delitem__(self, key)
        _posix.unsetenv(fsencode(key))
        del _posix.environ[fsencode(key)]

    def pop(self, key: str, *default: "Any") -> "Any":
        if key not in self:
            return dict.pop(self, key, *default)
        value = self[key]
        del self[key]
        return value

    def setdefault(self, key: str, value: "Any" = None) -> "Any":
        if key not in self:
            self[key] = value
        return self[key]

    def update(self, *others: "Any", **named: str) -> None:
        for key, value in dict(*others, **named).items():
            self[key] = value

    def __ior__(self, other: "Any") -> "Any":  # type: ignore[misc]  # that of dict returns a dict
        self.update(other)
        return self

    def popitem(self) -> "tuple[str, str]":
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("it is empty")

    def clear(self) -> None:
        for key in list(self):
            del self[key]


environ: "Any" = _Environment(  # type: ignore[no-redef]  # that of `posix` is of bytes
    [
        (_key.decode("utf-8", "surrogateescape"), _value.decode("utf-8", "surrogateescape"))
        for _key, _value in _posix.environ.items()
    ]
)


def getenv(key: str, default: "Any" = None) -> "Any":
    """As os.getenv."""
    return environ.get(key, default)  # type: ignore[call-overload]


def _join(a: "Any", *more: "Any") -> "Any":
    for part in more:
        if part.__class__ is not str or a.__class__ is not str:
            import posixpath

            return posixpath.join(a, *more)
        if part[:1] == "/" or not a:
            a = part
        elif a[-1] == "/":
            a += part
        else:
            a += "/" + part
    return a


def _exists(path: "Any") -> bool:
    try:
        _posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _lexists(path: "Any") -> bool:
    try:
        _posix.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def _isdir(path: "Any") -> bool:
    try:
        return _posix.stat(path).st_mode & 0o170000 == 0o040000
    except (OSError, ValueError):
        return False


def _dirname(path: "Any") -> "Any":
    if path.__class__ is not str:
        import posixpath

        return posixpath.dirname(path)
    head = path[: path.rfind("/") + 1]
    return head.rstrip("/") or head


def _abspath(path: "Any") -> "Any":
    if path.__class__ is not str or not _normalize:
        import posixpath

        return posixpath.abspath(path)
    return _normalize(path if path[:1] == "/" else _join(_posix.getcwd(), path)) or "."


def _normpath(path: "Any") -> "Any":
    if path.__class__ is not str or not _normalize:
        import posixpath

        return posixpath.normpath(path)
    return _normalize(path) or "."


_normalize: "Any" = getattr(_posix, "_path_normpath", None)  # posixpath itself takes it if it is there


def _more_of_paths(attribute: str) -> "Any":
    import posixpath

    return getattr(posixpath, attribute)


# A stand-in for `posixpath`: what verbs use of it, for `str`; the rest, and other types, are the real module's.
path = type(_sys)("posixpath")
path.__dict__.update(
    join=_join, exists=_exists, lexists=_lexists, isdir=_isdir, dirname=_dirname, abspath=_abspath, normpath=_normpath,
    __getattr__=_more_of_paths,
)  # fmt: skip


def __getattr__(attribute: str) -> "Any":
    """What only the real module has: from now on this one has all of it, and `import os` gives the real one."""
    ours = _sys.modules[__name__].__dict__
    if _sys.modules.get("os") is _sys.modules[__name__]:
        del _sys.modules["os"], _sys.modules["os.path"]
    import os

    own = ("__name__", "__package__", "__file__", "__getattr__")
    ours.update({key: value for key, value in os.__dict__.items() if key not in own})
    return getattr(os, attribute)


if "os" not in _sys.modules:
    _sys.modules["os"] = _sys.modules[__name__]
    _sys.modules["os.path"] = path
