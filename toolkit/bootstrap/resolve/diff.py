"""What changed between two locks or two roots, package by package: `ctk bootstrap --diff A B`."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.bootstrap.resolve import lockfile
from toolkit.deb.control import paragraphs
from toolkit.deb.version import Version
from toolkit.errors import NotFound, SystemCall, reason
from toolkit.kernel import reading
from toolkit.kernel.beneath import open_beneath

_STATUS = "var/lib/dpkg/status"
_STATUS_LIMIT_BYTES = 256 << 20  # a desktop with 3,000 packages has 4 MB


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A changed package. `kind` is "added", "removed", "upgraded", "downgraded" or "rebuilt" (same version, other
    contents)."""

    name: str
    architecture: str
    kind: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        package = f"{self.name}:{self.architecture}"
        match self.kind:
            case "added":
                return f"+ {package} {self.after}"
            case "removed":
                return f"- {package} {self.before}"
            case "rebuilt":
                return f"! {package} {self.before}: same version, different contents"
            case _:
                return f"{'^' if self.kind == 'upgraded' else 'v'} {package} {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The packages of one side: (name, architecture) → (version, SHA-256 or ""), and what they were read from."""

    what: str
    packages: dict[tuple[str, str], tuple[str, str]]


def compare(a: str, b: str) -> list[Change]:
    """The changes from `a` to `b`, sorted by name. Each is a lock file or a root. Raises NotFound, Malformed."""
    before, after = inventory(a).packages, inventory(b).packages
    changes = []
    # A package that moves to another architecture (`all` to amd64) is one change of version if it has only that one.
    moved = _moved(before, after)
    for key in sorted({*before, *after}):
        name, architecture = key
        old, new = before.get(key), after.get(key)
        if old is None and key in moved:
            old = before[moved[key]]
        if new is None and key in moved.values():
            continue
        if old is None:
            assert new is not None
            changes.append(Change(name, architecture, "added", "", new[0]))
        elif new is None:
            changes.append(Change(name, architecture, "removed", old[0]))
        elif old[0] != new[0]:
            kind = "upgraded" if Version(old[0]) < Version(new[0]) else "downgraded"
            changes.append(Change(name, architecture, kind, old[0], new[0]))
        elif old[1] and new[1] and old[1] != new[1]:
            changes.append(Change(name, architecture, "rebuilt", old[0], new[0]))
    return changes


def as_json(a: str, b: str, changes: list[Change]) -> dict[str, Any]:
    """The changes for --json."""
    return {"a": a, "b": b, "changes": [asdict(change) for change in changes]}


def inventory(path: str) -> Inventory:
    """The packages of a lock, or those installed in a root by its dpkg status. Raises NotFound, Malformed."""
    if not os.path.isdir(path):
        found = lockfile.load(path)
        packages = {
            (str(one["name"]), str(one["architecture"])): (str(one["version"]), str(one.get("sha256", "")))
            for one in found["packages"]
        }
        return Inventory(path, packages)
    status = os.path.join(path, _STATUS)
    try:
        data = _read_status(path)
    except (OSError, SystemCall) as error:
        because = error.because if isinstance(error, SystemCall) else reason(error)
        raise NotFound(
            f"read the packages of {path!r}",
            because=f"{status!r}: {because}",
            hint="--diff takes lock files and the folders of Debian roots",
        ) from None
    installed = {}
    for fields in paragraphs(data, what=status):
        if fields.get("Status", "").endswith(" installed"):
            key = (fields.get("Package", ""), fields.get("Architecture", ""))
            installed[key] = (fields.get("Version", ""), "")
    return Inventory(path, installed)


def _read_status(path: str) -> bytes:
    """dpkg's status file of the root at `path`. The root may be untrusted: its symbolic links can't lead out of it."""
    rootfd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_beneath(rootfd, _STATUS, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(rootfd)
    try:
        reading.check(fd, _STATUS, _STATUS_LIMIT_BYTES)
        return reading.whole(fd, _STATUS, _STATUS_LIMIT_BYTES)
    finally:
        os.close(fd)


def _moved(
    before: dict[tuple[str, str], tuple[str, str]], after: dict[tuple[str, str], tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Keys of `after` whose package had another architecture before, with the key it had."""
    gone: dict[str, list[tuple[str, str]]] = {}
    new: dict[str, list[tuple[str, str]]] = {}
    for key in before.keys() - after.keys():
        gone.setdefault(key[0], []).append(key)
    for key in after.keys() - before.keys():
        new.setdefault(key[0], []).append(key)
    return {keys[0]: gone[name][0] for name, keys in new.items() if len(keys) == len(gone.get(name, ())) == 1}
