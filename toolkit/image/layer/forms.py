"""The forms in which a layer is laid out. Who uses one that is laid out already need not import apply.py."""

import os

from toolkit.kernel.host import HostFacts

FLAT, OVERLAY, USERXATTR = "flat", "overlay", "userxattr"


def form_here() -> str:
    """The form that overlayfs takes from us: its marks are trusted.* attributes, or user.* ones in a user namespace."""
    return USERXATTR if os.geteuid() != 0 or HostFacts().in_user_namespace else OVERLAY
