"""A finished tree that is to be written in a format, and how bytes are written."""

import os
from collections.abc import Iterable

from toolkit.archive.epoch import epoch_s
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.events import Emit


class Tree:
    """A finished tree, `rootfd` while it is entered, and what is known about it. `folder` is for temporary files.

    Times later than `latest_s` (SOURCE_DATE_EPOCH) are to be written as it.
    """

    def __init__(self, request: Request, result: Result, folder: str, emit: Emit) -> None:
        self.request = request
        self.result = result
        self.folder = folder
        self.emit = emit
        self.rootfd = -1
        self.latest_s = epoch_s()

    @property
    def path(self) -> str:
        """Where it is."""
        return os.path.join(self.folder, "root")

    def __enter__(self) -> "Tree":
        self.rootfd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.rootfd)


def write_all(out: int, pieces: Iterable[bytes]) -> None:
    """Write all pieces to the descriptor, completely. Raises OSError."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(out, view) :]
