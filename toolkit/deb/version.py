"""Debian version numbers and their order (Debian Policy 5.6.12; deb-version(7))."""

from functools import total_ordering

_DIGITS = frozenset("0123456789")  # str.isdigit() accepts others, which int() does not


def _number(digits: str) -> int:
    """A number that orders as the digits do, however many there are: int() refuses more than 4300."""
    return int.from_bytes(digits.lstrip("0").encode(), "big")


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _part_key(part: str) -> list[int]:
    """A sort key for one of the two parts (upstream version, revision), in the policy's order.

    Non-digits are compared by weight, and the end of the part weighs 0 (so `~` sorts before the end, and the end before
    letters). Each run of non-digits ends with a 0, then the number follows. So both lists alternate in step, and plain
    list comparison gives the policy's order.
    """
    key: list[int] = []
    at = 0
    while at < len(part):
        while at < len(part) and part[at] not in _DIGITS:
            key.append(_weight(part[at]))
            at += 1
        key.append(0)
        start = at
        while at < len(part) and part[at] in _DIGITS:
            at += 1
        key.append(_number(part[start:at]))
    # The end of a part equals an empty run of non-digits and the number 0: "1.0" == "1.0" + "", and "1." == "1.0".
    key.extend((0, 0))
    return key


@total_ordering
class Version:
    """One version number; compares as dpkg compares."""

    __slots__ = ("_key", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        epoch, colon, rest = text.strip().partition(":")
        if not colon:
            epoch, rest = "0", text.strip()
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
        self._key = (_number(epoch) if _DIGITS.issuperset(epoch) else 0, _part_key(upstream), _part_key(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: "Version") -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash((self._key[0], *self._key[1], -2, *self._key[2]))

    def __repr__(self) -> str:
        return f"Version({self.text!r})"


def satisfies(version: str, relation: str, wanted: str) -> bool:
    """Whether `version` stands in `relation` to `wanted`: `<<`, `<=`, `=`, `>=`, `>>` (Policy 7.1).

    `<` and `>` are the obsolete spellings of `<=` and `>=`. An empty relation is always satisfied.
    """
    if not relation:
        return True
    one, other = Version(version), Version(wanted)
    if relation == "<<":
        return one < other
    if relation in ("<=", "<"):
        return one <= other
    if relation in (">=", ">"):
        return one >= other
    if relation == ">>":
        return one > other
    return one == other
