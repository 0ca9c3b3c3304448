"""Sizes and counts as people write them."""

import re

from toolkit.errors import Usage

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b?)", re.IGNORECASE | re.ASCII)


def size_bytes(text: str, *, option: str) -> int:
    """'64M', '1.5g', '512KiB', '1048576' in bytes. Units are powers of 1024, as in every engine's --memory.

    '-1' and 'max' are -1, the spec's "no limit". Raises Usage naming `option`.
    """
    if text.strip() in ("-1", "max", "unlimited"):
        return -1
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Usage(f"read {option} {text!r}", because="not a size", hint="write it as 64M, 1.5G or a number of bytes")
    exponent = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**exponent)


def number(text: str, *, option: str, least: int | None = None) -> int:
    """A whole number. Raises Usage naming `option`, also if it is below `least`."""
    try:
        value = int(text)
    except ValueError:
        raise Usage(f"read {option} {text!r}", because="not a whole number") from None
    if least is not None and value < least:
        raise Usage(f"read {option} {text!r}", because=f"it must be at least {least}")
    return value
