"""The store of images: `ctk images`, `ctk image inspect|history|explain|diff|tag|rm|prune|check`."""

import sys

from toolkit.cli import complete, declare, output
from toolkit.cli.declare import Annotated
from toolkit.cli.images import registry
from toolkit.cli.images.options import Json, PlainHttp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.image.store.collect import Removed

_PANEL = "Images"

Name = Annotated[
    str,
    declare.Argument(
        metavar="IMAGE", help="Its name, its digest, or the first digits of one.", show_default=False,
        autocompletion=complete.images,
    ),
]  # fmt: skip
Names = Annotated[
    list[str],
    declare.Argument(
        metavar="IMAGE…", help="Names, digests, or the first digits of one.", show_default=False,
        autocompletion=complete.images,
    ),
]  # fmt: skip
OfPlatform = Annotated[
    str,
    declare.Option(
        "--platform", metavar="OS/ARCH", help="Which image of an index to take.", show_default="this machine's"
    ),
]


def register(app: declare.App) -> None:
    """Add the commands."""
    app.command("images", libraries=declare.DRAWN, rich_help_panel=_PANEL, epilog="Example: ctk images")(images)
    group = declare.App(no_args_is_help=True, help="Look at and change images in the local store and in registries.")
    group.command("inspect", epilog="Example: ctk image inspect debian:bookworm")(inspect)
    group.command("history", epilog="Example: ctk image history debian:bookworm")(history)
    group.command("explain", epilog="Example: ctk image explain debian:bookworm")(explain)
    group.command("diff", epilog="Example: ctk image diff debian:bookworm debian:trixie")(diff)
    group.command("tag", epilog="Example: ctk image tag debian:bookworm localhost:5000/base:1")(tag)
    group.command("rm", epilog="Example: ctk image rm debian:bookworm")(remove)
    group.command("prune", epilog="Example: ctk image prune --all --dry-run")(prune)
    group.command("check", epilog="Example: ctk image check")(check)
    registry.register(group)
    app.add_group(group, name="image", rich_help_panel=_PANEL)


def images(
    json: Json = False,
    quiet: Annotated[bool, declare.Option("--quiet", "-q", help="Print digests only.")] = False,
) -> None:
    """List the images in the local store."""
    from toolkit.image.store import listing
    from toolkit.image.store.store import Store
    from toolkit.ui import quantity, tables

    found = listing.listing(Store())
    if json:
        output.document([one.as_json() for one in found])
    elif quiet:
        for digest in dict.fromkeys(one.digest for one in found):
            output.out(f"{digest}\n")
    else:
        rows = tuple((*one.row(), quantity.size(one.size_bytes)) for one in found)
        table = tables.Table(("NAME", "ID", "PLATFORM", "CREATED", "SIZE"), rows, "", (4,), "no images")
        tables.show([table], sys.stdout)


def inspect(name: Name, platform: OfPlatform = "") -> None:
    """Print all that is known about an image, as JSON: its names, layers and configuration."""
    from toolkit.image.document import platform as platforms
    from toolkit.image.store import listing
    from toolkit.image.store.store import Store

    output.document(listing.inspect(Store(), name, platforms.parse(platform) if platform else None))


def history(name: Name, platform: OfPlatform = "", json: Json = False) -> None:
    """Show the steps an image was made in, the last one first."""
    from toolkit.image.document import platform as platforms
    from toolkit.image.store import listing
    from toolkit.image.store.store import Store
    from toolkit.ui import quantity, tables

    steps = listing.history(Store().image(name, platforms.parse(platform) if platform else None))
    if json:
        keys = ("created", "size", "digest", "createdBy", "comment")
        output.document([dict(zip(keys, step, strict=True)) for step in steps])
        return
    rows = tuple(
        (listing.when(step.created), quantity.size(step.size_bytes) if step.digest else "", step.created_by)
        for step in steps
    )
    tables.show([tables.Table(("CREATED", "SIZE", "BY"), rows, "", (1,), "it has no history")], sys.stdout)


def explain(name: Name, platform: OfPlatform = "", json: Json = False) -> None:
    """Explain an image: its documents, what they become in config.json, its layers and how they become the root.

    Everything is verified on the way. The lines between the comments show the same with sha256sum, jq and tar.
    """
    from toolkit.bundle import image as bundled
    from toolkit.explain.pull import stored
    from toolkit.image.document import platform as platforms
    from toolkit.image.store.store import Store
    from toolkit.ui import steps as screen

    wanted = platforms.parse(platform) if platform else None
    told = list(stored.steps(Store(), name, wanted, bundled.of_configuration))
    if json:
        output.document({"image": name, "steps": [step.as_json() for step in told]})
    else:
        screen.show(told, sys.stdout)


