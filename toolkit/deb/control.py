"""Debian control data: paragraphs of `Field: value` lines (deb822(5), Debian Policy 5.1).

Values keep their continuation lines exactly as written (a newline, then the line with its leading blank), so that
`write` gives back the bytes that `parse` read. Nothing here opens a file.
"""

from collections.abc import Iterator, Mapping

from toolkit.errors import Malformed


def parse(paragraph: bytes, *, what: str = "control paragraph") -> dict[str, str]:
    """The fields of one paragraph, by their names as written. Lines that begin with `#` are comments.

    A line that isn't UTF-8, which Policy 5.1 demands, is read as Latin-1: the fields that matter here are ASCII. Raises
    Malformed for a line that is neither a field nor a continuation, and for a field given twice.
    """
    try:
        text = paragraph.decode()
    except UnicodeDecodeError:
        text = "\n".join(map(_decoded, paragraph.split(b"\n")))
    fields: dict[str, str] = {}
    name = ""
    # split, not splitlines, which also breaks at form feeds and U+2028 and would let a value forge a field.
    for line in text.rstrip("\n").split("\n"):
        if line.startswith("#"):
            continue
        line = line.rstrip("\r")
        if line[:1] in (" ", "\t"):
            if not name:
                raise Malformed(f"read {what}", because=f"continuation line {line!r} before any field")
            fields[name] += "\n" + line
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or " " in name:
            raise Malformed(f"read {what}", because=f"{line[:80]!r} is not a field")
        if name in fields:
            raise Malformed(f"read {what}", because=f"field {name!r} is given twice")
        fields[name] = value.strip(" \t\r")
    return fields


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def paragraphs(data: bytes, *, what: str = "control file") -> Iterator[dict[str, str]]:
    """Every paragraph of `data`; paragraphs are separated by lines that are empty or only blanks."""
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        if line.strip(b" \t\r"):
            lines.append(line)
        elif lines:
            yield from _paragraph(lines, what)
            lines = []
    yield from _paragraph(lines, what)


def _paragraph(lines: list[bytes], what: str) -> Iterator[dict[str, str]]:
    fields = parse(b"\n".join(lines), what=what) if lines else {}
    if fields:
        yield fields


def write(fields: Mapping[str, str]) -> str:
    """The paragraph as text, with a newline after its last field and no empty line."""
    return "".join(
        f"{name}:{value}\n" if value.startswith("\n") else f"{name}: {value}\n" for name, value in fields.items()
    )
