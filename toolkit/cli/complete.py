"""What a shell's Tab offers: names of containers, suites, variants and recipes. Nothing here may fail or be slow."""

from toolkit import places
from toolkit.errors import CtkError
from toolkit.runtime import record as records


def containers(incomplete: str) -> list[str]:
    """The ids that begin so."""
    try:
        return [name for name in records.ids(places.runtime_root()) if name.startswith(incomplete)]
    except (CtkError, OSError):
        return []


def suites(incomplete: str) -> list[str]:
    """The code names that begin so, and the names that move."""
    from toolkit.bootstrap.suites import SUITES

    known = [name for suite in SUITES.values() for name in (suite.codename, *suite.aliases)]
    return [name for name in (*known, "host") if name.startswith(incomplete)]


def variants(incomplete: str) -> list[str]:
    """The variants that begin so."""
    from toolkit.bootstrap.resolve import VARIANTS

    return [name for name in VARIANTS if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """The names of recipes that begin so."""
    from toolkit.recipe import parse, shelf

    return [name for name in map(parse.name_of, shelf.paths()) if name.startswith(incomplete)]


def call_at_first_tab() -> None:
    """zsh reads typer's file at the first Tab (autoload), and the file only defines: that Tab did nothing.

    zshcompsys(1), "Autoloaded files": such a file is the function's body, so it has to call as well.
    """
    from typer import _completion_shared as shared  # no public place; without it all stays as typer has it

    scripts: dict[str, str] = getattr(shared, "_completion_scripts", {})
    if "zsh" in scripts and "loadautofunc" not in scripts["zsh"]:
        scripts["zsh"] += '\n[[ $zsh_eval_context[-1] == loadautofunc ]] && %(complete_func)s "$@"\n'
