"""The bundle of `ctk up`: its folder, and the marker that records what each part of it was made from."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from toolkit import places
from toolkit.bundle.build import SpecRequest
from toolkit.errors import CtkError, Invalid, Usage, reason
from toolkit.kernel import atomic, ours, reading
from toolkit.oci import json_text

MARKER = "ctk-up.json"


class UpRequest(NamedTuple):
    """The options of `ctk up`, except what the root is made of. `spec.bundle` is filled in from `bundle`."""

    id: str
    spec: SpecRequest
    bundle: str = ""  # "": a folder of ctk's own
    terminal: bool = False
    force: bool = False


def bundle_folder(request: UpRequest) -> str:
    """The path of the bundle, whether it exists or not. Raises Usage for an invalid container id."""
    if not re.fullmatch(r"[A-Za-z0-9_+.-]+", request.id) or request.id in (".", ".."):
        hint = "it may have letters, digits and _ + - ."
        raise Usage(f"use {request.id!r} as a container id", because="it has other characters", hint=hint)
    return os.path.abspath(request.bundle or places.bundle_dir(request.id))


def make_folder(bundle: str, request: UpRequest) -> None:
    """Make the bundle's folder, private to its owner: no other user may run a setuid program of the container's root.

    A folder of our own is made private even if an earlier version left it open. If the container's root is another user
    of the host (root gave it an id map), the group of that user has access. Raises CtkError.
    """
    try:
        _make(bundle, request)
    except OSError as error:
        hint = "run with sudo, or name a folder of yours with --bundle"
        raise CtkError(f"make {bundle!r}", because=reason(error), hint=hint) from None


def _make(bundle: str, request: UpRequest) -> None:
    ours.make_private(bundle)
    if request.bundle:
        return
    os.chmod(bundle, 0o700)
    gid = next((int(words[1]) for words in (one.split(":") for one in request.spec.gid_map) if words[0] == "0"), 0)
    if os.geteuid() == 0 and gid:
        for above in (os.path.dirname(bundle), places.data_dir()):
            os.chmod(above, 0o711)
        os.chown(bundle, -1, gid)
        os.chmod(bundle, 0o710)


@contextlib.contextmanager
def no_empty_folder(bundle: str) -> Iterator[None]:
    """Remove the bundle's folder if making the root fails, unless something else is in it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(bundle)
        raise


def content_id(value: object) -> str:
    """SHA-256 (hex) of a text, or of any other value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_id(path: str) -> str:
    """`content_id` of a file's text; "" if there is no such file. Raises CtkError."""
    try:
        return content_id(reading.text(path))
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CtkError(f"read {path!r}", because=getattr(error, "strerror", "") or str(error)) from None


def read_marker(bundle: str) -> dict[str, Any]:
    """What `write_marker` recorded; {} without a readable marker."""
    try:
        made = json_text.loads(reading.read(os.path.join(bundle, MARKER)), MARKER)
    except (OSError, Invalid):
        return {}
    return made if isinstance(made, dict) else {}


def write_marker(bundle: str, made: dict[str, Any]) -> None:
    """Record what each part of the bundle was made from. Raises OSError."""
    atomic.replace(os.path.join(bundle, MARKER), json.dumps(made, indent=1).encode())
