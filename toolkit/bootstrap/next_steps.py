"""What to type once a tree is made."""

import os

from toolkit.kernel.host import HostFacts


def next_steps(target: str) -> tuple[str, str]:
    """The two lines from the tree to a container; with sudo for who came by sudo, and only then."""
    sudo = "sudo " if "SUDO_UID" in os.environ and not HostFacts().in_user_namespace else ""
    return (f"{sudo}ctk spec --rootfs {target} --writable", f"{sudo}ctk run NAME")
