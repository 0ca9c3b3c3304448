"""Starts another Python interpreter with a module of ours: isolated, and in UTF-8 whatever the locale."""

import os
import sys

import toolkit


def command(module: str, *arguments: int, site: bool = False) -> list[str]:
    """The argv that runs `main(*arguments)` of one of our modules. `site`: it needs the installed libraries.

    The caller must pass on the descriptors among the arguments (`pass_fds` of subprocess).
    """
    # In isolated mode (-I) the interpreter does not find ctk by itself.
    here = os.path.dirname(os.path.dirname(os.path.abspath(toolkit.__file__)))
    numbers = ", ".join(map(str, arguments))
    program = f"import sys; sys.path.append({here!r})\nfrom {module} import main\nmain({numbers})"
    return [sys.executable, "-I", *(() if site else ("-S",)), "-X", "utf8", "-c", program]
