"""What a recipe or a block of it needs of the host: programs by name, files by path, a few words for the rest."""

import os
import shutil
from collections.abc import Callable, Iterable

from toolkit.errors import HostLacks
from toolkit.kernel.host import HostFacts


def unmet(word: str) -> str:
    """Why the host does not meet `word`; '' if it does. `!word` turns it round."""
    if word.startswith("!"):
        return "" if unmet(word[1:]) else f"{word[1:]} is here"
    if word.startswith("/"):
        return "" if os.path.exists(word) else f"{word} is not there"
    if word in _WORDS:
        return _WORDS[word](HostFacts())
    return "" if shutil.which(word) else f"the program {word!r} is not installed"


def require(words: Iterable[str], doing: str) -> None:
    """Raise HostLacks for the first of `words` that the host does not meet."""
    for word in words:
        if because := unmet(word):
            hint = "" if word in _WORDS or word[0] in "!/" else f"sudo apt-get install {_PACKAGES.get(word, word)}"
            raise HostLacks(doing, because=because, hint=hint or "ctk doctor")


def _v1(facts: HostFacts) -> str:
    return "" if facts.cgroup_layout in ("v1", "hybrid") else f"the host's cgroups are {facts.cgroup_layout}"


def _v2(facts: HostFacts) -> str:
    return "" if facts.cgroup_layout == "v2" else f"the host's cgroups are {facts.cgroup_layout}"


def _user(_: HostFacts) -> str:
    return "" if os.geteuid() else "it is for an ordinary user, without sudo"


def _systemd(_: HostFacts) -> str:
    return "" if os.path.isdir("/run/systemd/system") else "systemd does not run here"  # sd_booted(3)


_WORDS: dict[str, Callable[[HostFacts], str]] = {
    "user-namespaces": lambda facts: facts.user_namespaces,
    "cgroup-v1": _v1,
    "cgroup-v2": _v2,
    "systemd": _systemd,
    "user": _user,
}

# Program -> Debian package, where the names differ.
_PACKAGES = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "newuidmap": "uidmap",
    "ctr": "containerd",
    "dockerd": "docker.io",
    "qemu-aarch64-static": "qemu-user-static",
    "ip": "iproute2",
    "busybox": "busybox-static",
}
