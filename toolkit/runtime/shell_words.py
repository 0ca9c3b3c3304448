"""Helpers to describe steps as shell lines: quoting, and mount(8)'s options. Imported only to explain a plan.

In such a line `$root` is the host path of the root file system.
"""

import os

from toolkit.kernel import mounts as m
from toolkit.runtime import mount_options
from toolkit.text import quote as word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.mount_options import Options


def put(text: str) -> str:
    """The command that writes `text` and a newline: echo(1) if every shell's echo writes it unchanged."""
    return ("echo " if "\\" not in text and not text.startswith("-") else "printf '%s\\n' ") + word(text)


def in_root(path: str) -> str:
    """A path of the container, quoted, below `$root`."""
    path = _within(path)
    for character in '\\"$`':
        path = path.replace(character, "\\" + character)
    return f'"$root{path}"'


def _within(path: str) -> str:
    """The path below the root, "" for the root itself; `..` can't lead above the root."""
    return os.path.normpath("/" + path.lstrip("/")).rstrip("/")


def each_in_root(paths: "Sequence[str]", lines: "Sequence[str]") -> str:
    """A loop that runs `lines` for each path of the container, below `$root`, as `$path`."""
    words = " ".join(word(_within(path) or "/") for path in paths)
    return "\n".join([f"for path in {words}; do", '  path="$root$path"', *("  " + line for line in lines), "done"])


def options(given: "Options", *, leave_out: int = 0) -> str:
    """mount(8)'s option list for a new file system: flags except `leave_out`, then the file system's own options."""
    flags = given.flags & ~leave_out
    names = [n for n, (flag, clear) in mount_options.FLAGS.items() if not clear and flag and flags & flag == flag]
    return ",".join([name for name in names if name not in ("bind", "rbind")] + given.data)


def dash_o(data: str, own: str = "") -> str:
    """mount(8)'s -o followed by a blank, "" for no options.

    `data`, from a document, becomes a quoted word; `own` is an option of ours after it, which the shell expands.
    """
    if not data and not own:
        return ""
    return f"-o {word(data) if data else ''}{',' if data and own else ''}{own} "


def attributes(given: "Options") -> str:
    """mount(8)'s option list for a bind mount's own attributes; "" if it keeps those of the source."""
    words = []
    for name, (flag, clear) in mount_options.FLAGS.items():
        kind = flag in mount_options.ATTRIBUTES or flag in (m.MS_NOATIME, m.MS_RELATIME, m.MS_STRICTATIME)
        if kind and (given.cleared if clear else given.flags) & flag:
            words.append(name)
    if any(given.of_a_bind()):  # flags that are not named are cleared; mount(8) would keep them
        named = given.flags | given.cleared
        words += [word for word, flag in _CLEARING if not named & flag]
    return ",".join(words)


_CLEARING = (("rw", m.MS_RDONLY), ("suid", m.MS_NOSUID), ("dev", m.MS_NODEV), ("exec", m.MS_NOEXEC))


def propagation(flags: int) -> str:
    """mount(8)'s option for a propagation type: --make-rslave."""
    for name, value in mount_options.PROPAGATION.items():
        if value == flags:
            return "--make-" + name
    return "--make-rprivate"


def parent(path: str) -> str:
    """The folder above a path of the container."""
    return path.rstrip("/").rpartition("/")[0] or "/"
