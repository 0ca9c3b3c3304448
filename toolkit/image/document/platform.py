"""Platforms: for which machine an image is, and which one of an index this host takes.

The words are Go's GOOS and GOARCH (image-spec 1.1, image-index.md, "platform").
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.errors import Usage
from toolkit.image.document.fields import Fields
from toolkit.text import number

KNOWN = ("architecture", "os", "os.version", "os.features", "variant", "features")
# uname(2)'s machine, and what Go calls it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i686": ("386", ""),
    "i586": ("386", ""),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "mips64": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}
# Other words that people type, as containerd's platforms package normalizes them.
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}


class Platform(NamedTuple):
    """`variant` is "" where the architecture has none, or its usual one is meant."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def host() -> Platform:
    """This machine's platform."""
    machine = os.uname().machine
    return Platform("linux", *_MACHINES.get(machine, (machine, "")))


def parse(text: str) -> Platform:
    """`OS/ARCHITECTURE[/VARIANT]`, or an architecture of Linux. Raises Usage."""
    words = text.strip().lower().split("/")
    if len(words) > 3 or not all(words):
        raise Usage(
            f"use the platform {text!r}",
            because="it is not OS/ARCHITECTURE[/VARIANT]",
            hint="for example linux/amd64, linux/arm64, linux/arm/v7",
        )
    if len(words) == 1:
        words.insert(0, "linux")
    architecture, variant = _ALIASES.get(words[1], (words[1], ""))
    return Platform(words[0], architecture, words[2] if len(words) > 2 else variant)


def read(part: Fields | None) -> Platform | None:
    """The platform of an index's entry; None where it does not say."""
    if part is None or not part.text("architecture"):
        return None
    return Platform(part.text("os"), part.text("architecture"), part.text("variant"))


def rank(wanted: Platform, offered: Platform) -> int:
    """How well `offered` serves who wants `wanted`: 0 not at all, else the more the better.

    A machine runs the code of older variants. Without a variant arm is v7, arm64 v8, and amd64 v1: its v2 and later
    run only where they are asked for.
    """
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return 0
    usual = {"arm64": "v8", "arm": "v7", "amd64": "v1"}.get(wanted.architecture, "")
    have, need = wanted.variant or usual, offered.variant or usual
    if have == need:
        return 100
    mine, other = (number(variant.removeprefix("v")) for variant in (have, need))
    return max(1, 100 - (mine - other)) if 0 <= other < mine else 0


def best(wanted: Platform, offered: Sequence[Platform]) -> int | None:
    """The place in `offered` of what serves best, the first of equals; None if none does."""
    ranks = [rank(wanted, one) for one in offered]
    most = max(ranks, default=0)
    return ranks.index(most) if most else None
