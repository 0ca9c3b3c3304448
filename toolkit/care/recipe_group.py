"""The cgroup of one run of a recipe. It holds its shells, and the cgroups of their containers."""

import os
import secrets
from typing import Any

from toolkit.errors import CtkError
from toolkit.runtime import cgroups


class RecipeGroup:
    """The cgroup `name`, or the one at `place` if an earlier call made it. Does nothing if none can be made.

    `place` is needed to find it again later: a caller in another cgroup would look for it below its own.
    """

    def __init__(self, name: str, place: dict[str, Any]) -> None:
        self.place = place
        self._shells: cgroups.Manager | None = None
        try:
            self.place = place or cgroups.manager(name, name, rootless=os.geteuid() != 0).facts()
            self._whole = cgroups.from_facts(self.place)
        except (CtkError, OSError):
            self._whole = cgroups.none()  # the host has no cgroups: `ctk` makes none for containers either

    def take(self, pid: int, /) -> None:
        """Move a process into it. The first call makes it."""
        try:
            if self._shells is None:
                # One level down: in v2 a cgroup with processes can't give controllers to its children. A new name each
                # time, because in v1 the containers' cgroups are below it, and it can't be removed before them.
                self._shells = self._below("shells-" + secrets.token_hex(2))
                self._shells.create()
            self._shells.join(pid)
        except (CtkError, OSError):
            self._shells = cgroups.none()  # no cgroup is delegated to this user

    def end(self) -> None:
        """End all processes in it or below it, and remove it. Raises CtkError, which names what stays."""
        if self._whole.exists():
            self._whole.kill()
            self._whole.delete()

    def _below(self, leaf: str) -> "cgroups.Manager":
        facts = self._whole.facts()
        if "paths" in facts:
            paths = {key: f"{path}/{leaf}" for key, path in facts["paths"].items()}
            return cgroups.from_facts({**facts, "paths": paths})
        return cgroups.from_facts({**facts, "path": f"{facts['path']}/{leaf}"})
