"""The runtime verbs in `ctk --help`, from the runtime's own table; the first door carries them out."""

import typer

from toolkit.runtime.options import VERBS

_SHOWN_FIRST = ("run", "create", "start", "exec", "list", "state", "ps", "kill", "delete")
_OURS = ("spec",)


def register(app: typer.Typer) -> None:
    """Add each verb of the table, those that one meets first in front."""
    for verb in dict.fromkeys((*_SHOWN_FIRST, *VERBS)):
        if verb in VERBS and verb not in _OURS:
            app.command(
                verb,
                help=_title(verb, VERBS[verb][0]),
                rich_help_panel="Run",
                add_help_option=False,
                context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
            )(_first_door)


def _title(verb: str, summary: str) -> str:
    """runc's summary as a title; some of them begin with the verb itself."""
    title = summary.removeprefix(f"{verb} ")
    return title[:1].upper() + title[1:] + "."


def _first_door(context: typer.Context) -> None:
    from toolkit.runtime.main import main

    main([str(context.info_name), *context.args])
