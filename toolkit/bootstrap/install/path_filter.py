"""dpkg's path-exclude and path-include: which files of a package are not extracted.

The rules are dpkg's (dpkg(1), --path-exclude): the last glob that matches wins, `*` matches slashes too, and an
excluded directory or link is kept if an include may match something below it.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator

from toolkit.archive.entries import DIRECTORY, SYMLINK

Skips = Callable[[bytes, bytes], bool]  # (path in the package without its first slash, kind of tar_read)

_OPTION = re.compile(r"\s*path-(exclude|include)\s*(?:=|\s)\s*(.*?)\s*$")
_WILD = re.compile(r"[*?\[\\]")


def path_filter(lines: Iterable[str]) -> Skips | None:
    """The filter defined by the lines of a dpkg.cfg(5); None if they define none."""
    rules = list(_rules(lines))
    if not any(exclude for exclude, _, _ in rules):
        return None

    def skips(path: bytes, kind: bytes) -> bool:
        name = "/" + path.decode("utf-8", "surrogateescape")
        skip = False
        for exclude, matches, _ in rules:
            if skip != exclude and matches(name):
                skip = exclude
        if skip and kind in (DIRECTORY, SYMLINK):
            return not any(not exclude and name.startswith(prefix) for exclude, _, prefix in rules)
        return skip

    return skips


def _rules(lines: Iterable[str]) -> Iterator[tuple[bool, Callable[[str], object], str]]:
    """(whether it excludes, the glob as a function, the part before its first wildcard)."""
    for line in lines:
        found = _OPTION.match(line.removeprefix("--"))
        if found:
            glob = found[2].strip("\"'")
            prefix = _WILD.split(glob, maxsplit=1)[0].rstrip("/")
            yield found[1] == "exclude", re.compile(_translated(glob), re.DOTALL).match, prefix


def _translated(glob: str) -> str:
    """The glob for Python's fnmatch: in fnmatch(3) a backslash quotes the next character, in Python it does not."""
    out = []
    for part in re.split(r"(\\.)", glob, flags=re.DOTALL):
        out.append("[" + part[1] + "]" if part[:1] == "\\" and part[1:] in ("*", "?", "[") else part)
    return fnmatch.translate("".join(out))
