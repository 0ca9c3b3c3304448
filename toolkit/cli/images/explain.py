"""`ctk pull --explain`: the pull, and then what it has done."""

import sys
from typing import TYPE_CHECKING

from toolkit.cli import output
from toolkit.cli.output import progress

if TYPE_CHECKING:
    from toolkit.events import Event
    from toolkit.image.transfer.pull import PullRequest


def explained(request: "PullRequest", *, json: bool, verbose: bool) -> None:
    """Pull, with the progress on standard error, and write the steps to standard output: also those before an error."""
    from toolkit.events import Traced
    from toolkit.explain.pull import steps as telling
    from toolkit.image.transfer.pull import fetched
    from toolkit.ui import steps as screen

    told: list[Traced] = []
    try:
        with progress(json=False, verbose=verbose) as emit:

            def sort(event: "Event") -> None:
                if isinstance(event, Traced):
                    told.append(event)
                else:
                    emit(event)

            fetched(request, sort)
    finally:
        steps = telling.steps((one.kind, one.facts) for one in told)
        if json:
            output.document({"reference": request.reference, "steps": [step.as_json() for step in steps]})
        else:
            screen.show(steps, sys.stdout)
