"""JSON of which nothing is passed over: no member is there twice, and none that is not known."""

import json
from typing import Any

from toolkit.errors import Invalid
from toolkit.image.document.fields import Fields


def read(data: bytes, document: str, known: tuple[str, ...]) -> Fields:
    """The outermost object, which has no other members than these. Raises Invalid."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for at, (name, _) in enumerate(pairs) if name in dict(pairs[:at]))
            raise ValueError(f"{twice!r} is there twice")
        return found

    def constant(word: str) -> Any:
        raise ValueError(f"{word!r} is not a number")

    try:
        value = json.loads(data.decode(), object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Invalid("", f"it is not JSON: {error}", document=document) from None
    return only(Fields(value, document, "", known), known)


def only(found: Fields, known: tuple[str, ...]) -> Fields:
    """`found`, which has no other members than these. Raises Invalid."""
    for name in found.value:
        if name not in known:
            raise found.invalid(name, "is not known here")
    return found
