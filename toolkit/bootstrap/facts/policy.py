"""Which of several versions of a package is the candidate: apt's priorities and pins.

Source: apt_preferences(5). When a root is made nothing is installed yet, so these of its rules apply: a version with a
priority below zero is never chosen; the highest priority wins, and among equal ones the highest version. Without pins
the priority of a source is 500, with `NotAutomatic: yes` 1, and with `ButAutomaticUpgrades: yes` as well (backports)
100.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from toolkit.deb.control import paragraphs
from toolkit.errors import Usage

_KEYS = {"a": "archive", "n": "codename", "v": "version", "o": "origin", "l": "label", "c": "component", "b": "arch"}
_KINDS = ("release", "origin", "version")


@dataclass(frozen=True, slots=True)
class Facts:
    """The properties of a source that a pin can match: fields of its Release, and the host of its address."""

    archive: str = ""  # Release's Suite: "stable", "bookworm-backports"
    codename: str = ""
    version: str = ""
    origin: str = ""
    label: str = ""
    site: str = ""  # host of the URI; "" is this machine
    not_automatic: bool = False
    automatic_upgrades: bool = False
    fixed: int = 0  # a priority that no pin changes: for package files of the command line

    @property
    def priority(self) -> int:
        if self.not_automatic:
            return 100 if self.automatic_upgrades else 1
        return 500


@dataclass(frozen=True, slots=True)
class Pin:
    """One record of apt's preferences."""

    packages: tuple[str, ...]  # names, globs, /regular expressions/; ("*",) is the general form
    kind: str  # "release", "origin", "version"
    words: str  # as written: "a=stable, o=Debian"; "packages.example.org"; "1.2*"
    priority: int
    asked: Mapping[str, str] = field(default_factory=dict, hash=False)  # of kind release, by the names in Facts

    @property
    def general(self) -> bool:
        return self.packages == ("*",)

    def text(self) -> str:
        """The record in the format of apt_preferences(5)."""
        return f"Package: {' '.join(self.packages)}\nPin: {self.kind} {self.words}\nPin-Priority: {self.priority}\n"

    def names(self, package: str, source_package: str) -> bool:
        """Whether the record names this package; `src:NAME` names all binary packages of a source package."""
        for written in self.packages:
            wanted, _, _ = written.partition(":") if not written.startswith("src:") else (written, "", "")
            name = package
            if wanted.startswith("src:"):
                wanted, name = wanted[4:], source_package
            if _matches(wanted, name):
                return True
        return False

    def fits(self, facts: Facts, component: str, architecture: str, version: str) -> bool:
        """Whether the pin matches a version of that source, component and architecture."""
        if self.kind == "version":
            return _matches(self.words, version)
        if self.kind == "origin":
            return _matches(self.words.strip('"'), facts.site)
        values = {
            "archive": facts.archive,
            "codename": facts.codename,
            "version": facts.version,
            "origin": facts.origin,
            "label": facts.label,
            "component": component,
            "arch": architecture,
        }
        return all(_matches(wanted, values[key]) for key, wanted in self.asked.items())


@dataclass(frozen=True, slots=True)
class Policy:
    """The pins of a build, and the properties of its sources (in the order of Lock.sources)."""

    sources: Sequence[Facts]
    pins: tuple[Pin, ...] = ()

    def priority(self, source: int, component: str, fields: Mapping[str, str]) -> int:
        """The priority of the version described by `fields`, a paragraph of an index of that source."""
        facts = self.sources[source]
        if facts.fixed:
            return facts.fixed
        name, version = fields.get("Package", ""), fields.get("Version", "")
        made_from = fields.get("Source", name).partition(" ")[0]
        # apt_preferences(5): the first specific record that matches, otherwise the first general one.
        for general in (False, True):
            for pin in self.pins:
                if (
                    pin.general is general
                    and pin.names(name, made_from)
                    and pin.fits(facts, component, fields.get("Architecture", ""), version)
                ):
                    return pin.priority
        return facts.priority


def parse_preferences(data: bytes, *, what: str) -> tuple[Pin, ...]:
    """The records of a preferences file. Raises Malformed, Usage."""
    found = []
    for fields in paragraphs(data, what=what):
        lowered = {key.lower(): value for key, value in fields.items()}
        missing = [key for key in ("package", "pin", "pin-priority") if not lowered.get(key)]
        if missing:
            raise Usage(f"read {what}", because=f"a record has no field {missing[0]!r}", hint="see apt_preferences(5)")
        found.append(_pin(lowered["package"].split(), lowered["pin"], lowered["pin-priority"], what))
    return tuple(found)


def parse_pin(written: str) -> tuple[Pin, ...]:
    """One --pin: `PACKAGE release a=…|origin HOST|version V PRIORITY`, or whole records. Raises Usage, Malformed."""
    what = f"--pin {written!r}"
    if written.lstrip().lower().startswith("package:"):
        return parse_preferences(written.replace("\\n", "\n").encode(), what=what)
    words = written.split()
    kinds = [at for at, word in enumerate(words) if word in _KINDS]
    if not kinds or kinds[0] == 0 or len(words) < kinds[0] + 3:
        raise Usage(
            f"read {what}",
            because="it is not PACKAGE, then release, origin or version with a value, then a priority",
            hint="--pin '* release n=bookworm-backports 500', --pin 'curl version 7.88* 1001'",
        )
    return (_pin(words[: kinds[0]], " ".join(words[kinds[0] : -1]), words[-1], what),)


def _pin(packages: list[str], pin: str, priority: str, what: str) -> Pin:
    kind, _, words = pin.strip().partition(" ")
    kind = kind.lower()
    if kind not in _KINDS or not words.strip():
        raise Usage(f"read {what}", because=f"{pin!r} is not a pin", hint="a pin is release …, origin … or version …")
    try:
        number = int(priority)
    except ValueError:
        raise Usage(
            f"read {what}", because=f"{priority!r} is not a priority", hint="a priority is a whole number"
        ) from None
    if number == 0 or not -32768 <= number <= 32767:
        raise Usage(f"read {what}", because=f"priority {number} has no meaning", hint="see apt_preferences(5)")
    asked: dict[str, str] = {}
    if kind == "release":
        for part in words.replace(",", " ").split():
            key, equals, value = part.partition("=")
            if not equals:  # `release unstable` is `release a=unstable`; what begins with a digit is a version
                key, value = ("v" if part[:1].isdigit() else "a"), part
            if key not in _KEYS:
                raise Usage(f"read {what}", because=f"{part!r} is not a release pin", hint="a= n= v= o= l= c= b=")
            asked[_KEYS[key]] = value
    return Pin(tuple(packages), kind, words.strip(), number, asked)


def _matches(wanted: str, value: str) -> bool:
    if len(wanted) > 1 and wanted.startswith("/") and wanted.endswith("/"):
        try:
            return re.search(wanted[1:-1], value) is not None
        except re.error as error:
            raise Usage("read a pin", because=f"{wanted!r} is not a regular expression: {error}") from None
    return fnmatch.fnmatchcase(value, wanted)
