"""Options that several commands about images have. Those of `ctk run --image` are in runtime/options.py.

Without dataclasses, which `ctk images` does not need: groups of them are in base_options.py."""

from toolkit.cli import declare
from toolkit.cli.declare import Annotated

PLATFORM = declare.Option(
    "--platform", metavar="OS/ARCH[/VARIANT]", help="Platform of the image.", show_default="this one"
)
PULL = declare.Option(
    "--pull",
    metavar="missing|always|never",
    help="When to ask the registry for an image; missing: if the store does not have it.",
)
PLAIN_HTTP = declare.Option(
    "--plain-http",
    metavar="HOST[:PORT]",
    help="This registry speaks http, not https. For loopback addresses, ctk tries both.",
    show_default=False,
)
LOCK_FILE = declare.Option(
    "--lock-file",
    metavar="FILE",
    help="Take the digest that this file has for the name.",
    show_default="ctk.lock here, if there is one",
)
UPDATE_LOCK = declare.Option("--update-lock", help="Ask the registry, and write the digest into the lock file.")
POLICY = declare.Option(
    "--policy",
    metavar="FILE",
    help="Check signatures by this policy.json.",
    show_default="ctk's own, if there is one; else none are checked",
)
SQUASH_IDS = declare.Option("--squash-ids", help="Files with an owner outside your ids become yours, with a note.")
DEVICES = declare.Option("--devices", help="Make the image's device nodes, as root.")


def within(panel: str, option: declare.Option) -> declare.Option:
    """The same option in a panel of the help."""
    return declare.Option(*option.names, **option.settings, rich_help_panel=panel)


Platform = Annotated[str, within("What", PLATFORM)]
PlainHttp = Annotated[list[str] | None, PLAIN_HTTP]
LockFile = Annotated[str, LOCK_FILE]
UpdateLock = Annotated[bool, UPDATE_LOCK]
Policy = Annotated[str, POLICY]
SquashIds = Annotated[bool, SQUASH_IDS]
Devices = Annotated[bool, DEVICES]
Json = Annotated[bool, declare.Option("--json", help="Print JSON.")]
