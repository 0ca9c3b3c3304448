"""Options that several commands about images have."""

from typing import Annotated

import typer

PlainHttp = Annotated[
    list[str] | None,
    typer.Option(
        "--plain-http",
        metavar="HOST[:PORT]",
        help="This registry speaks http, not https. For loopback addresses, ctk tries both.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
