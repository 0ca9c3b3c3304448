"""Change a JSON text only where its value changes. All else stays the same, byte for byte."""

import json
import re
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_Part = tuple[str, str]  # a member or element with the white space before it, and that between it and its comma


def splice(text: str, new: Any, write: "Writer") -> str:
    """The JSON document `text` with the value `new`. Equal parts keep their order, spacing and spelling.

    `write(value, indent)` returns the text of a value that is not in the document; `indent` is the indentation of its
    line. Raises ValueError if `text` is not JSON.
    """
    start = _skip(text, 0)
    changed, end = _value(text, start, new, write)
    return text[:start] + changed + text[end:]


class Writer:
    """Writes new values in the style of the surrounding text, indented by one more `unit` per level."""

    def __init__(self, text: str) -> None:
        unit = re.search(r"^[{\[]\r?\n([ \t]+)", text.lstrip())
        self.unit = unit[1] if unit else ""

    def __call__(self, value: Any, indent: str) -> str:
        if not self.unit:
            return json.dumps(value, ensure_ascii=False)
        plain = json.dumps(value, ensure_ascii=False, indent=self.unit)
        return plain.replace("\n", "\n" + indent)


def _value(text: str, start: int, new: Any, write: Writer) -> tuple[str, int]:
    """The text of `new` in place of the value at `start`, and the position where that value ends."""
    old, end = _DECODER.raw_decode(text, start)
    if _same(old, new):
        return text[start:end], end
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        return _object(text, start, new, write), end
    if isinstance(old, list) and isinstance(new, list) and old and new:
        return _array(text, start, old, new, write), end
    return write(new, _indent(text, start)), end


def _same(old: Any, new: Any) -> bool:
    """Equality of JSON values: true is not 1, and the order of an object counts."""
    return json.dumps(old) == json.dumps(new)


def _object(text: str, start: int, new: dict[str, Any], write: Writer) -> str:
    """An object. Members are (white space before, key with its colon, value); a removed one takes its comma along."""
    parts: list[_Part] = []
    seen: set[str] = set()
    lead = between = ""
    at = start + 1
    while True:
        begin = _skip(text, at)
        key, key_end = _DECODER.raw_decode(text, begin)
        value_at = _skip(text, text.index(":", key_end) + 1)
        if not parts and not lead:
            lead, between = text[at:begin], text[key_end:value_at]
        _, end = _DECODER.raw_decode(text, value_at)
        if key in new and key not in seen:
            changed, _ = _value(text, value_at, new[key], write)
            parts.append((text[at:value_at] + changed, _before_comma(text, end)))
        seen.add(key)
        close = _skip(text, end)
        if text[close] == "}":
            break
        at = close + 1
    indent = lead.rpartition("\n")[2] if "\n" in lead else ""
    for key, value in new.items():
        if key not in seen:
            parts.append((lead + json.dumps(key, ensure_ascii=False) + between + write(value, indent), ""))
    return "{" + _joined(parts) + text[end:close] + "}"


def _array(text: str, start: int, old: list[Any], new: list[Any], write: Writer) -> str:
    """A list. Common elements stay; the others are paired in order, so that a changed element is changed inside."""
    spans: list[tuple[int, int, int]] = []  # white space before, value, end
    at = start + 1
    while True:
        begin = _skip(text, at)
        _, end = _DECODER.raw_decode(text, begin)
        spans.append((at, begin, end))
        close = _skip(text, end)
        if text[close] == "]":
            break
        at = close + 1
    lead = text[spans[0][0] : spans[0][1]]
    indent = lead.rpartition("\n")[2] if "\n" in lead else ""
    keys = [json.dumps(value) for value in old], [json.dumps(value) for value in new]
    parts: list[_Part] = []
    from difflib import SequenceMatcher

    for _, i1, i2, j1, j2 in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        for offset in range(j2 - j1):
            if i1 + offset < i2:
                before, begin, end = spans[i1 + offset]
                changed, _ = _value(text, begin, new[j1 + offset], write)
                parts.append((text[before:begin] + changed, _before_comma(text, end)))
            else:
                parts.append((lead + write(new[j1 + offset], indent), ""))
    return "[" + _joined(parts) + text[spans[-1][2] : close] + "]"


def _before_comma(text: str, at: int) -> str:
    end = _skip(text, at)
    return text[at:end] if text[end] == "," else ""


def _joined(parts: list[_Part]) -> str:
    """The parts with commas between them. The caller adds the white space before the closing bracket."""
    return ",".join([*(body + after for body, after in parts[:-1]), *(body for body, _ in parts[-1:])])


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _indent(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    match = _SPACE.match(line)
    return match[0] if match else ""
