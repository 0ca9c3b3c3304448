"""A file that a reader never sees half of, written where others may write, too (a tree in /tmp)."""

import contextlib
import os


def write(path: str, text: str) -> None:
    """Replace the file at `path` with `text` (UTF-8). Raises OSError; then what was there is as it was."""
    temporary = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a process of that number that was killed; or somebody's link to a file of ours
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
