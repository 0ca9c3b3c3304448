"""The dictionary of config.json: any field by its path, in plain words, with its value in a document."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.errors import NotFound
from toolkit.explain import fields_limits, fields_linux, fields_process
from toolkit.explain.values import VALUES, nearest
from toolkit.oci import schema

_ENTRIES = {**fields_process.FIELDS, **fields_linux.FIELDS, **fields_limits.FIELDS}
_TYPES = {
    "str": "a string",
    "bool": "true or false",
    "u8": "a number",
    "u16": "a number from 0 to 65535",
    "u32": "a number from 0 to 4294967295",
    "u64": "a number from 0",
    "i32": "a number",
    "i64": "a number",
}


@dataclass(frozen=True)
class Field:
    """A field: its generic path (`[]`: a list's element), what it means, what the kernel does, its manual and type."""

    path: str
    words: str
    kernel: str
    manual: str
    example: str
    type: str
    takes: tuple[str, ...]  # the fixed list of words, if it has one
    inner: tuple[tuple[str, str], ...]  # (name, first sentence) of the fields inside
    says: tuple[tuple[str, Any], ...] = ()  # (concrete path, value) in a document


def generic(path: str) -> str:
    """A finding's path without indexes and keys: `linux.sysctl['a.b']` becomes `linux.sysctl{}`."""
    return re.sub(r"\[\d+\]", "[]", re.sub(r"\['.*?'\]", "{}", path))


def paths() -> Iterator[tuple[str, Any]]:
    """(generic path, schema type) of every field of the spec; a list and its elements count as one field."""
    yield from _walk(schema.SPEC, "")


def _walk(want: Any, path: str) -> Iterator[tuple[str, Any]]:
    if path and not path.endswith(("[]", "{}")):
        yield path, want
    if isinstance(want, dict):
        for key, inner in want.items():
            yield from _walk(inner, f"{path}.{key}" if path else key)
    elif isinstance(want, list) and not isinstance(want[0], str):
        yield from _walk(want[0], path + "[]")
    elif isinstance(want, tuple) and not isinstance(want[0], str):
        yield from _walk(want[0], path + "{}")


def entry(path: str) -> tuple[str, str, str, str] | None:
    """The dictionary's entry for a generic path: (words, kernel, manual, example)."""
    path = path.removesuffix("[]").removesuffix("{}")
    for family in (
        path,
        re.sub(r"^hooks\.\w+\[\]", "hooks.*[]", path),
        re.sub(r"\b(throttle|weight)\w*Device\[\]", "*Device[]", path),
        re.sub(r"\b[ug]idMappings$", "*Mappings", path),
        re.sub(r"^.*\b[ug]idMappings\[\]", "*Mappings[]", path),
    ):
        if family in _ENTRIES:
            return _ENTRIES[family]
    return None


def example(path: str) -> str:
    """What to write for a field, such as `"cwd": "/"`; "" for a path that is not a field."""
    found = entry(generic(path))
    name = generic(path).removesuffix("[]").removesuffix("{}").rpartition(".")[2]
    return f'"{name}": {found[3]}' if found else ""


def _plain(path: str) -> str:
    return path.replace("[]", "").replace("{}", "")


def find(word: str) -> str:
    """The generic path that `word` means: a path, with or without indexes, or the end of one. Raises NotFound."""
    bare = re.sub(r"\[[^\]]*\]|\{\}", "", word).strip(".").removeprefix("config.json.")
    known = {_plain(path): path for path, _ in paths()}
    lower = {path.lower(): path for path in known}
    if bare.lower() in lower:
        return known[lower[bare.lower()]]
    for path, want in paths():
        if isinstance(want, tuple):
            inside = bare[len(_plain(path)) + 1 :]
            if bare.startswith(_plain(path) + "."):
                # linux.sysctl.net.ipv4.ip_forward, linux.timeOffsets.boottime.secs: the key may be any name.
                last = inside.rpartition(".")[2]
                if isinstance(want[0], dict) and last in want[0]:
                    return f"{path}{{}}.{last}"
                return path
    ends = [path for path in known if path.lower().endswith("." + bare.lower())]
    shortest = [path for path in ends if path.count(".") == min(p.count(".") for p in ends)]
    if len(shortest) == 1:
        return known[shortest[0]]
    if shortest:
        hint = "did you mean " + " or ".join(shortest[:4]) + "?"
        raise NotFound(f"explain {word!r}", because=f"{len(ends)} fields end with it", hint=hint)
    near = nearest(bare, known) or nearest(bare, {path.rpartition(".")[2] for path in known})
    hint = f"did you mean {near!r}?" if near else "a field (linux.namespaces), a code (E042) or a bundle's folder"
    hint += "; `ctk image explain` is for images" if not near else ""
    raise NotFound(f"explain {word!r}", because="it is not a field of config.json, a code or a folder", hint=hint)


def field(word: str, spec: Any = None) -> Field:
    """Everything known about the field that `word` means; `spec` is a document whose values are shown, if any."""
    path = find(word)
    told = entry(path)
    assert told is not None, path  # tests/unit/test_explain_fields.py checks that none is missing
    types = dict(paths())
    prefix = path + "."
    inner = []
    for other in types:
        rest = ""
        for start in (prefix, path + "[].", path + "{}."):
            if other.startswith(start):
                rest = other[len(start) :]
        if rest and "." not in rest:
            words = entry(other)
            inner.append((rest, _first_sentence(words[0]) if words else ""))
    takes = VALUES.get(path) or VALUES.get(path + "[]") or ()
    places = tuple(re.findall(r"\[(\d+)\]", word))
    says = tuple(_values(spec, path, places)) if spec is not None else ()
    return Field(path, *told, _type(types[path]), takes, tuple(inner), says)


def _first_sentence(words: str) -> str:
    return re.split(r"(?<=[.;]) ", words, maxsplit=1)[0].rstrip(".;")


def _type(want: Any) -> str:
    if isinstance(want, str):
        return _TYPES[want]
    if isinstance(want, list):
        return "a list of " + ("strings" if want[0] == "str" else "objects" if isinstance(want[0], dict) else "numbers")
    if isinstance(want, tuple):
        return "an object with any names"
    return "an object"


def _values(spec: Any, path: str, places: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(concrete path, value) of a generic path in a document; `places` are indexes into the lists on the way."""
    left = list(places)
    found = [("", spec)]
    for part in re.findall(r"[^.\[\]{}]+|\[\]|\{\}", path):
        following = []
        pick = int(left.pop(0)) if part == "[]" and left else -1
        for at, value in found:
            if part == "[]" and isinstance(value, list):
                following += [(f"{at}[{i}]", item) for i, item in enumerate(value) if pick in (-1, i)]
            elif part == "{}" and isinstance(value, dict):
                following += [(f"{at}[{json.dumps(key)}]", item) for key, item in value.items()]
            elif isinstance(value, dict) and part in value:
                following.append((f"{at}.{part}" if at else part, value[part]))
        found = following
    if left:  # mounts[0]: an index at the path's end
        pick = int(left[0])
        found = [(f"{at}[{pick}]", v[pick]) for at, v in found if isinstance(v, list) and pick < len(v)]
    yield from found
