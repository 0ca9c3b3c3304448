"""Findings about the store of images: how large it is, the room that is left, and whether its layers can be mounted."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator

from toolkit import places
from toolkit.care.finding import NOTE, OK, WARN, Finding
from toolkit.children import rootless
from toolkit.errors import CtkError, HostLacks, SystemCall
from toolkit.events import Emit, silent
from toolkit.image.store import limit
from toolkit.image.store.place import MAKING
from toolkit.image.store.store import Store
from toolkit.kernel import mounts, namespaces
from toolkit.kernel.host import HostFacts
from toolkit.text import counted, quote
from toolkit.ui import quantity

_ROOM_BYTES = 1 << 30  # a middling image, packed and laid out
_TOPIC = "images"
_NEEDED_BY = "images with layers"


def store(_: HostFacts) -> Iterator[Finding]:
    """The store's size, its limit and the room on its disk."""
    found = Store()
    there = places.image_store()
    while not os.path.isdir(there):
        there = os.path.dirname(os.path.abspath(there))
    about = os.statvfs(there)
    free = about.f_bavail * about.f_frsize
    room = f"{quantity.size(free)} free"
    try:
        if found.place.exists:
            taken = f"{counted(len(found.entries()), 'image')}, {quantity.size(limit.size(found))}"
            told = f"{found.place.folder}: {taken} of {quantity.size(limit.limit())} at most, {room}"
        else:
            told = f"{found.place.folder}: none yet, {room}"
    except (CtkError, OSError) as error:
        yield Finding(_TOPIC, WARN, str(error), "ctk images", error.hint if isinstance(error, CtkError) else "")
        return
    if free < _ROOM_BYTES:
        yield Finding(_TOPIC, WARN, told, "ctk pull", "ctk image prune --all --dry-run")
    else:
        yield Finding(_TOPIC, OK, told)


def layers(facts: HostFacts) -> Iterator[Finding]:
    """Whether overlayfs takes folders of the store's file system as layers, for this user: it is tried."""
    folder = Store().place.path(MAKING)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        yield Finding("layers", NOTE, "not tried: there is no store of images yet")
        return
    root = os.geteuid() == 0
    how = "as root" if root else "without root (userxattr)"
    probe = tempfile.mkdtemp(prefix="probe.", dir=folder)
    fd = os.open(probe, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # what nobody holds there is removed by `ctk image prune`
        for name in ("a", "b", "m"):
            os.mkdir(os.path.join(probe, name))
        if not root and facts.user_namespaces:
            refused = facts.user_namespaces
        else:
            refused = _in_child(probe) if root else rootless.run(mount_here, probe, silent)
    except (CtkError, OSError) as error:
        refused = str(error)
    finally:
        shutil.rmtree(probe, ignore_errors=True)
        os.close(fd)
    if not refused:
        yield Finding("layers", OK, f"overlayfs mounts layers on {places.image_store()} {how}")
        return
    fix = f"CTK_IMAGES={quote('DIR')} on ext4, xfs, btrfs or tmpfs" if root else "a kernel of 5.11 or later"
    yield Finding(
        "layers", WARN, f"overlayfs refuses layers on {places.image_store()} {how}: {refused}", _NEEDED_BY, fix
    )


def mount_here(probe: str, emit: Emit) -> str:  # noqa: ARG001 (rootless.run calls functions like this)
    """Mount two folders of `probe` as layers, in a mount namespace of our own; why not, "" if it works.

    This process stays in that namespace, so the mount ends with it.
    """
    try:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        os.chdir(probe)
        in_user_namespace = HostFacts().in_user_namespace
        mounts.mount("overlay", "m", "overlay", mounts.MS_RDONLY, "lowerdir=a:b" + ",userxattr" * in_user_namespace)
    except (SystemCall, HostLacks) as error:
        return str(error)
    return ""


def _in_child(probe: str) -> str:
    """The same in a child, because this process must not leave its mount namespace."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(theirs, mount_here(probe, silent).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as answer:
        told = answer.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return told
