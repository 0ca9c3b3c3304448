"""Parse /proc/PID/mountinfo, the mounts of a process (proc(5)). No other module parses it.

Only a newline ends a line, not the other characters that end one for Python: a mount point may hold a carriage return
or U+2028, and the kernel writes both unescaped. Names are bytes, decoded as by os.fsdecode.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    # (id, device, root within the file system, mount point, options, type, source, the file system's options)
    Mount = tuple[str, str, str, str, str, str, str, str]

OWN = "/proc/self/mountinfo"


def read(path: str = OWN) -> str:
    """The whole text, however long. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        # The kernel returns it in parts of less than a page, however large the buffer (fs/seq_file.c).
        while part := os.read(fd, 1 << 17):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def mounts(text: str) -> "Iterator[Mount]":
    """The mounts of such a text, in its order. A line that is not a mount (a cut-off one) is skipped."""
    for line in text.split("\n"):
        before, _, after = line.partition(" - ")
        head, tail = before.split(" "), after.split(" ", 2)
        if len(head) > 5 and len(tail) > 2:
            root, point, source = unescaped(head[3]), unescaped(head[4]), unescaped(tail[1])
            yield head[0], head[2], root, point, head[5], tail[0], source, tail[2]


def unescaped(field: str) -> str:
    """A field with the kernel's escapes undone: it writes blanks, tabs, newlines, backslashes (and #) as \\ooo."""
    if "\\" not in field:
        return field
    first, *rest = field.split("\\")
    return first + "".join(chr(int(piece[:3], 8)) + piece[3:] for piece in rest)
