"""How this program starts another interpreter of its own: isolated, in UTF-8 whatever the locale is."""

import os
import sys

import toolkit


def command(module: str, *arguments: int, site: bool = False) -> list[str]:
    """The words that run `main(*arguments)` of a module of ours; `site` for one that needs the installed libraries.

    The arguments that are descriptors have to be handed on (subprocess, pass_fds).
    """
    # Isolated as it is, it has to be told where ctk lies.
    here = os.path.dirname(os.path.dirname(os.path.abspath(toolkit.__file__)))
    numbers = ", ".join(map(str, arguments))
    program = f"import sys; sys.path.append({here!r})\nfrom {module} import main\nmain({numbers})"
    return [sys.executable, "-I", *(() if site else ("-S",)), "-X", "utf8", "-c", program]
