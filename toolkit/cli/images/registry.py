"""What registries have: `ctk image tags`, `ctk image referrers`; and `ctk image rm docker://…`."""

import sys

from toolkit.cli import declare, output
from toolkit.cli.declare import Annotated
from toolkit.cli.images.options import Json, PlainHttp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.image.name import Reference


def register(group: declare.App) -> None:
    """Add the commands to `ctk image`."""
    group.command("tags", epilog="Example: ctk image tags debian")(tags)
    example = "Example: ctk image referrers localhost:5000/mine:1"
    group.command("referrers", epilog=example)(referrers)


def tags(
    repository: Annotated[
        str, declare.Argument(metavar="REPOSITORY", help="[REGISTRY/]REPOSITORY.", show_default=False)
    ],
    plain_http: PlainHttp = None,
    json: Json = False,
) -> None:
    """List the tags of a repository in a registry."""
    from toolkit.image.transfer import remote
    from toolkit.image.transfer.places import Access

    found = remote.tags(repository, Access(frozenset(plain_http or ())))
    if json:
        output.document(found)
    else:
        output.out("".join(f"{tag}\n" for tag in found))


def referrers(
    image: Annotated[
        str,
        declare.Argument(metavar="IMAGE", help="[REGISTRY/]REPOSITORY[:TAG][@DIGEST].", show_default=False),
    ],
    kind: Annotated[
        str, declare.Option("--type", metavar="TYPE", help="Only artifacts of this type.", show_default=False)
    ] = "",
    platform: Annotated[
        str,
        declare.Option(
            "--platform", metavar="OS/ARCH", help="Of the image for this platform in an index.",
            show_default="of the index",
        ),
    ] = "",
    plain_http: PlainHttp = None,
    json: Json = False,
) -> None:  # fmt: skip
    """List what refers to an image in a registry: bills of materials, signatures, attestations."""
    from toolkit.image.transfer import remote
    from toolkit.image.transfer.places import Access
    from toolkit.ui import quantity, tables

    told = remote.referrers(image, platform, kind, Access(frozenset(plain_http or ())))
    if json:
        output.document({"subject": told.subject, "referrers": [one.as_json() for one in told.found]})
        return
    rows = tuple((one.digest, one.artifact_type, quantity.size(one.size_bytes)) for one in told.found)
    table = tables.Table(("DIGEST", "TYPE", "SIZE"), rows, "", (2,), f"nothing refers to {told.subject}")
    tables.show([table], sys.stdout)


def named(names: list[str]) -> "list[Reference]":
    """Those of `names` that are docker://…, for `delete`. Raises Usage."""
    from toolkit.image.transfer import remote

    return [remote.of_registry(one) for one in names if one.startswith("docker://")]


def delete(references: "list[Reference]", plain_http: list[str] | None) -> None:
    """`ctk image rm docker://…`: one after the other; the first failure ends it."""
    from toolkit.image.transfer import remote
    from toolkit.image.transfer.places import Access

    access = Access(frozenset(plain_http or ()))
    for reference in references:
        output.out(f"deleted {remote.delete(reference, access)}\n")
