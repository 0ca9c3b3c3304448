"""Escape untrusted text for a terminal or a shell, where it could do something.

Text that comes from a container, a caller or an archive goes through `printable` or `one_line` on its way to a screen,
and through `quote` into a command that we print or write. This module imports nothing: it is on the hot path.
"""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%")


def printable(text: str) -> str:
    """`text` with the characters escaped that move the cursor, change colours or reverse the reading direction.

    Newlines and tabs stay.
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
    """A JSON text with the same value, whose strings do nothing to a terminal.

    RFC 8259 demands less: it allows DEL, U+009B and the like unescaped.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _json_escape(c) for c in text)


def number(text: str) -> int:
    """`text`, which is ASCII digits, as a number; -1 for anything else, and for one too large for a file or version.

    str.isdigit() accepts "²", which int() does not, and int() refuses more than 4300 digits: both would crash a reader.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def counted(count: int, noun: str) -> str:
    """ "1 layer", "2 layers": a number, and a word whose plural ends in s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quote(text: str) -> str:
    """`text` quoted as one word of a POSIX shell."""
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
