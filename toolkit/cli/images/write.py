"""Images made of files: `ctk pack`, `ctk commit`."""

from typing import TYPE_CHECKING, Annotated

from toolkit.cli import complete, declare
from toolkit.cli.container_commands import Root
from toolkit.cli.images.options import Platform
from toolkit.cli.options.display import Json, Verbose
from toolkit.cli.output import progress

if TYPE_CHECKING:
    from toolkit.image.transfer.new_image import NewImage

_PANEL = "Images"

To = Annotated[
    str,
    declare.Argument(
        metavar="IMAGE",
        help="A name in the store, or oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], docker://NAME.",
        show_default=False,
    ),
]
Change = Annotated[
    list[str] | None,
    declare.Option(
        "--change",
        "-c",
        metavar="INSTRUCTION",
        help="CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR, as in a Containerfile.",
        show_default=False,
    ),
]
Author = Annotated[str, declare.Option("--author", "-a", metavar="TEXT", help="The author.", show_default=False)]
Message = Annotated[
    str,
    declare.Option("--message", "-m", metavar="TEXT", help="A comment for the image's history.", show_default=False),
]
Compression = Annotated[
    str, declare.Option("--compression", metavar="CODEC", help="How the layer is compressed: gzip, zstd or none.")
]


def register(app: declare.App) -> None:
    """Add the group's commands."""
    for function, example in (
        (pack, "ctk pack ./root localhost:5000/mine:1 --change 'CMD [\"bash\"]'"),
        (commit, "ctk commit web web:2 --message 'with a page'"),
    ):
        app.command(function.__name__, rich_help_panel=_PANEL, epilog=f"Example: {example}")(function)


def _new(to: str, changes: list[str] | None, author: str, message: str, compression: str) -> "NewImage":
    from toolkit.image import name
    from toolkit.image.transfer.new_image import NewImage

    return NewImage(name.locate(to), tuple(changes or ()), author, message, compression)


def pack(
    source: Annotated[
        str,
        declare.Argument(metavar="DIR|ID", help="A root, a bundle, or the name of one of ctk up.", show_default=False),
    ],
    image: To,
    change: Change = None,
    author: Author = "",
    message: Message = "",
    compression: Compression = "gzip",
    platform: Platform = "",
    squash: Annotated[
        bool, declare.Option("--squash", help="One layer of the whole root, of an unpacked bundle too.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make an image of one layer from a root, or from a bundle: its process becomes the image's command.

    Of a bundle that ctk unpack has made, what has changed becomes one more layer on the layers of its image.

    With SOURCE_DATE_EPOCH the same files always make the same image.
    """
    from toolkit.image.transfer.pack import PackRequest, packed

    request = PackRequest(source, _new(image, change, author, message, compression), platform, squash)
    with progress(json=json, verbose=verbose) as emit:
        packed(request, emit)


def commit(
    source: Annotated[
        str,
        declare.Argument(
            metavar="ID|DIR",
            help="A container of ctk up IMAGE or ctk run --image, or its bundle.",
            show_default=False,
            autocompletion=complete.containers,
        ),
    ],
    image: To,
    change: Change = None,
    author: Author = "",
    message: Message = "",
    compression: Compression = "gzip",
    pause: Annotated[
        bool, declare.Option("--pause/--no-pause", "-p", help="Freeze a running container meanwhile.")
    ] = True,
    root: Root = "",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make an image of what a container has changed: the layers of its own image, and one more.

    With SOURCE_DATE_EPOCH the same changes always make the same image.
    """
    import os

    from toolkit import places
    from toolkit.events import Note
    from toolkit.runtime.comfort.at_rest import AtRest
    from toolkit.up.commit import CommitRequest, committed
    from toolkit.up.from_image import WRITABLE

    new = _new(image, change, author, message, compression)
    records = os.path.abspath(root) if root else places.runtime_root()
    with progress(json=json, verbose=verbose) as emit, AtRest(records, source, WRITABLE, pause=pause) as container:
        if container.warning:
            emit(Note(container.warning, warning=True))
        committed(CommitRequest(source, container.bundle, container.layer, new), emit)
