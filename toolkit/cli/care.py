"""Look after it: `ctk doctor`, `ctk gc`, and `ctk bootstrap --remove`."""

from typing import Annotated

import typer

from toolkit.cli.output import progress


def _remove(path: str) -> str:
    if path:
        from toolkit.care import trees

        with progress(json=False) as emit:
            trees.remove(path, emit)
        raise typer.Exit
    return path


# Eager: it stands alone, without a suite, as `--version` does.
RemoveTree = Annotated[
    str,
    typer.Option(
        "--remove",
        metavar="DIR",
        help="Remove a tree that ctk made, files of your subordinate ids too; nothing else is removed.",
        callback=_remove,
        is_eager=True,
        rich_help_panel="Instead",
        show_default=False,
    ),
]
