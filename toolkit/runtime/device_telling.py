"""Descriptions of device nodes: in words, system calls and shell lines. Imported only to explain a plan."""

from toolkit.runtime.shell_words import in_root, parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.oci.types import Device
    from toolkit.runtime.steps import Description

_KINDS = {"c": "S_IFCHR", "u": "S_IFCHR", "b": "S_IFBLK", "p": "S_IFIFO"}


def describe(devices: "Sequence[Device]") -> "Description":
    """The description of the step that makes these nodes, each as in linux.devices."""
    calls, lines = [], []
    folders = dict.fromkeys(parent(device["path"]) for device in devices)
    lines += [f"mkdir -p {in_root(folder)}" for folder in folders]
    for device in devices:
        given = device.get("fileMode")
        mode = 0o666 if given is None else given & 0o7777
        kind = device["type"]
        numbers = (device.get("major") or 0, device.get("minor") or 0)
        place = in_root(device["path"])
        calls.append(
            f'mknodat(root, "{device["path"]}", {_KINDS[kind]}|{mode:04o}, makedev({numbers[0]}, {numbers[1]}))'
        )
        tail = "p" if kind == "p" else f"{kind} {numbers[0]} {numbers[1]}"
        lines.append(f"rm -f {place} && mknod -m {mode:o} {place} {tail}")
        owner = (device.get("uid") or 0, device.get("gid") or 0)
        if owner != (0, 0):
            calls.append(f'fchownat(root, "{device["path"]}", {owner[0]}, {owner[1]}, AT_SYMLINK_NOFOLLOW)')
            lines.append(f"chown -h {owner[0]}:{owner[1]} {place}")
    names = ", ".join(device["path"] for device in devices)
    return (f"make the device nodes {names}", "; ".join(calls), "\n".join(lines))
