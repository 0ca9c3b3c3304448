"""libc's syscall(3) by `_ctypes`: `import ctypes` costs 4 to 5 ms, this 0.8 (docs/performance.md). For libc.py only."""

import _ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class c_long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A C long."""

    _type_ = "l"


class c_char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A C char."""

    _type_ = "c"


class c_void_p(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A C pointer: an int, bytes, a buffer, or None for NULL."""

    _type_ = "P"


class _Syscall(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = c_long
    _argtypes_ = (c_long, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)


_library = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]  # the program itself
syscall: "Callable[..., int]" = _Syscall(_ctypes.dlsym(_library, "syscall"))
get_errno: "Callable[[], int]" = _ctypes.get_errno
addressof: "Callable[[Any], int]" = _ctypes.addressof
