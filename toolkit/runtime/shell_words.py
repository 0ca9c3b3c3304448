"""What steps need to tell themselves as shell lines: quoting, and mount(8)'s words. Imported only where plans are told.

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
    """The command that writes `text` and a newline: echo(1) where every shell's writes it as it is."""
    return ("echo " if "\\" not in text and not text.startswith("-") else "printf '%s\\n' ") + word(text)


def in_root(path: str) -> str:
    """A path of the container, quoted, below `$root`."""
    path = _within(path)
    for character in '\\"$`':
        path = path.replace(character, "\\" + character)
    return f'"$root{path}"'


def _within(path: str) -> str:
    """The path below the root, "" for the root itself: `..` leads no further up."""
    return os.path.normpath("/" + path.lstrip("/")).rstrip("/")


def each_in_root(paths: "Sequence[str]", lines: "Sequence[str]") -> str:
    """A loop that does `lines` with each path of the container, below `$root`, as `$path`."""
    words = " ".join(word(_within(path) or "/") for path in paths)
    return "\n".join([f"for path in {words}; do", '  path="$root$path"', *("  " + line for line in lines), "done"])


def options(given: "Options", *, leave_out: int = 0) -> str:
    """mount(8)'s option list of new file systems: flags but `leave_out`, then what goes to the file system."""
    flags = given.flags & ~leave_out
    names = [n for n, (flag, clear) in mount_options.FLAGS.items() if not clear and flag and flags & flag == flag]
    return ",".join([name for name in names if name not in ("bind", "rbind")] + given.data)


def dash_o(data: str, own: str = "") -> str:
    """mount(8)'s -o with a blank behind it, "" for no options: `data` (a document's) as a quoted word, and after it
    `own`, an option of ours that the shell is to expand.
    """
    if not data and not own:
        return ""
    return f"-o {word(data) if data else ''}{',' if data and own else ''}{own} "


def attributes(given: "Options") -> str:
    """mount(8)'s option list for the attributes that a bind mount has of its own; "" if it keeps the source's."""
    words = []
    for name, (flag, clear) in mount_options.FLAGS.items():
        kind = flag in mount_options.ATTRIBUTES or flag in (m.MS_NOATIME, m.MS_RELATIME, m.MS_STRICTATIME)
        if kind and (given.cleared if clear else given.flags) & flag:
            words.append(name)
    if any(given.of_a_bind()):  # what is not named is cleared; mount(8) keeps it
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
