"""Sizes, durations and counts as people write them."""

import re

from toolkit.errors import Usage

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b?)", re.IGNORECASE | re.ASCII)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)?", re.ASCII)
_SCALE_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def size_bytes(text: str, *, option: str) -> int:
    """'64M', '1.5g', '512KiB', '1048576' in bytes. A unit is a power of 1024, as every engine's --memory has it.

    '-1' and 'max' are -1, the spec's "no limit". Raises Usage naming `option`.
    """
    if text.strip() in ("-1", "max", "unlimited"):
        return -1
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Usage(f"read {option} {text!r}", because="not a size", hint="write it as 64M, 1.5G or a number of bytes")
    exponent = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**exponent)


def span_us(text: str, *, option: str) -> int:
    """'10s', '100ms', '1.5m' in microseconds; a bare number is seconds. Raises Usage naming `option`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise Usage(f"read {option} {text!r}", because="not a duration", hint="write it as 10s, 100ms or 5m")
    return int(float(match[1]) * _SCALE_US[match[2] or "s"])


def number(text: str, *, option: str, least: int | None = None) -> int:
    """A whole number. Raises Usage naming `option`, also if it is below `least`."""
    try:
        value = int(text)
    except ValueError:
        raise Usage(f"read {option} {text!r}", because="not a whole number") from None
    if least is not None and value < least:
        raise Usage(f"read {option} {text!r}", because=f"it must be at least {least}")
    return value
