"""Which module has which command. A command line needs one of them, and the others are not imported for it."""

from toolkit import preload
from toolkit.cli import declare
from toolkit.runtime.options import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _up(app: declare.App) -> None:
    from toolkit.cli import up

    up.register(app)


def _bootstrap(app: declare.App) -> None:
    from toolkit.cli import build

    build.register(app)


def _cache(app: declare.App) -> None:
    from toolkit.cli import cache

    cache.register(app)


def _build(app: declare.App) -> None:
    from toolkit.cli.images import build

    build.register(app)


def _store(app: declare.App) -> None:
    from toolkit.cli.images import store

    store.register(app)


def _spec(app: declare.App) -> None:
    from toolkit.cli import spec

    spec.register(app)


def _transfer(app: declare.App) -> None:
    from toolkit.cli.images import transfer

    transfer.register(app)


def _write(app: declare.App) -> None:
    from toolkit.cli.images import write

    write.register(app)


def _networks(app: declare.App) -> None:
    from toolkit.cli.networks import network

    network.register(app)


def _verbs(app: declare.App) -> None:
    from toolkit.cli import verbs

    verbs.register(app)


def _containers(app: declare.App) -> None:
    from toolkit.cli import container_commands

    container_commands.register(app)


def _recipes(app: declare.App) -> None:
    from toolkit.cli import recipes

    recipes.register(app)


def _explain(app: declare.App) -> None:
    from toolkit.cli import explain

    explain.register(app)


def _observe(app: declare.App) -> None:
    from toolkit.cli import observe

    observe.register(app)


def _care(app: declare.App) -> None:
    from toolkit.cli import care

    care.register(app)


# In the order of the help. The runtime's verbs come here only for their help: toolkit/__main__.py has run them before.
_MODULES: "tuple[tuple[Callable[[declare.App], None], str], ...]" = (
    (_up, "up"),
    (_bootstrap, "bootstrap"),
    (_cache, "cache"),
    (_build, "build"),
    (_store, "images image"),
    (_spec, "spec"),
    (_transfer, "pull push copy unpack login logout"),
    (_write, "pack commit"),
    (_verbs, ""),
    (_containers, "logs attach stop restart rm cp generate"),
    (_networks, "network port"),
    (_recipes, "quickstart recipe"),
    (_explain, "check explain"),
    (_observe, "inspect stats top diff"),
    (_care, "doctor gc"),
)


def known(command: str) -> bool:
    """Whether one module has `command`."""
    return any(command in names.split() for _, names in _MODULES)


def register(app: declare.App, command: str = "") -> None:
    """Add `command`, and what is in one module with it; all commands, if none has that name."""
    mine = (
        [_verbs]
        if command in VERBS and not known(command)
        else [add for add, names in _MODULES if command in names.split()]
    )
    for add in mine or [add for add, _ in _MODULES]:
        if mine:
            preload.load_for(add)
        add(app)
