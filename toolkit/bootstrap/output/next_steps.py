"""The commands to type once a tree is made."""

import os

from toolkit.kernel.host import HostFacts


def next_steps(target: str) -> tuple[str, str]:
    """The two commands from the tree to a container; with sudo if ctk was run by sudo."""
    sudo = _sudo(HostFacts().in_user_namespace)
    return (f"{sudo}ctk spec --rootfs {target} --writable", f"{sudo}ctk run NAME")


def image_steps(privileged: str, unprivileged: str, target: str) -> tuple[str, ...]:
    """The commands that open a file of a tree. `unprivileged` works without root; "" if `privileged` does too.

    {} in either stands for the file.
    """
    inside = HostFacts().in_user_namespace
    if not unprivileged:
        steps: tuple[str, ...] = (privileged,)
    elif inside or os.geteuid():
        steps = (unprivileged, "or: sudo " + privileged)
    else:
        steps = (_sudo(inside) + privileged,)
    return tuple(step.replace("{}", target) for step in steps)


def _sudo(in_user_namespace: bool) -> str:
    return "sudo " if "SUDO_UID" in os.environ and not in_user_namespace else ""
