"""Any field of the spec by its path: `linux.resources.pids.limit`, `mounts[0].options`, `annotations."a.b"`."""

import copy
import json
import re
from itertools import pairwise
from typing import Any

from toolkit.bundle.document import Edit, Spec
from toolkit.errors import NotFound, Usage

Path = tuple[str | int, ...]

_PART = re.compile(r'(?:^|\.)(?:"((?:[^"\\]|\\.)*)"|([^.\[\]"]+))|\[(\d+|-)\]|/([^/]*)')


def parse_path(text: str) -> Path:
    """The keys and list places of a path; `[-]` (as -1) is the place behind a list's end. Raises Usage."""
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


def value(text: str) -> Any:
    """The right-hand side of --set: JSON if it is JSON, else a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def set_field(assignment: str) -> Edit:
    """--set PATH=VALUE. Objects on the way are made; a list is extended only by `[-]`."""
    path_text, equals, raw = assignment.partition("=")
    if not equals:
        hint = "for example --set linux.resources.pids.limit=50"
        raise Usage(f"read --set {assignment!r}", because="not PATH=VALUE", hint=hint)
    path, new = parse_path(path_text.strip()), value(raw)

    def edit(spec: Spec) -> Spec:
        at: Any = spec
        for key, following in pairwise(path):
            at = _enter(at, key, path_text, make=[] if isinstance(following, int) else {})
        _put(at, path[-1], copy.deepcopy(new), path_text)
        return spec

    return edit


def unset_field(path_text: str) -> Edit:
    """--unset PATH. Raises NotFound if there is nothing there."""
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


def look_up(spec: Spec, path_text: str) -> Any:
    """The value at a path. Raises NotFound."""
    at: Any = spec
    for key in parse_path(path_text):
        at = _enter(at, key, path_text)
    return at


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
