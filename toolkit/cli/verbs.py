"""The runtime verbs in `ctk --help` and in shell completion. The runtime's door (runtime/main.py) carries them out."""

import inspect
from typing import Annotated, Any

from toolkit.cli import complete, declare
from toolkit.runtime.options import VERBS

_SHOWN_FIRST = ("run", "create", "start", "exec", "list", "state", "ps", "kill", "delete")
_OURS = ("spec",)
_NEW = ("run", "create", "restore")


def register(app: declare.App) -> None:
    """Add each verb of the table, the most used ones first."""
    for verb in dict.fromkeys((*_SHOWN_FIRST, *VERBS)):
        if verb in VERBS and verb not in _OURS:
            app.command(
                verb,
                help=_title(verb, VERBS[verb][0]),
                rich_help_panel="Run",
                add_help_option=False,
                context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
            )(_command(verb))


def _title(verb: str, summary: str) -> str:
    """runc's summary as a title; some of them begin with the verb itself."""
    title = summary.removeprefix(f"{verb} ")
    return title[:1].upper() + title[1:] + "."


def _command(verb: str) -> Any:
    """A function whose signature has the options of the runtime's table, for completion.

    It is never called: toolkit/__main__.py handles the verb before typer is loaded.
    """
    _, arguments, _, _, _, table = VERBS[verb]

    def first_door(**_: object) -> None:
        raise AssertionError(f"the runtime's door let {verb!r} through")

    parameters = []
    for name, short, kind, _, _, text in table:
        words = [f"--{name}", *([f"-{short}"] if short else [])]
        about: Any = (
            Annotated[bool, declare.Option(*words, help=text)]
            if kind == "flag"
            else Annotated[str, declare.Option(*words, help=text)]
        )
        default: object = False if kind == "flag" else ""
        parameters.append(_parameter("option_" + name.replace("-", "_"), about, default))
    if arguments:
        known = None if verb in _NEW else complete.containers
        parameters.append(
            _parameter("words", Annotated[list[str] | None, declare.Argument(autocompletion=known)], None)
        )
    first_door.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    first_door.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return first_door


def _parameter(name: str, about: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=about)
