"""What a recipe or a block needs of the host: programs by name, files by path, and a few keywords."""

import os
import shutil
from collections.abc import Callable, Iterable

from toolkit.errors import HostLacks
from toolkit.kernel import binfmt, subids
from toolkit.kernel.host import HostFacts
from toolkit.recipe.room import PATH


def unmet(word: str) -> str:
    """Why the host does not meet `word`; '' if it does. `!word` is the opposite."""
    if word.startswith("!"):
        return "" if unmet(word[1:]) else f"{word[1:]} is here"
    if word.startswith("/"):
        return "" if os.path.exists(word) else f"{word} is not there"
    if word in _WORDS:
        return _WORDS[word](HostFacts())
    return "" if shutil.which(word, path=PATH) else f"the program {word!r} is not installed"


def require(words: Iterable[str], doing: str, again: str) -> None:
    """Raise HostLacks with all of `words` that the host does not meet. `again` is the command to type after a fix."""
    lacking = [(word, because) for word in words if (because := unmet(word))]
    if not lacking:
        return
    packages = [_PACKAGES.get(word, word) for word, _ in lacking if word not in _WORDS and word[0] not in "!/"]
    hints = {"root": f"sudo {again}", "user": f"{again}, as an ordinary user"}
    hint = next((hints[word] for word, _ in lacking if word in hints), "")
    if packages and not hint:
        hint = "sudo apt-get install " + " ".join(dict.fromkeys(packages))
    if not hint:
        first = lacking[0][0]
        hint = f"remove {first[1:]} first, if it is yours" if first.startswith("!/") else "ctk doctor"
    raise HostLacks(doing, because="; ".join(because for _, because in lacking), hint=hint)


def _v1(facts: HostFacts) -> str:
    return "" if facts.cgroup_layout in ("v1", "hybrid") else f"the host's cgroups are {facts.cgroup_layout}"


def _v2(facts: HostFacts) -> str:
    return "" if facts.cgroup_layout == "v2" else f"the host's cgroups are {facts.cgroup_layout}"


def _user(_: HostFacts) -> str:
    return "" if os.geteuid() else "it is for an ordinary user, without sudo"


def _root(_: HostFacts) -> str:
    return "" if os.geteuid() == 0 else "its commands need root (their prompt is #)"


def _subordinate_ids(_: HostFacts) -> str:
    if os.geteuid() == 0 or len(subids.of_caller()[0]) > 1:
        return ""
    return f"you have no {subids.ENOUGH} subordinate ids in /etc/subuid and /etc/subgid"


def _systemd(_: HostFacts) -> str:
    return "" if os.path.isdir("/run/systemd/system") else "systemd does not run here"  # sd_booted(3)


def _x86_64(_: HostFacts) -> str:
    machine = os.uname().machine
    return "" if machine == "x86_64" else f"this machine is {machine}, and the page is written for x86_64"


def _runs_arm64(facts: HostFacts) -> str:
    if facts.kernel >= binfmt.OWN_SINCE or os.path.exists(binfmt.HOST_ENTRIES + "/qemu-aarch64"):
        return ""
    return "Linux is older than 6.7 and has no qemu-aarch64 in binfmt_misc (apt-get install binfmt-support)"


_WORDS: dict[str, Callable[[HostFacts], str]] = {
    "user-namespaces": lambda facts: facts.user_namespaces,
    "cgroup-v1": _v1,
    "cgroup-v2": _v2,
    "systemd": _systemd,
    "user": _user,
    "root": _root,
    "subordinate-ids": _subordinate_ids,
    "x86-64": _x86_64,
    "runs-arm64": _runs_arm64,
}

# Program -> Debian package, if the names differ.
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
