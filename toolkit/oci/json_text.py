"""Read and write JSON with the interpreter's C scanner, without the `json` package.

`import json` costs 3 to 4 ms (it compiles regular expressions), a tenth of a whole container; the scanner and the
encoder below it, `_json`, are built in. Strict where Go's encoding/json is: no NaN, no Infinity, no byte order mark,
nothing but white space after the value. If a key is given twice the last one counts, as in Go; a member that is null is
dropped, because in the OCI documents it means the same as an absent one (Go leaves the field as it was).
"""

import _json
import sys

from toolkit.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHITE = " \t\n\r"


class _Settings:
    """What `_json.make_scanner` reads from its context."""

    strict = True
    object_hook = None
    object_pairs_hook: "Any" = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(word: str) -> "Any":
        raise ValueError(f"{word!r} is not a number")


class _Strict(_Settings):
    @staticmethod
    def object_pairs_hook(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ValueError(f"{twice[:40]!r} is there twice, and programs differ on which counts")
        return found


_scan = _json.make_scanner(_Settings)  # type: ignore[arg-type]
_scan_strictly = _json.make_scanner(_Strict)  # type: ignore[arg-type]
_quote = _json.encode_basestring


def loads(text: "str | bytes", document: str = "config.json", *, any_path: bool = False, once: bool = False) -> "Any":
    """The value of a JSON text. `document` names it in errors.

    `any_path` keeps lone surrogates, which represent the bytes of a path that is not UTF-8 (PEP 383). It is for
    documents that we wrote ourselves with `dumps`.

    `once` refuses a key that is given twice: for a stranger's documents, which others have to read the same way.

    Raises Invalid, its `because` naming line and column, for anything that RFC 8259 does not allow.
    """
    if not isinstance(text, str):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise Invalid("", f"byte {error.start} is not UTF-8", document=document) from None
    start = 0
    length = len(text)
    while start < length and text[start] in _WHITE:
        start += 1
    try:
        try:
            value, end = _scan_strictly(text, start) if once else _scan(text, start)
        except SystemError:
            value, end = _scan_for_the_error(text, start)
    except StopIteration as stop:
        where = stop.value
        if where >= length:
            raise Invalid("", "the JSON text ends too early" + _at(text, where), document=document) from None
        because = f"invalid JSON: unexpected {text[where]!r}" + _at(text, where)
        raise Invalid("", because, document=document) from None
    except RecursionError:
        raise Invalid("", "invalid JSON: nested too deeply", document=document) from None
    except ValueError as error:
        # A JSONDecodeError has a position; the errors for a number of more than 4300 digits and for NaN do not.
        where = getattr(error, "pos", -1)
        reason = getattr(error, "msg", str(error))
        if reason[1:2].islower():
            reason = reason[0].lower() + reason[1:]
        because = f"invalid JSON: {reason}" + (_at(text, where) if where >= 0 else "")
        raise Invalid("", because, document=document) from None
    while end < length and text[end] in _WHITE:
        end += 1
    if end != length:
        raise Invalid("", "invalid JSON: more text after the value" + _at(text, end), document=document)
    try:  # these recurse too, and may run out of stack where the scanner did not
        if "\\ud" in text or "\\uD" in text:
            value = _whole(value, any_path)
        if "null" in text:
            _drop_nulls(value)
    except RecursionError:
        raise Invalid("", "invalid JSON: nested too deeply", document=document) from None
    return value


def _drop_nulls(value: "Any") -> None:
    if type(value) is dict:
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
        value = value.values()
    elif type(value) is not list:
        return
    for item in value:
        _drop_nulls(item)


class _DecodeError(ValueError):
    def __init__(self, msg: str, doc: str, pos: int) -> None:
        super().__init__(msg, len(doc))
        self.msg = msg
        self.pos = pos


def _scan_for_the_error(text: str, start: int) -> "Any":
    """Scan a text again that is known to be invalid, to get the error.

    Python 3.11's scanner takes the class of its error from `sys.modules["json.decoder"]` and raises none if that module
    is not loaded (_json.c, raise_errmsg); 3.12 imports it. So this puts a class there. Drop when 3.12 is our floor.
    """
    stand_in = type(sys)("json.decoder")
    stand_in.JSONDecodeError = _DecodeError  # type: ignore[attr-defined]
    sys.modules["json.decoder"] = stand_in
    try:
        return _scan(text, start)
    finally:
        del sys.modules["json.decoder"]


def _at(text: str, where: int) -> str:
    line = text.count("\n", 0, where) + 1
    column = where - text.rfind("\n", 0, where)
    return f" (line {line}, column {column})"


def _whole(value: "Any", any_path: bool) -> "Any":
    """Lone surrogates (`"\\ud800"`) become U+FFFD, as in Go: every string that this module returns can be encoded."""
    if isinstance(value, str):
        if any_path:
            try:
                value.encode("utf-8", "surrogateescape")
                return value
            except UnicodeEncodeError:
                pass  # not a path
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(item, any_path) for item in value]
    if isinstance(value, dict):
        return {_whole(key, any_path): _whole(item, any_path) for key, item in value.items()}
    return value


def _not_json(value: object) -> "Any":
    raise TypeError(f"{type(value).__name__} has no JSON form")


# markers (None: no check for cycles), default, string encoder, indent, separators, sort, skip, allow_nan
_encode = _json.make_encoder(None, _not_json, _quote, None, ":", ",", False, False, False)


def dumps(value: "Any", indent: "str | None" = None) -> str:
    """The JSON text of a value as Go's encoding/json writes it: `indent` as MarshalIndent's, else compact.

    No newline at the end. Raises ValueError for NaN, TypeError for an object that JSON cannot represent.
    """
    text = "".join(_encode(value, 0)) if indent is None else indented(value, indent)
    # Go's encoder makes its text safe inside HTML; these characters can occur only inside strings.
    if "<" in text or ">" in text or "&" in text:
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    if "\u2028" in text or "\u2029" in text:
        text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    if not text.isascii():
        # A path that is not UTF-8 holds lone surrogates (PEP 383): escaped, they are JSON and survive a round trip.
        text = text.encode("utf-8", "backslashreplace").decode()
    return text


def indented(value: "Any", indent: str) -> str:
    """The JSON text of a value as `json.dumps(value, indent=…, ensure_ascii=False)` writes it. The keys are strings.

    Raises as `dumps` does.
    """
    parts: list[str] = []
    _indented(value, "\n", indent, parts.append)
    return "".join(parts)


def _indented(value: "Any", newline: str, indent: str, put: "Any") -> None:
    if isinstance(value, dict):
        if not value:
            put("{}")
            return
        deeper = newline + indent
        before = "{" + deeper
        for key, item in value.items():
            put(before + _quote(key) + ": ")
            _indented(item, deeper, indent, put)
            before = "," + deeper
        put(newline + "}")
    elif isinstance(value, (list, tuple)):
        if not value:
            put("[]")
            return
        deeper = newline + indent
        before = "[" + deeper
        for item in value:
            put(before)
            _indented(item, deeper, indent, put)
            before = "," + deeper
        put(newline + "]")
    elif isinstance(value, str):
        put(_quote(value))
    else:
        put("".join(_encode(value, 0)))
