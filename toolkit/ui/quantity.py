"""Numbers formatted for people."""

_BYTES = ("B", "kB", "MB", "GB", "TB")


def size(size_bytes: float) -> str:
    """A size in decimal units, as in apt and df -H: '31.9 MB'."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_BYTES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_BYTES[unit]}" if unit == 0 or value >= 99.95 else f"{value:.1f} {_BYTES[unit]}"


def amount(value: int, unit: str) -> str:
    """`value` with its unit. Bytes are scaled, other units are not."""
    return size(value) if unit == "bytes" else f"{value:,} {unit}".replace(",", " ").rstrip()


def part(done: int, total: int, unit: str) -> str:
    """A part of a total: '16.0 MB of 32.0 MB', '1 of 4 packages'; without a total only the part."""
    if not total:
        return amount(done, unit)
    return f"{amount(done, unit if unit == 'bytes' else '')} of {amount(total, unit)}"


def span(seconds: float) -> str:
    """A duration: '0.4 s', '12 s', '3 min 05 s'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s"
