"""`ctk.lock`: which digest a tag stands for, so that an image is the same tomorrow and on the next machine.

A JSON object: `version` is 1, and `images` has for each whole name (docker.io/library/debian:bookworm) an object with
the `digest` that the registry gave for it. That is the index's if there is one, and so holds every platform's image.

A lock that is there is obeyed, and only `--update-lock` changes it, as with the locks of uv and cargo.
"""

import fcntl
import os
from typing import NamedTuple

from toolkit.errors import CtkError, Invalid, NotFound, Usage, reason
from toolkit.image import digest as digests
from toolkit.image import name as names
from toolkit.image.document import fields
from toolkit.image.name import Reference
from toolkit.kernel import atomic, reading

FILE = "ctk.lock"
_VERSION = 1


class Lock(NamedTuple):
    """A lock file's content: digests by whole names. `path` "" is that of no file."""

    path: str = ""
    images: dict[str, str] = {}  # noqa: RUF012 (nobody changes it)

    def digest(self, text: str) -> str:
        """What the lock holds for a name that has a tag, or none at all; "" for no entry."""
        try:
            reference = names.parse(text)
        except Usage:  # an image's id
            return ""
        return "" if reference.digest else self.images.get(str(reference.tagged()), "")


def find(path: str = "", *, must_exist: bool = True) -> Lock:
    """The lock in this file, by default in `ctk.lock` in the current folder, if there is one.

    Raises NotFound for a `path` that is not there (if it `must_exist`), Invalid, CtkError.
    """
    where = path or FILE
    try:
        data = reading.named(where, limit_bytes=fields.LIMIT_BYTES)
    except FileNotFoundError:
        if path and must_exist:
            hint = "--update-lock makes it"
            raise NotFound(f"read the lock file {path!r}", because="there is no such file", hint=hint) from None
        return Lock()
    except OSError as error:
        raise CtkError(f"read the lock file {where!r}", because=reason(error)) from None
    return Lock(where, _read(data, where))


def check(path: str, name: str, digest: str) -> None:
    """Raise NotFound if the lock file (as `find` takes it) holds the name to another image than `digest`."""
    pins = find(path)
    pin = pins.digest(name)
    if pin not in ("", digest):
        because = f"{pins.path!r} holds it to {pin}, and in the store it is {digest}"
        raise NotFound(f"use the image {name!r}", because=because)


def _read(data: bytes, path: str) -> dict[str, str]:
    whole = fields.read(data, path, ("version", "images"))
    version = whole.natural("version")
    if version != _VERSION:
        raise Invalid("version", f"is {version}, and this ctk knows {_VERSION}", document=path)
    images = whole.object("images") or fields.Fields({}, path)
    found = {}
    for name in images.value:
        if str(names.parse(name).tagged()) != name or "@" in name:
            raise images.invalid(name, "is not a whole name with a tag (docker.io/library/debian:bookworm)")
        entry = images.object(name, ("digest",))
        if entry is not None:
            found[name] = digests.check(entry.text("digest"), path, f"images.{name}.digest")
    return found


def update(path: str, reference: Reference, digest: str) -> str:
    """Let the lock in `path` ("" for ctk.lock here) hold this name to a digest; the digest it had before, or "".

    The file is made if need be; two that change it at once wait for each other. Raises Invalid, CtkError.
    """
    import json  # `run --image` reads locks, and does without

    where = path or FILE
    name = str(reference._replace(digest="").tagged())
    try:
        folder = os.open(os.path.dirname(where) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CtkError(f"write the lock file {where!r}", because=reason(error)) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        images = find(where, must_exist=False).images
        before = images.get(name, "")
        if before != digest:
            new = {one: {"digest": images[one]} for one in images} | {name: {"digest": digest}}
            text = json.dumps({"version": _VERSION, "images": dict(sorted(new.items()))}, indent=2) + "\n"
            atomic.replace(where, text.encode(), mode=0o666)
    except OSError as error:
        raise CtkError(f"write the lock file {where!r}", because=reason(error)) from None
    finally:
        os.close(folder)
    return before
