"""Options that several commands about images have."""

from typing import Annotated

from toolkit.cli import declare

PlainHttp = Annotated[
    list[str] | None,
    declare.Option(
        "--plain-http",
        metavar="HOST[:PORT]",
        help="This registry speaks http, not https. For loopback addresses, ctk tries both.",
        show_default=False,
    ),
]
Json = Annotated[bool, declare.Option("--json", help="Print JSON.")]
