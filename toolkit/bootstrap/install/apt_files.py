"""The configuration of a tree's own apt: its sources, their keys, the pins, the foreign architectures."""

import base64
import hashlib
import os

from toolkit.bootstrap.facts.model import Lock, Source
from toolkit.bootstrap.facts.suites import DISTRIBUTIONS, mirror_inside
from toolkit.kernel import subids
from toolkit.kernel.beneath import make_directories

_KEYS = "etc/apt/keyrings"
# apt downloads as its user _apt, which does not exist in a user namespace of one id: "setgroups 65534 failed".
_ONE_USER = b"""// This tree was made without subordinate ids: it has one user.
// Remove this file once there are more.
APT::Sandbox::User "root";
"""


def write(rootfd: int, lock: Lock) -> None:
    """Write etc/apt below `rootfd`, and var/lib/dpkg/arch if needed. Raises OSError, SystemCall."""
    files = {"etc/apt/sources.list": sources_list(lock).encode()}
    for source in lock.sources:
        if source.key:
            files[_key_path(source)] = base64.b64decode(source.key)
    if lock.preferences:
        files["etc/apt/preferences.d/ctk.pref"] = lock.preferences.encode()
    foreign = {one.architecture for one in lock.packages} - {lock.architecture, "all"}
    if foreign:
        text = "".join(f"{one}\n" for one in (lock.architecture, *sorted(foreign)))
        files["var/lib/dpkg/arch"] = text.encode()  # as `dpkg --add-architecture` does
    if subids.alone():
        files["etc/apt/apt.conf.d/20ctk-one-user"] = _ONE_USER
    for path, data in files.items():
        folder, _, name = path.rpartition("/")
        parent = make_directories(rootfd, folder)
        try:
            _replace(parent, name, data)
        finally:
            os.close(parent)


def sources_list(lock: Lock) -> str:
    """The tree's /etc/apt/sources.list: one line per source, as debootstrap writes it."""
    lines = []
    for source in lock.sources:
        if source.kind == "file":
            continue
        options = source.options.split()
        if source.key:
            selected = [one.removeprefix("signed-by=") for one in options if one.startswith("signed-by=")]
            options = [one for one in options if not one.startswith("signed-by=")]
            options.insert(0, "signed-by=" + ",".join([f"/{_key_path(source)}", *selected]))
        suite = source.suite
        if source.kind == "flat":
            suite = "./" if suite == "." else suite + "/"
        words = ["deb", f"[{' '.join(options)}]" if options else "", _inside(source, lock), suite, *source.components]
        lines.append(" ".join(word for word in words if word) + "\n")
    return "".join(lines)


def _inside(source: Source, lock: Lock) -> str:
    """The mirror to write in the tree: for a path of this machine the archive's own, if that is known."""
    known = DISTRIBUTIONS.get(source.origin.lower())
    if known is None or source.key or source.mirror.startswith(("http://", "https://")):
        return source.mirror
    if known.security_mirror and source.suite.endswith(("-security", "/updates")):
        return known.security_mirror
    return mirror_inside(source.mirror, lock.distribution, lock.architecture)


def _key_path(source: Source) -> str:
    # apt recognises the format of a keyring by its suffix.
    data = base64.b64decode(source.key)
    end = "asc" if b"-----BEGIN PGP" in data[:200] else "gpg"
    return f"{_KEYS}/ctk-{hashlib.sha256(data).hexdigest()[:16]}.{end}"


def _replace(parent: int, name: str, data: bytes) -> None:
    """Write a file, replacing whatever has the name, a link too (security B9)."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent)
    with open(fd, "wb") as file:
        os.fchmod(fd, 0o644)
        file.write(data)
