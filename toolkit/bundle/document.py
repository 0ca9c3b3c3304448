"""Reads and writes config.json, in runc's format. An existing file is not overwritten by accident."""

import copy
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from toolkit.bundle.splice import Writer, splice
from toolkit.errors import CtkError, InUse, Invalid, NotFound, reason
from toolkit.kernel import atomic, reading
from toolkit.text import quote

Spec = dict[str, Any]
Edit = Callable[[Spec], Spec]

FILE_NAME = "config.json"


def edited(spec: Spec, edits: Iterable[Edit]) -> Spec:
    """`spec` after all `edits` in order. `spec` itself is not changed."""
    result = copy.deepcopy(spec)
    for edit in edits:
        result = edit(result)
    return result


def updated(before: str, spec: Spec) -> str:
    """The document `before` with the value `spec`. Equal parts keep their text. Raises ValueError if it is not JSON."""
    return splice(before, spec, Writer(before))


def text(spec: Spec) -> str:
    """`spec` as runc writes it: indented by tabs, fields in order, no newline at the end.

    Like Go's encoder, writes <, > and & in strings as \\u003c and so on, so that the result is equal to the byte.
    """
    plain = json.dumps(spec, indent="\t", ensure_ascii=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read(bundle: str) -> Spec:
    """The config.json of `bundle`.

    Raises NotFound if there is none, Invalid if it is not a JSON object.
    """
    return parse(read_text(bundle), os.path.join(bundle, FILE_NAME))


def parse(content: str, path: str) -> Spec:
    """The spec in `content`, the text of the file `path`. Raises Invalid if it is not a JSON object."""
    try:
        spec = json.loads(content)
    except ValueError as error:
        raise Invalid("", f"not JSON: {error}", document=path) from None
    except RecursionError:
        raise Invalid("", "not JSON: nested too deeply", document=path) from None
    if not isinstance(spec, dict):
        raise Invalid("", "the outermost value must be an object", document=path)
    return spec


def read_text(bundle: str) -> str:
    """The text of the config.json of `bundle`. Raises NotFound if there is none."""
    path = os.path.join(bundle, FILE_NAME)
    try:
        return reading.read(path, follow=True).decode()
    except FileNotFoundError:
        raise NotFound(
            f"read {path!r}", because="no such file", hint="write one with `ctk spec`, or name the bundle with --bundle"
        ) from None
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None
    except UnicodeDecodeError as error:
        raise Invalid("", f"byte {error.start} is not UTF-8", document=path) from None


def write(bundle: str, content: str, *, force: bool = False) -> str:
    """Write `content` to the config.json of `bundle`, atomically. Returns its path, without "./".

    Raises InUse if the file exists and `force` is not set, NotFound if the folder does not exist.
    """
    path = os.path.normpath(os.path.join(bundle, FILE_NAME))
    try:
        (atomic.replace if force else atomic.create)(path, content.encode(), mode=0o666)
    except FileExistsError:
        raise InUse(
            f"write {path!r}", because="the file exists", hint="use --force to replace it, or --update to change it"
        ) from None
    except FileNotFoundError:
        raise NotFound(f"write {path!r}", because="no such folder", hint=f"mkdir -p {quote(bundle)}") from None
    except OSError as error:
        raise CtkError(f"write {path!r}", because=reason(error)) from None
    return path
