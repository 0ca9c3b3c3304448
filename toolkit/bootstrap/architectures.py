"""Debian's names of architectures, and which one the host has."""

import os
import sys

from toolkit.errors import HostLacks

# uname's machine → Debian's name of the architecture (dpkg's cputable); a 32-bit Python says what user space is.
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


def host_architecture() -> str:
    """Debian's name of the host's architecture. Raises HostLacks for one that Debian has no name for."""
    machine = os.uname().machine
    if sys.maxsize < 1 << 32:
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise HostLacks(
            "find out the architecture", because=f"machine {machine!r} is not known", hint="name it with --arch"
        ) from None


def is_native(architecture: str) -> bool:
    """Whether `architecture` (Debian's name) is the host's own."""
    try:
        return architecture == host_architecture()
    except HostLacks:
        return False
