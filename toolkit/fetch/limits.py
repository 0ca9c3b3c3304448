"""Parse the size limit of a folder, as users write it: 10G."""

import os
import re

from toolkit.errors import Usage

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(written: str, *, what: str) -> int:
    """`10G`, `500M`, `0` in bytes. Raises Usage, whose message says `what` was read."""
    found = re.fullmatch(r"(\d{1,12})([KMGT]?)(i?B)?", written.strip(), re.ASCII | re.IGNORECASE)
    if not found:
        raise Usage(f"read {what}", because=f"{written!r} is not a size", hint="for example 10G, 500M, or 0")
    return int(found[1]) * _UNITS[found[2].upper()]


def of(variable: str, default_bytes: int) -> int:
    """The limit in this environment variable. Raises Usage."""
    written = os.environ.get(variable, "")
    return size(written, what=variable) if written else default_bytes
