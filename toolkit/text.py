"""Text of somebody else's where it could act: on a terminal, in a shell.

What a container, a caller or an archive chose goes through `printable` or `one_line` on its way to a screen, and
through `quote` into a command that we print or write. This module imports nothing: it is on the hot path.
"""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%")


def printable(text: str) -> str:
    """`text` with what would move a cursor, change colours or turn the reading direction as escapes; newlines and tabs
    stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else escape(c) for c in text)


def one_line(text: str) -> str:
    """`printable` in one line, without tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else {"\n": "\\n", "\t": "\\t"}.get(c) or escape(c) for c in text)


def in_json(text: str) -> str:
    """A JSON text with the same value, whose strings do nothing to a terminal (RFC 8259 demands less: DEL, U+009B and
    their like may stand in them as they are).
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _json_escape(c) for c in text)


def number(text: str) -> int:
    """The number that `text` is, in ASCII digits; -1 for all else, and for one that no file, version or size has.

    str.isdigit() takes "²", which int() does not, and int() gives up at 4300 digits: each a way to stop a reader.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def quote(text: str) -> str:
    """`text` as one word of a POSIX shell, whatever is in it."""
    if text and _PLAIN.issuperset(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def escape(character: str) -> str:
    """One character as Go, C and Python write it: \\x1b, \\u200b, \\U000e0001."""
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
