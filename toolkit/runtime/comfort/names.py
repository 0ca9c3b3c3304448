"""Untrusted path names, split into components that can only lead downwards."""

from toolkit.errors import CtkError


def of_fd(fd: int) -> str:
    """The path by which a descriptor's file can be opened again, even if it was renamed."""
    return f"/proc/self/fd/{fd}"


def words(name: str) -> "list[str]":
    """The components of a name in an archive, without "." and a leading "/". Pure. Raises CtkError for ".."."""
    found = [word for word in name.split("/") if word not in ("", ".")]
    if ".." in found:
        raise CtkError(f"unpack {name!r}", because="the name leads out of the archive ('..')")
    return found
