"""config.json as a document: read, written in runc's form, never overwritten by accident."""

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
    """`spec` after all `edits` in order; `spec` itself is left as it was."""
    result = copy.deepcopy(spec)
    for edit in edits:
        result = edit(result)
    return result


def updated(before: str, spec: Spec) -> str:
    """The document `before` with the value `spec`; what is equal is kept as it is written there.

    Raises ValueError if `before` is not JSON.
    """
    return splice(before, spec, Writer(before))


def text(spec: Spec) -> str:
    """`spec` as runc writes it: indented by tabs, fields in order, no newline at the end.

    Go's encoder writes <, > and & as \\u003c and so on inside strings; so do we, to be equal to the byte.
    """
    plain = json.dumps(spec, indent="\t", ensure_ascii=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read(bundle: str) -> Spec:
    """The config.json of `bundle`.

    Raises NotFound if there is none, Invalid if it is not a JSON object.
    """
    return parse(read_text(bundle), os.path.join(bundle, FILE_NAME))


def parse(content: str, path: str) -> Spec:
    """The spec in `content`, which is the text of `path`. Raises Invalid if it is not a JSON object."""
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
    """The config.json of `bundle` as it is written. Raises NotFound if there is none."""
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
    """Write `content` as the config.json of `bundle`, whole or not at all; its path, without "./", is returned.

    Raises InUse if there is one already and not `force`, NotFound if there is no such folder.
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
