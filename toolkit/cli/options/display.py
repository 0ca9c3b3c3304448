"""What a command shows while it works. Apart from `ctk bootstrap`, whose many options others need not import."""

from typing import Annotated

from toolkit.cli import declare

HOW = "How"

Json = Annotated[
    bool,
    declare.Option("--json", help="Print every event on stdout, one JSON object per line.", rich_help_panel=HOW),
]
Verbose = Annotated[
    bool, declare.Option("--verbose", help="Show what the packages' scripts print.", rich_help_panel=HOW)
]
