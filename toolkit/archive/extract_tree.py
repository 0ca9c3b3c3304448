"""Extract a tree from a tar stream of ours (tar_write.py) into an empty directory that nobody else is using.

One thread makes the files while another reads ahead. Two threads that make files would only wait for each other in the
kernel (docs/performance.md).
"""

import os
from collections.abc import Iterator

from toolkit.archive import tar_read
from toolkit.archive.entries import DIRECTORY, HARD_LINK, Entry
from toolkit.archive.extract import TRY, Extractor, Policy
from toolkit.archive.streams import ahead
from toolkit.errors import Malformed
from toolkit.kernel.beneath import O_PATH, open_beneath

_POLICY = Policy(devices=TRY, umask=0o022)


def extract_tree(rootfd: int, stream: Iterator[bytes], what: str) -> int:
    """Extract the stream below `rootfd`; returns the number of members. The umask must be 022.

    Device nodes that the kernel doesn't let an ordinary user make are skipped. Raises OSError, SystemCall, Malformed,
    and whatever `stream` raises.
    """
    tree = _Tree(rootfd, f"extract {what}")
    content = tar_read.Tar(ahead(stream), what)
    count = 0
    try:
        for entry in content:
            tree.put(entry, content)
            count += 1
        tree.finish()
    finally:
        tree.close()
    return count


class _Tree:
    def __init__(self, rootfd: int, doing: str) -> None:
        self._rootfd = rootfd
        self._extractor = Extractor(_POLICY, doing)
        self._above = b""
        self._parent = os.dup(rootfd)
        self._directories: list[tuple[bytes, Entry]] = []

    def close(self) -> None:
        os.close(self._parent)

    def put(self, entry: Entry, content: tar_read.Tar) -> None:
        path = self._relative(entry.name)
        if entry.kind == DIRECTORY:
            self._directories.append((path, entry))
            if path:
                parent, last = self._place(path)
                os.mkdir(last, 0o755, dir_fd=parent)
            return
        parent, last = self._place(path)
        if entry.kind == HARD_LINK:
            above, _, target = self._relative(entry.link).rpartition(b"/")
            source = open_beneath(self._rootfd, os.fsdecode(above), O_PATH | os.O_DIRECTORY)
            try:
                self._extractor.link(source, target, parent, last)
            finally:
                os.close(source)
        else:
            self._extractor.put(parent, last, entry, content.pieces(entry))

    def finish(self) -> None:
        """Set the owners, modes and times of the directories, innermost first."""
        for path, entry in reversed(self._directories):
            fd = open_beneath(self._rootfd, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if not path:
                    os.fchown(fd, entry.uid, entry.gid)  # it already existed
                self._extractor.finish(fd, entry)
            finally:
                os.close(fd)

    def _place(self, path: bytes) -> tuple[int, bytes]:
        above, _, last = path.rpartition(b"/")
        if above != self._above:
            fd = open_beneath(self._rootfd, os.fsdecode(above), O_PATH | os.O_DIRECTORY)
            os.close(self._parent)
            self._parent, self._above = fd, above
        return self._parent, last

    def _relative(self, name: bytes) -> bytes:
        path = name.removeprefix(b"./").rstrip(b"/")
        if path.startswith(b"/") or b".." in path.split(b"/"):
            raise Malformed(self._extractor.doing, because=f"{os.fsdecode(name)!r} is not a path inside a root")
        return path
