"""A stage of a bootstrap, told from its start to its end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.events import Emit, Finished, Started


class Said:
    """What a stage has to say at its end."""

    detail = ""


@contextmanager
def stage(name: str, emit: Emit) -> Iterator[Said]:
    """Started, and Finished with the seconds between; nothing is said of a stage that raises."""
    said = Said()
    began = time.monotonic()
    emit(Started(name))
    yield said
    emit(Finished(name, time.monotonic() - began, said.detail))
