"""Findings about ids that the document's own user namespace does not map: using them fails with EINVAL."""

from collections.abc import Iterator
from typing import Any

from toolkit.explain.finding import Found, found

Spec = dict[str, Any]

# File systems that are mounted inside, with owners among their options.
_OWNED = ("devpts", "tmpfs", "mqueue", "ramfs")


def findings(spec: Spec) -> list[Found]:
    """All findings; `spec` has the right types. None if the namespace is joined, or ctk fills in its mappings."""
    linux = spec.get("linux") or {}
    if not any(each.get("type") == "user" and not each.get("path") for each in linux.get("namespaces") or ()):
        return []
    listed = []
    for kind, number, path, instead in _ids(spec):
        maps = linux.get(f"{kind}Mappings")
        if maps and not any(0 <= number - (m.get("containerID") or 0) < (m.get("size") or 0) for m in maps):
            listed.append(found("E127", path, f"{kind} {number} is not in linux.{kind}Mappings", instead))
    return listed


def _ids(spec: Spec) -> Iterator[tuple[str, int, str, str]]:
    """(uid or gid, the number, its path, what to write instead)."""
    user = (spec.get("process") or {}).get("user") or {}
    for kind in ("uid", "gid"):
        yield kind, user.get(kind) or 0, f"process.user.{kind}", ""
    for place, number in enumerate(user.get("additionalGids") or ()):
        yield "gid", number, f"process.user.additionalGids[{place}]", ""
    for index, mount in enumerate(spec.get("mounts") or ()):
        for place, option in enumerate(mount.get("options") or () if mount.get("type") in _OWNED else ()):
            kind, _, number = option.partition("=")
            if kind in ("uid", "gid") and number.isascii() and number.isdigit():
                yield kind, int(number), f"mounts[{index}].options[{place}]", f'leave "{option}" out, or map that id'
