"""Debian's architecture names, and which one the host has."""

import os
import sys
from collections.abc import Collection

from toolkit.errors import HostLacks

# machine of uname(2) → Debian's architecture name (dpkg's cputable). A 32-bit Python means a 32-bit user space.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "armhf",
    "armv8l": "armhf",
    "armv6l": "armel",
    "i686": "i386",
    "i586": "i386",
    "ppc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loongarch64": "loong64",
    "mips64": "mips64el",
}

# Go's GOARCH and variant where they differ from Debian's name, as docker's own debian images have them.
_OF_IMAGES = {
    "arm64": ("arm64", "v8"),
    "armel": ("arm", "v5"),
    "armhf": ("arm", "v7"),
    "i386": ("386", ""),
    "mips64el": ("mips64le", ""),
    "mipsel": ("mipsle", ""),
    "ppc64el": ("ppc64le", ""),
}

# Debian's names for Linux: dpkg 1.21's cputable, and what its tupletable adds for glibc.
NAMES = frozenset(
    "alpha amd64 arc arm arm64 arm64ilp32 armeb armel armhf avr32 hppa i386 ia64 loong64 m32r m68k mips mips64 "
    "mips64el mips64r6 mips64r6el mipsel mipsn32 mipsn32el mipsn32r6 mipsn32r6el mipsr6 mipsr6el nios2 or1k powerpc "
    "powerpcel powerpcspe ppc64 ppc64el riscv64 s390 s390x sh3 sh3eb sh4 sh4eb sparc sparc64 tilegx x32".split()
)
_ELSEWHERE = {**_ARCHITECTURES, "x64": "amd64", "x86": "i386", "386": "i386", "armv7": "armhf"}  # uname's, OCI's


def suggestion(name: str, names: Collection[str] = NAMES) -> str:
    """A suggestion for a name that is not in `names`, to append to an error: "; did you mean …?", "" for none."""
    import difflib

    asked = name.lower()
    near = [_ELSEWHERE[asked]] if _ELSEWHERE.get(asked) in names else difflib.get_close_matches(asked, names, n=1)
    return f"; did you mean {near[0]!r}?" if near and name not in names else ""


def host_architecture() -> str:
    """Debian's name of the host's architecture. Raises HostLacks if Debian has none for it."""
    machine = os.uname().machine
    if sys.maxsize < 1 << 32:
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise HostLacks(
            "find out the architecture", because=f"machine {machine!r} is not known", hint="name it with --arch"
        ) from None


def of_image(architecture: str) -> tuple[str, str]:
    """An image's words for Debian's name: architecture and variant, which is "" for none (image-spec, config.md)."""
    return _OF_IMAGES.get(architecture, (architecture, ""))


def is_native(architecture: str) -> bool:
    """Whether `architecture` (Debian's name) is the host's own."""
    try:
        return architecture == host_architecture()
    except HostLacks:
        return False