def diff(
    name: Name,
    other: Annotated[
        str,
        declare.Argument(
            metavar="[OTHER]", help="Compare with this image.", show_default="without the topmost layer",
            autocompletion=complete.images,
        ),
    ] = "",
    platform: OfPlatform = "",
    json: Json = False,
) -> None:  # fmt: skip
    """Show what an image's topmost layer added (A), changed (C) and deleted (D), or what OTHER has otherwise.

    Types, owners, modes, sizes, contents, link targets, device numbers and attributes are compared; between two
    images times are not. A deleted folder stands for all in it.
    """
    from itertools import chain, islice

    from toolkit.events import Planned, Started
    from toolkit.image.document import platform as platforms
    from toolkit.image.store import compare
    from toolkit.image.store.store import Store

    wanted = platforms.parse(platform) if platform else None
    store = Store()
    with output.progress_on_terminal() as emit:
        emit(Planned(((compare.STAGE, "Read the layers"),)))
        emit(Started(compare.STAGE))
        if other:
            found = compare.between(store, name, other, wanted, emit)
        else:
            found = compare.of_topmost(store, name, wanted, emit)
        first = tuple(islice(found, 1))
    output.changes(chain(first, found), json=json)


def tag(
    name: Name,
    new: Annotated[str, declare.Argument(metavar="NAME", help="The new name.", show_default=False)],
) -> None:
    """Give an image one more name. If another image has that name, it loses it."""
    from toolkit.image.store import listing
    from toolkit.image.store.store import Store

    output.out(f"{listing.familiar(Store().tag(name, new))}\n")


def remove(
    names: Names,
    force: Annotated[
        bool, declare.Option("--force", "-f", help="Given a digest, remove all the names of its image.")
    ] = False,
    plain_http: PlainHttp = None,
) -> None:
    """Remove names. With its last name an image is removed, except for data that other images or containers use.

    docker://NAME deletes from a registry: a tag, or with @DIGEST an image with all its tags there.
    """
    from toolkit.image.store import collect
    from toolkit.image.store.store import Store

    there = registry.named(names)
    if here := [name for name in names if not name.startswith("docker://")]:
        _told(collect.remove(Store(), here, force=force))
    registry.delete(there, plain_http)


def prune(
    every: Annotated[bool, declare.Option("--all", "-a", help="Remove every image that no container uses.")] = False,
    dry_run: Annotated[bool, declare.Option("--dry-run", "-n", help="Only show what would be removed.")] = False,
    limit: Annotated[
        str,
        declare.Option(
            "--limit", metavar="SIZE", help="Also remove unused laid-out layers until the store is within SIZE.",
            show_default=False,
        ),
    ] = "",
) -> None:  # fmt: skip
    """Remove images without a name, data that no image needs, and the remains of broken downloads."""
    from toolkit.errors import Usage
    from toolkit.fetch import limits
    from toolkit.image.store import collect
    from toolkit.image.store import limit as limiting
    from toolkit.image.store.store import Store

    size_bytes = limits.size(limit, what="--limit") if limit else -1
    if limit and dry_run:
        raise Usage("prune the image store", because="--limit can't be tried with --dry-run", hint="leave one out")
    store = Store()
    removed = collect.prune(store, everything=every, dry_run=dry_run)
    if size_bytes >= 0:
        more = limiting.keep_within(store, size_bytes)
        removed.layers += more.layers
        removed.size_bytes += more.size_bytes
    _told(removed, "would remove" if dry_run else "removed")


def _told(removed: "Removed", word: str = "removed") -> None:
    from toolkit.image.store import listing
    from toolkit.text import one_line
    from toolkit.ui import quantity

    for name in removed.images:
        output.out(f"{word} {one_line(listing.familiar(name))}\n")
    what = removed.counted
    output.out(f"{word} {what}, {quantity.size(removed.size_bytes)}\n" if what else f"{word} no data\n")


def check(
    repair: Annotated[
        bool, declare.Option("--repair", help="Remove damaged blobs and changed layers, so that they are made again.")
    ] = False,
    json: Json = False,
) -> None:
    """Verify the store: hash every blob, read every document, compare every laid-out layer with its original state.

    The exit code is 1 if an image is damaged. Left-overs do not count as damage.
    """
    from toolkit.image.store import check as checking
    from toolkit.image.store.store import Store
    from toolkit.text import one_line

    found = checking.checked(Store(), repair=repair)
    for one in found if not json else ():
        hint = "removed" if one.mended else one.hint
        output.out(one_line(f"{one.kind}: {one.name}: {one.what}" + (f"  ({hint})" if hint else "")) + "\n")
    damaged = [one for one in found if not one.harmless]
    if json:
        output.document([{**one._asdict(), "harmless": one.harmless} for one in found])
    elif not damaged:
        output.out("no damage\n")
    if any(not one.mended for one in damaged):
        sys.exit(1)
