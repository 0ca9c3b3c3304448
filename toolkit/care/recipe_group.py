"""The cgroup of one run of a recipe: its shells stand in it, and their containers' cgroups are made in it, too."""

import os
import secrets
from typing import Any

from toolkit.errors import CtkError
from toolkit.runtime import cgroups


class RecipeGroup:
    """The cgroup `name`, at `place` if it was made by an earlier call. Nothing where none can be made.

    `place` is for whoever wants it again later: a caller elsewhere would look for it below its own cgroup.
    """

    def __init__(self, name: str, place: dict[str, Any]) -> None:
        self.place = place
        self._shells: cgroups.Manager | None = None
        try:
            self.place = place or cgroups.manager(name, name, rootless=os.geteuid() != 0).facts()
            self._whole = cgroups.from_facts(self.place)
        except (CtkError, OSError):
            self._whole = cgroups.none()  # no cgroups here: then `ctk` makes none for a container either

    def take(self, pid: int, /) -> None:
        """Put a process into it; it is made at the first call."""
        try:
            if self._shells is None:
                # One folder further down: v2 gives controllers only to the folders below one that has no process.
                # A name of its own each time, because with v1 the containers' cgroups are below it and keep it.
                self._shells = self._below("shells-" + secrets.token_hex(2))
                self._shells.create()
            self._shells.join(pid)
        except (CtkError, OSError):
            self._shells = cgroups.none()  # a user to whom no cgroup was delegated

    def end(self) -> None:
        """End what still runs in it or below it, and remove it. Raises CtkError that names what stays."""
        if self._whole.exists():
            self._whole.kill()
            self._whole.delete()

    def _below(self, leaf: str) -> "cgroups.Manager":
        facts = self._whole.facts()
        if "paths" in facts:
            paths = {key: f"{path}/{leaf}" for key, path in facts["paths"].items()}
            return cgroups.from_facts({**facts, "paths": paths})
        return cgroups.from_facts({**facts, "path": f"{facts['path']}/{leaf}"})
