"""Shell completion: names of containers, suites, variants and recipes. Nothing here may fail or be slow."""

import os

from toolkit.errors import CtkError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def containers(incomplete: str) -> list[str]:
    """The ids that begin with `incomplete`."""
    from toolkit import places
    from toolkit.runtime import record as records

    try:
        return [name for name in records.ids(places.runtime_root()) if name.startswith(incomplete)]
    except (CtkError, OSError):
        return []


def suites(incomplete: str) -> list[str]:
    """The codenames and aliases that begin with `incomplete`."""
    from toolkit.bootstrap.facts.suites import SUITES

    known = [name for suite in SUITES.values() for name in (suite.codename, *suite.aliases)]
    return [name for name in (*known, "host") if name.startswith(incomplete)]


def variants(incomplete: str) -> list[str]:
    """The variants that begin with `incomplete`."""
    from toolkit.bootstrap.resolve.resolve import VARIANTS

    return [name for name in VARIANTS if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """The names of recipes that begin with `incomplete`."""
    from toolkit.recipe import parse, shelf

    return [name for name in map(parse.name_of, shelf.paths()) if name.startswith(incomplete)]


def images(incomplete: str) -> list[str]:
    """The names of images in the store that begin with `incomplete`, short or whole."""
    from toolkit.image.store import listing
    from toolkit.image.store.store import Store

    try:
        known = [(listing.familiar(one.name), one.name) for one in Store().entries() if one.name]
    except (CtkError, OSError):
        return []
    return [name for names in known for name in dict.fromkeys(names) if name.startswith(incomplete)]


SHELLS = ("bash", "zsh", "fish")


def with_shell(argv: list[str]) -> list[str]:
    """The command line of --install-completion and --show-completion as typer takes it; any other unchanged.

    The shell may be named after the option; else it is the calling one. Raises Usage for one without completion.
    """
    option, equals, word = argv[0].partition("=") if argv else ("", "", "")
    if option not in ("--install-completion", "--show-completion"):
        return argv
    from typer import _completion_shared as shared

    _call_at_first_tab()
    named = word if equals else "".join(argv[1:2])
    detect: Callable[[], str | None] = getattr(shared, "_get_shell_name", lambda: named)
    shell = named or detect() or ""
    if shell not in SHELLS or len(argv) > (1 if equals else 2):
        because = f"there is no completion for {shell!r}" if shell else "the calling shell can't be determined"
        raise Usage(f"carry out {' '.join(argv)!r}", because=because, hint=f"name one: {option} {'|'.join(SHELLS)}")
    # typer's way to make the option take the shell's name (typer/completion.py); read when the command line is built.
    os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    return [option, shell]


def _call_at_first_tab() -> None:
    """zsh reads typer's file at the first Tab (autoload), but the file only defines a function: that Tab did nothing.

    zshcompsys(1), "Autoloaded files": such a file is the function's body, so it has to call the function as well.
    """
    from typer import _completion_shared as shared  # there is no public one; without it typer's script is unchanged

    scripts: dict[str, str] = getattr(shared, "_completion_scripts", {})
    if "zsh" in scripts and "loadautofunc" not in scripts["zsh"]:
        scripts["zsh"] += '\n[[ $zsh_eval_context[-1] == loadautofunc ]] && %(complete_func)s "$@"\n'


def leave_rich_out() -> None:
    """Have descriptions without markup left as they are: typer draws each with rich, which takes long to import.

    Only zsh and fish show them. An older typer has no such function, and is left alone.
    """
    from typer import _completion_classes as classes  # there is no public one

    by_rich: Callable[[str], str] | None = getattr(classes, "_sanitize_help_text", None)
    if by_rich is None:
        return
    drawn = by_rich

    def sanitized(text: str) -> str:
        return drawn(text) if "[" in text or text.count(":") > 1 else text  # [bold], :smile:

    classes._sanitize_help_text = sanitized
