"""What no committed file may hold: paths of somebody's machine, hosts that only a package client should know."""

import re
import subprocess
from pathlib import Path

TOP = Path(__file__).parents[2]

# Written with character classes, so that this file does not hold what it looks for.
BANNED = {
    "a package registry's host (name a mirror by its setting, not its host)": re.compile(
        r"(?<![a-z])(p[y]pi\.[a-z]+|python[h]osted|registry\.n[p]m|deb\.[a-z]+\.org)", re.IGNORECASE
    ),
    "a path of one machine": re.compile(r"/w[o]rk/|/f[a]rm/|\.libr[a]ry|/home/[a-z]+/|/r[o]ot/\.|/tmp/v[e]nv"),
}
LARGEST_BYTES = 1_500_000


def committed() -> list[Path]:
    names = subprocess.run(["git", "-C", str(TOP), "ls-files", "-z"], capture_output=True, check=True).stdout
    return [TOP / name for name in names.decode().split("\0") if name and (TOP / name).is_file()]


def test_no_banned_words() -> None:
    found = []
    for path in committed():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # keyrings
        for what, pattern in BANNED.items():
            lines = [text.count("\n", 0, match.start()) + 1 for match in pattern.finditer(text)]
            found += [f"{path.relative_to(TOP)}:{number}: {what}" for number in lines]
    assert not found, "\n".join(found)


def test_no_large_files() -> None:
    large = [str(path.relative_to(TOP)) for path in committed() if path.stat().st_size > LARGEST_BYTES]
    assert not large
