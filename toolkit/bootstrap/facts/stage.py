"""A stage of a bootstrap: the events of its start and its end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.events import Emit, Finished, Started


class Report:
    """The result of a stage in a few words, set inside the `with` block."""

    detail = ""


@contextmanager
def stage(name: str, emit: Emit) -> Iterator[Report]:
    """Emit Started, and at the end Finished with the seconds between. A stage that raises has no Finished."""
    report = Report()
    began = time.monotonic()
    emit(Started(name))
    yield report
    emit(Finished(name, time.monotonic() - began, report.detail))
