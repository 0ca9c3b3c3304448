"""Learning: `ctk quickstart`, `ctk recipe list|show|run|new`."""

import sys

from toolkit.cli import complete, declare, output
from toolkit.cli.declare import Annotated
from toolkit.text import quote

_PANEL = "Learn"
_EXAMPLE = "Example: sudo ctk recipe run first-container"

recipes = declare.App(no_args_is_help=True, epilog=_EXAMPLE)

Name = Annotated[
    str,
    declare.Argument(
        metavar="NAME",
        help="A recipe's name or number, or a file.",
        show_default=False,
        autocompletion=complete.recipes,
    ),
]


def register(app: declare.App) -> None:
    """Add the group's commands."""
    app.command("quickstart", rich_help_panel=_PANEL, epilog="Example: sudo ctk quickstart")(quickstart)
    app.add_group(recipes, name="recipe", help="Tutorials that run: list, show, run, new.", rich_help_panel=_PANEL)


def quickstart(
    ctx: declare.Context,
    command: Annotated[
        list[str] | None, declare.Argument(metavar="[-- CMD…]", help="What to run.", show_default="a shell")
    ] = None,
) -> None:
    """Start a shell in a new container, with one command.

    It is `ctk up` with the host's own release (else bookworm), or with the host's own programs if no archive answers.
    """
    from toolkit.bootstrap.acquire.mirrors import host_suite
    from toolkit.up import launch

    suite = host_suite() or "bookworm"
    words = ["up", suite, "quickstart", "--or-host", *(["--", *command] if command else [])]
    output.err(f"ctk: this is  ctk {' '.join(words)}\n")
    code = launch.call(words, ctx.obj)
    if not code:
        output.err(f"ctk: next:\nctk:   ctk up {quote(suite)} NAME\nctk:   ctk recipe run first-container\n")
    sys.exit(code)


@recipes.command("list")
def list_() -> None:
    """List the recipes: how long each takes, and what it needs from the host."""
    from toolkit.recipe import conditions, shelf
    from toolkit.ui import recipes as screen

    found = [shelf.load(path) for path in shelf.paths()]
    rows = [(one.name, one.title, one.minutes, [(word, conditions.unmet(word)) for word in one.wants]) for one in found]
    screen.show_list(rows, sys.stdout)


@recipes.command("show")
def show(name: Name) -> None:
    """Show a recipe as a page to read."""
    from toolkit.recipe import shelf
    from toolkit.ui import recipes as screen

    with open(shelf.find(name).path, encoding="utf-8") as file:
        screen.show_markdown(file.read(), sys.stdout)


@recipes.command("run", epilog=_EXAMPLE)
def run(
    name: Name,
    yes: Annotated[bool, declare.Option("--yes", "-y", help="Run every step without asking.")] = False,
    first: Annotated[
        int, declare.Option("--from", metavar="STEP", help="Begin at this step; use the --work of the earlier run.")
    ] = 1,
    dry_run: Annotated[bool, declare.Option("--dry-run", help="Show every step, run nothing.")] = False,
    work: Annotated[
        str, declare.Option("--work", metavar="DIR", help="Folder to work in.", show_default="a new one")
    ] = "",
    restart: Annotated[
        bool, declare.Option("--restart", help="Clean up after the stopped run, and start over.")
    ] = False,
    clean_up: Annotated[
        bool, declare.Option("--clean-up", help="Clean up after the stopped run, and do nothing else.")
    ] = False,
) -> None:
    """Play a recipe step by step: read, press Enter, see it happen.

    If you stop with q, the next run continues there.
    """
    from toolkit.care.recipe_group import RecipeGroup
    from toolkit.recipe import play, shelf
    from toolkit.ui import tutorial
    from toolkit.up.launch import anywhere

    options = play.Options(yes, dry_run, first, work, restart, clean_up, tuple(anywhere()), RecipeGroup)
    recipe = shelf.find(name)
    played = play.play(recipe, options, tutorial.TutorialScreen(sys.stdout))
    if not dry_run and not played.stopped_at:
        output.out(f"{recipe.name}: {played.steps} of {recipe.numbered} steps, and nothing left behind\n")


@recipes.command("new", epilog="Example: ctk recipe new my-first-service")
def new(name: Annotated[str, declare.Argument(metavar="NAME", help="Its name; the file is NAME.md, here.")]) -> None:
    """Begin a recipe of your own, with a page that already runs."""
    from toolkit.recipe import shelf

    path = shelf.begin(name)
    output.out(f"{path}: play it with  ctk recipe run {quote(f'./{path}')}\n")
