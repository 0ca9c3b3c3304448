"""Where the fields of the kernel's structures are, for programs that read them (program.py)."""

# struct stat (asm/stat.h): st_dev and st_ino come first, 8 bytes each, on every machine.
_STAT = {"x86_64": (24, 28, 40), "aarch64": (16, 24, 32)}
STAT_SIZE = 144


def stat(machine: str) -> "tuple[int, int, int]":
    """Offsets in struct stat: st_mode (4 bytes), st_uid (4), st_rdev (8)."""
    return _STAT.get(machine, _STAT["aarch64"])
