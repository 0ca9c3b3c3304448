"""Text of somebody else's on a terminal: what would move the cursor or change colours is shown, not obeyed."""


def printable(text: str) -> str:
    """`text` with control characters as escapes; newlines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def line(text: str) -> str:
    """`printable` in one line."""
    return printable(text).replace("\n", "\\n")
