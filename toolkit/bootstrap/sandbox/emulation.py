"""How programs of another architecture run here: natively, or by the host's binfmt_misc or the build's own.

A binfmt_misc instance of the build's own (kernel/binfmt.py) needs Linux 6.7 and a static qemu-user program on the host.
It registers nothing on the host and needs no root.
"""

import os
from typing import Literal, NamedTuple

from toolkit.bootstrap.facts.architectures import host_architecture, is_native, suggestion
from toolkit.errors import HostLacks, NotFound
from toolkit.kernel import binfmt
from toolkit.kernel.host import HostFacts

_SIBLINGS = {"amd64": ("i386",), "arm64": ("armhf", "armel"), "armhf": ("armel",)}
_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/libexec/qemu-binfmt", "/opt/qemu/bin")
_PT_INTERP = 3


class Emulation(NamedTuple):
    """`registration` is the line to register in the build's own binfmt_misc (binfmt_misc's format); b"" is none."""

    way: Literal["native", "host", "own"]
    registration: bytes = b""


def emulation(architecture: str) -> Emulation:
    """How programs of `architecture` (Debian's name) will run in a build here.

    Raises HostLacks, with what to install, and NotFound for a name that Debian does not have but that looks like one.
    """
    if is_native(architecture) or architecture in _SIBLINGS.get(host_architecture(), ()):
        return Emulation("native")
    near = suggestion(architecture)
    if near:
        raise NotFound(
            f"use architecture {architecture!r}",
            because="Debian has no architecture of that name" + near,
            hint="if your archive has it, --foreign makes the first half, and --variant extract runs nothing",
        )
    problem = f"this host ({host_architecture()}) can't run its programs"
    if architecture in binfmt.MACHINES:
        interpreter = _interpreter(binfmt.MACHINES[architecture][0])
        own = HostFacts().kernel >= binfmt.OWN_SINCE
        if interpreter and own:
            return Emulation("own", binfmt.registration(architecture, interpreter))
        found, fixed = _host_entry(architecture)
        if fixed:
            return Emulation("host")
        if found:
            problem = f"the host's binfmt_misc entry {found!r} lacks the flag F: it looks for qemu inside the tree"
        elif interpreter:
            problem += "; binfmt_misc of the build's own needs Linux 6.7, and the host's has no entry for it"
    raise HostLacks(
        f"make a root file system for {architecture}",
        because=problem,
        hint="install qemu-user-static (qemu-user from Debian 14 on; before Linux 6.7 binfmt-support, too); "
        "or make half of it here with --foreign and the rest on a machine of that architecture; "
        "--variant extract runs nothing",
    )


def _interpreter(machine: str) -> str:
    """The static qemu-user program for `machine` (qemu's name); "" if there is none.

    A dynamically linked one does not work: the kernel would look for its libraries in the tree.
    """
    for folder in _FOLDERS:
        for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
            path = f"{folder}/{name}"
            if os.access(path, os.X_OK) and _is_static(path):
                return path
    return ""


def _is_static(path: str) -> bool:
    """Whether an ELF program is static: it has no PT_INTERP (elf(5))."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if head[:4] != b"\x7fELF":
        return False
    wide = head[4] == 2
    offset = int.from_bytes(head[32:40] if wide else head[28:32], "little")
    size, count = (int.from_bytes(head[at : at + 2], "little") for at in ((54, 56) if wide else (42, 44)))
    kinds = (int.from_bytes(head[offset + i * size :][:4], "little") for i in range(count))
    return _PT_INTERP not in kinds


def _host_entry(architecture: str) -> tuple[str, bool]:
    """The host's binfmt_misc entry for the architecture: its name ("" if none), and whether it has the flag F."""
    magic = binfmt.pattern(architecture)[0].hex()
    try:
        names = os.listdir(binfmt.HOST_ENTRIES)
    except OSError:
        return "", False
    found = ""
    for name in sorted(set(names) - {"register", "status"}):
        with open(f"{binfmt.HOST_ENTRIES}/{name}") as file:
            lines = file.read().splitlines()
        if lines[:1] != ["enabled"] or f"magic {magic}" not in lines:
            continue
        if any(line.startswith("flags:") and "F" in line for line in lines):
            return name, True
        found = name
    return found, False
