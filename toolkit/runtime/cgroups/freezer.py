"""The v1 freezer of one cgroup. Source: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst."""

import time

from toolkit.errors import CtkError, SystemCall
from toolkit.runtime.cgroups import files


def freeze(path: str) -> None:
    """Stop every process of the cgroup. Raises CtkError if that fails; then all run on."""
    state = path + "/freezer.state"
    try:
        # A group that forks while it is being frozen stays FREEZING: try again, and let it run for a moment now and
        # then (runc also tries up to 1000 times; v2 does not have this problem).
        for attempt in range(1000):
            if attempt % 50 == 49:
                files.put(state, "THAWED")
                time.sleep(0.01)
            files.put(state, "FROZEN")
            if files.get(state).strip() == "FROZEN":
                return
            if attempt % 25 == 24:
                time.sleep(0.0001)
        raise CtkError("freeze the container", because="unable to freeze: new processes keep appearing in it")
    except BaseException:
        try:
            files.put(state, "THAWED")
        except SystemCall:
            pass
        raise


def thaw(path: str) -> None:
    """Let the processes continue. Raises SystemCall."""
    files.put(path + "/freezer.state", "THAWED")


def thaw_tree(path: str) -> None:
    """Let the processes continue in the cgroup and all below it, which the container may have frozen itself."""
    for folder in files.tree(path):
        try:
            if files.get(folder + "/freezer.state").strip() != "THAWED":
                thaw(folder)
        except (OSError, SystemCall):
            pass  # removed meanwhile, or we may not write to it


def frozen(path: str) -> bool:
    """Whether the cgroup is frozen by itself (not only because one above it is)."""
    try:
        if files.get(path + "/freezer.state").strip() == "THAWED":
            return False
        return files.get(path + "/freezer.self_freezing").strip() == "1"
    except OSError:
        return False
