"""What the build puts into a wheel as the command `ctk`: a program where there is one for this machine, else a script.

hatchling calls it for wheels and editable installs alike (pyproject.toml); docs/decisions/0003-launcher.md.
"""

import os
import runpy
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Launcher(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the command to the wheel's scripts, and its machine to the wheel's tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the build of one wheel; `build_data` is hatchling's to read afterwards."""
        here = os.path.join(self.root, "scripts")
        # A 32-bit Python on a 64-bit kernel takes no wheel of that machine.
        machine = os.uname().machine if sys.platform == "linux" and sys.maxsize > 1 << 32 else ""
        code = runpy.run_path(os.path.join(here, "launcher", "code.py"))["CODE"].get(machine)
        if code is None:
            build_data["shared_scripts"][os.path.join(here, "ctk")] = "ctk"
            return
        self._scratch = tempfile.TemporaryDirectory(prefix="ctk-build-")
        program = os.path.join(self._scratch.name, "ctk")
        with open(program, "wb") as file:
            file.write(code)
        os.chmod(program, 0o755)
        build_data["shared_scripts"][program] = "ctk"
        build_data["tag"] = f"py3-none-linux_{machine}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After the build."""
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()
