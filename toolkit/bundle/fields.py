"""Any field of the spec by its path: `linux.resources.pids.limit`, `mounts[0].options`, `annotations."a.b"`."""

import copy
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from toolkit.bundle.document import Edit, Spec
from toolkit.errors import NotFound, Usage
from toolkit.oci import check, schema
from toolkit.text import quote

Path = tuple[str | int, ...]

_PART = re.compile(r'(?:^|\.)(?:"((?:[^"\\]|\\.)*)"|([^.\[\]"]+))|\[(\d+|-)\]|/([^/]*)')


def parse_path(text: str) -> Path:
    """The keys and list indexes of a path; `[-]` (as -1) is the place after a list's end. Raises Usage."""
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None or (match[4] is not None and parts and "/" not in text[:1]):
            hint = 'for example linux.resources.pids.limit, mounts[0].options or annotations."org.example.key"'
            raise Usage(f"read the path {text!r}", because=f"cannot read it from {text[at:]!r} on", hint=hint)
        if match[3] is not None:
            parts.append(-1 if match[3] == "-" else int(match[3]))
        else:
            parts.append(next(group for group in (match[1], match[2], match[4]) if group is not None))
        at = match.end()
    if not parts:
        raise Usage(f"read the path {text!r}", because="it is empty")
    return tuple(parts)


def value(text: str, want: Any = None) -> Any:
    """The value of --set: JSON if it is valid JSON, otherwise a string. For a string field `0` is a string too."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if want == "str" and not isinstance(read, str | None) else read


def wanted(path: Path, path_text: str) -> Any:
    """The part of toolkit/oci/schema.py that describes the field at `path`; None for a field of another platform.

    Raises Usage for a field that the runtime spec does not have.
    """
    want: Any = schema.SPEC
    done = ""
    for key in path:
        if isinstance(want, dict) and isinstance(key, str):
            if not done and key in schema.OTHER_PLATFORMS:
                return None
            if key not in want:
                raise _unknown(path_text, done, key, want)
            want = want[key]
        elif (isinstance(want, tuple) and isinstance(key, str)) or (isinstance(want, list) and isinstance(key, int)):
            want = want[0]
        else:
            because = f"{done or 'config.json'} is {_kind(want)}"
            raise Usage(f"set {path_text!r}", because=because, hint=f"ctk explain {quote(done or 'root')}")
        done += ("." if done and isinstance(key, str) else "") + (key if isinstance(key, str) else "[]")
    return want


def _unknown(path_text: str, holder: str, key: str, known: dict[str, Any]) -> Usage:
    folded = {name.lower(): name for name in known}
    import difflib

    near = difflib.get_close_matches(key.lower(), folded, 1, 0.65)
    tail = path_text.replace("[-]", "[]").strip("./").lower()
    # `pids.limit` means linux.resources.pids.limit if only one path ends with it.
    ends = [name for name in _paths(schema.SPEC) if name.lower().endswith("." + tail)]
    if near:
        hint = f"did you mean {holder + '.' if holder else ''}{folded[near[0]]}?"
    else:
        hint = f"did you mean {ends[0]}?" if len(ends) == 1 else "fields here: " + ", ".join(known)
    because = f"the runtime spec has no field {key!r} in {holder or 'config.json'}"
    return Usage(f"set {path_text!r}", because=because, hint=hint)


def _paths(want: Any, at: str = "") -> Iterator[str]:
    if isinstance(want, dict):
        for name, inner in want.items():
            path = f"{at}.{name}" if at else name
            yield path
            yield from _paths(inner, path)
    elif isinstance(want, list):
        yield from _paths(want[0], at + "[]")


def _kind(want: Any) -> str:
    for kind, name in ((dict, "an object"), (tuple, "an object"), (list, "a list")):
        if isinstance(want, kind):
            return name
    return {"str": "a string", "bool": "true or false"}.get(want, "a number")


def set_field(assignment: str) -> Edit:
    """--set PATH=VALUE. Missing objects on the way are made; a list is extended only by `[-]`.

    Raises Usage for a field that the runtime spec does not have, and for a value of the wrong type.
    """
    path_text, equals, raw = assignment.partition("=")
    if not equals:
        hint = "for example --set linux.resources.pids.limit=50"
        raise Usage(f"read --set {assignment!r}", because="not PATH=VALUE", hint=hint)
    path = parse_path(path_text.strip())
    want = wanted(path, path_text.strip())
    new = value(raw, want)
    if want is not None and (wrong := check.type_errors(new, want, path_text.strip())):
        hint = 'a list or an object is written as JSON: \'["a", "b"]\'' if isinstance(want, dict | list | tuple) else ""
        raise Usage(f"set {wrong[0].path!r}", because=wrong[0].message, hint=hint)
    if isinstance(want, dict | list | tuple) and (more := check.unknown_in(new, want, path_text.strip())):
        if "['" not in more[0]:
            wanted(parse_path(more[0]), more[0])  # raises a better error, which lists the fields
        raise Usage(f"set {more[0]!r}", because="the runtime spec has no such field", hint="see `ctk explain linux`")

    def edit(spec: Spec) -> Spec:
        at: Any = spec
        for key, following in pairwise(path):
            at = _enter(at, key, path_text, make=[] if isinstance(following, int) else {})
        _put(at, path[-1], copy.deepcopy(new), path_text)
        return spec

    return edit


def unset_field(path_text: str) -> Edit:
    """--unset PATH. Raises NotFound if the field is not there."""
    path = parse_path(path_text)

    def edit(spec: Spec) -> Spec:
        at: Any = spec
        for key in path[:-1]:
            at = _enter(at, key, path_text)
        try:
            del at[path[-1]]
        except (KeyError, IndexError, TypeError):
            raise _missing(path_text, path[-1], at) from None
        return spec

    return edit


def _enter(at: Any, key: str | int, path_text: str, make: Any = None) -> Any:
    if isinstance(at, dict) and isinstance(key, str):
        if key in at:
            return at[key]
        if make is not None:
            at[key] = make
            return make
    if isinstance(at, list) and isinstance(key, int):
        if 0 <= key < len(at):
            return at[key]
        if key == -1 and make is not None:
            at.append(make)
            return make
    raise _missing(path_text, key, at)


def _put(at: Any, key: str | int, new: Any, path_text: str) -> None:
    if isinstance(at, dict) and isinstance(key, str):
        at[key] = new
    elif isinstance(at, list) and key == -1:
        at.append(new)
    elif isinstance(at, list) and isinstance(key, int) and key < len(at):
        at[key] = new
    else:
        raise _missing(path_text, key, at)


def _missing(path_text: str, key: str | int, at: Any) -> NotFound:
    if isinstance(at, dict):
        because = f"there is no {key!r}; there are {', '.join(at)}" if isinstance(key, str) else "that is an object"
    elif isinstance(at, list):
        because = f"that is a list of {len(at)}" if isinstance(key, str) else f"the list ends at [{len(at) - 1}]"
    else:
        because = "that is a plain value"
    return NotFound(f"find {path_text!r} in config.json", because=because)
