"""The files that a container would see, found on the host before it exists: its root with the bind mounts on it.

Symbolic links are followed as the container would follow them: an absolute one starts at the container's root.
"""

import errno
import os
import stat as st
from typing import Any

_LINKS = 40  # path_resolution(7)


class Inside:
    """A bundle's root with the mounts of its spec on it."""

    def __init__(self, spec: dict[str, Any], bundle: str) -> None:
        self.spec = spec
        self.closed = ""  # a folder on the host that we may not enter: what is in it is unknown, not missing
        self.root = os.path.normpath(os.path.join(bundle, (spec.get("root") or {}).get("path") or ""))
        self._mounts: list[tuple[str, str]] = []  # (destination, source on the host; "" for a new file system)
        for mount in spec.get("mounts") or ():
            options = mount.get("options") or ()
            bind = mount.get("type") == "bind" or "bind" in options or "rbind" in options
            source = os.path.join(bundle, mount.get("source") or "") if bind else ""
            if bind or "tmpcopyup" not in options:
                self._mounts.append((os.path.normpath("/" + (mount.get("destination") or "/").lstrip("/")), source))

    def host_path(self, path: str) -> str:
        """The host's path of a path in the container, links followed; "" if it doesn't exist or is made at launch."""
        left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        at = ""
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            following = f"{at}/{part}"
            host = self._place(following)
            try:
                mode = os.lstat(host).st_mode if host else 0
            except OSError as error:
                if error.errno == errno.EACCES:
                    self.closed = os.path.dirname(host)
                if not any(destination.startswith(following + "/") for destination, _ in self._mounts):
                    return ""
                mode = 0  # made at launch, for a mount below it
            if st.S_ISLNK(mode):
                links += 1
                if links > _LINKS:
                    return ""
                target = os.readlink(host)
                left.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
                if target.startswith("/"):
                    at = ""
                continue
            at = following
        host = self._place(at or "/")
        return host if host and os.path.lexists(host) else ""

    def _place(self, path: str) -> str:
        """The host's path of a path whose parents are not links; "" below a new file system."""
        best, source = "", self.root
        for destination, given in self._mounts:
            inside = destination == "/" or path == destination or path.startswith(destination + "/")
            if inside and len(destination) >= len(best):
                best, source = destination, given
        if best and not source:
            return ""
        rest = path[len(best) :] if best != "/" else path
        return source.rstrip("/") + rest if rest.strip("/") else source

    def writable(self, path: str) -> bool:
        """Is there a mount at `path` or above it, other than the root, so that root.readonly has no effect there?"""
        return any(d != "/" and (path == d or path.startswith(d + "/")) for d, _ in self._mounts)

    def covered(self, path: str) -> bool:
        """Is `path` on a file system that is made at launch, so that its content is unknown now?"""
        return any(not source and (path == d or path.startswith(d + "/")) for d, source in self._mounts)
