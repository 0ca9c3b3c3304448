"""Fields of a JSON document, each of the type that the specification gives it.

Go's decoder takes `Layers` for `layers`, and so the two letters beyond ASCII that fold into one of it (U+017F into s,
U+212A into k). A document that has a known field in another spelling would be read in two ways, and is refused.
"""

from typing import Any, TypeVar

from toolkit.errors import Invalid
from toolkit.oci import json_text

T = TypeVar("T")

LIMIT_BYTES = 4 << 20  # of a manifest or index, as registries and their clients bound them; ours for a config, too


class Fields:
    """An object of a document. `where` is its JSON path; `known` are the fields that it may have."""

    def __init__(self, value: object, document: str, where: str = "", known: tuple[str, ...] = ()) -> None:
        if not isinstance(value, dict):
            raise Invalid(where, "must be an object", document=document)
        self.value: dict[str, Any] = value
        self.document = document
        self.where = where
        folded = {name.casefold(): name for name in known}
        for name in value:
            right = folded.get(name.casefold(), name)
            if right != name:
                raise self.invalid(name, f"is written {right!r}; programs differ on what this means")

    def __contains__(self, name: str) -> bool:
        return name in self.value

    def invalid(self, name: str, because: str) -> Invalid:
        """The error of a field."""
        return Invalid(f"{self.where}.{name}" if self.where else name, because, document=self.document)

    def _get(self, name: str, kind: type[T], what: str) -> T | None:
        found = self.value.get(name)
        if found is None:
            return None
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise self.invalid(name, f"must be {what}")
        return found

    def text(self, name: str) -> str:
        """A text; "" if it is not there."""
        return self._get(name, str, "a text") or ""

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty if it is not there."""
        found = self._get(name, list, "a list of texts") or []
        if not all(isinstance(item, str) for item in found):
            raise self.invalid(name, "must be a list of texts")
        return tuple(found)

    def pairs(self, name: str) -> dict[str, str]:
        """An object of texts; empty if it is not there."""
        found = self._get(name, dict, "an object of texts") or {}
        if not all(isinstance(item, str) for item in found.values()):
            raise self.invalid(name, "must be an object of texts")
        return dict(found)

    def keys(self, name: str) -> tuple[str, ...]:
        """The names in an object whose values say nothing (ExposedPorts, Volumes)."""
        return tuple(self._get(name, dict, "an object") or {})

    def flag(self, name: str) -> bool:
        """A truth value; False if it is not there."""
        return bool(self._get(name, bool, "true or false"))

    def natural(self, name: str) -> int:
        """A number that is not negative and fits into 63 bits. It must be there."""
        found = self._get(name, int, "a number")
        if found is None:
            raise self.invalid(name, "is missing")
        if not 0 <= found < 1 << 63:
            raise self.invalid(name, "is not a size")
        return found

    def objects(self, name: str, known: tuple[str, ...] = (), *, most: int = 10_000) -> list["Fields"]:
        """A list of objects; empty if it is not there."""
        found = self._get(name, list, "a list of objects") or []
        if len(found) > most:
            raise self.invalid(name, f"has {len(found)} entries, and {most} is the limit")
        prefix = f"{self.where}.{name}" if self.where else name
        return [Fields(item, self.document, f"{prefix}[{at}]", known) for at, item in enumerate(found)]

    def object(self, name: str, known: tuple[str, ...] = ()) -> "Fields | None":
        """An object, None if it is not there."""
        found = self._get(name, dict, "an object")
        if found is None:
            return None
        return Fields(found, self.document, f"{self.where}.{name}" if self.where else name, known)


def read(data: bytes, document: str, known: tuple[str, ...]) -> Fields:
    """The outermost object of a document. Raises Invalid, which names it as `document`."""
    if len(data) > LIMIT_BYTES:
        raise Invalid("", f"it has {len(data)} bytes, and {LIMIT_BYTES} is the limit", document=document)
    return Fields(json_text.loads(data, document, once=True), document, "", known)
