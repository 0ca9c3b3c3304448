"""Digests: the name of content is its hash (image-spec 1.1, descriptor.md, "Digests").

A digest is checked here before a path or a URL is built from it (CVE-2014-9358, CVE-2024-3727).
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from toolkit.errors import Invalid, Untrusted

if TYPE_CHECKING:
    from hashlib import _Hash

_GRAMMAR = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_NEW: dict[str, "Callable[[], _Hash]"] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


def is_digest(text: str) -> bool:
    """Whether it is a digest of an algorithm that the specification registers: sha256 or sha512, in lower case."""
    return _GRAMMAR.fullmatch(text) is not None


def check(text: str, document: str, path: str = "digest") -> str:
    """`text`, which is a digest. Raises Invalid, which names the field `path` of `document`."""
    if not is_digest(text):
        because = f"{text!r} is not a digest (sha256:… or sha512:…, in lower case)"
        raise Invalid(path, because, document=document)
    return text


def split(digest: str) -> tuple[str, str]:
    """Algorithm and hexadecimal part: the two folders' worth of its place in a layout (blobs/ALGORITHM/HEX)."""
    algorithm, _, encoded = digest.partition(":")
    return algorithm, encoded


def hasher(digest: str) -> "_Hash":
    """An empty hash object of this digest's algorithm."""
    return _NEW[split(digest)[0]]()


def of(data: bytes) -> str:
    """The sha256 digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def text_of(digest: str, found: "_Hash") -> str:
    """The digest that `found` stands at, to be compared with `digest`, of whose algorithm it is."""
    return f"{split(digest)[0]}:{found.hexdigest()}"


def verify(data: bytes, digest: str, doing: str) -> bytes:
    """`data`, which has this digest. Raises Untrusted."""
    found = hasher(digest)
    found.update(data)
    if text_of(digest, found) != digest:
        raise Untrusted(doing, because=f"its digest is {text_of(digest, found)}, and {digest} was asked for")
    return data


def verified(pieces: Iterable[bytes], digest: str, size_bytes: int, doing: str) -> Iterator[bytes]:
    """The same pieces, hashed as they pass. Raises Untrusted before the first byte too many, or after the last piece.

    So whoever keeps them must not use them before the iterator has ended.
    """
    found, left = hasher(digest), size_bytes
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise Untrusted(doing, because=f"it has more than the {size_bytes} bytes that were announced")
        found.update(piece)
        yield piece
    if left:
        raise Untrusted(doing, because=f"it has {size_bytes - left} bytes, and {size_bytes} were announced")
    if text_of(digest, found) != digest:
        raise Untrusted(doing, because=f"its digest is {text_of(digest, found)}, and {digest} was asked for")
