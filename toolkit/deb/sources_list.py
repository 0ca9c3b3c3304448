"""apt's lists of sources in both formats (sources.list(5)): one line for each source, and paragraphs (deb822)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from toolkit.deb.control import paragraphs
from toolkit.errors import Malformed


@dataclass(frozen=True, slots=True)
class AptSource:
    """One `deb` entry: URI without a trailing slash, its suites and components, and its options in lower case."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def of(self, architecture: str) -> "AptSource":
        """The source with `$(ARCH)` replaced in its URI and suites (sources.list(5))."""
        suites = tuple(one.replace("$(ARCH)", architecture) for one in self.suites)
        return replace(self, uri=self.uri.replace("$(ARCH)", architecture), suites=suites)

    @property
    def check_valid_until(self) -> bool | None:
        """Whether Valid-Until is checked; None: as apt.conf says."""
        return self.flag("check-valid-until")

    def flag(self, name: str) -> bool | None:
        """A boolean option; None if it is not given."""
        value = self.options.get(name)
        return None if value is None else is_yes(value)


def is_yes(value: str) -> bool:
    """Whether apt reads `value` as true."""
    return value.strip().lower() in ("yes", "true", "with", "on", "enable", "1")


def parse_line(line: str, *, what: str) -> AptSource | None:
    """One line of sources.list; None for an empty one, a comment, and `deb-src`. Raises Malformed."""
    text = line.partition("#")[0].strip()
    kind, rest = [*text.split(None, 1), "", ""][:2]
    if kind in ("", "deb-src"):
        return None
    if kind != "deb":
        raise Malformed(f"read {what}", because=f"{_shown(line)!r} does not begin with deb")
    options: dict[str, str] = {}
    if rest.startswith("["):
        inside, closed, rest = rest[1:].partition("]")
        if not closed:
            raise Malformed(f"read {what}", because=f"{_shown(line)!r} has no ] after its options")
        for option in inside.split():
            key, equals, value = option.partition("=")
            if not equals:
                raise Malformed(f"read {what}", because=f"option {option!r} has no value")
            options[key.rstrip("+-").lower()] = value
    words = rest.split()
    if len(words) < 2 or (len(words) == 2) is not words[1].endswith("/"):
        raise Malformed(
            f"read {what}",
            because=f"{_shown(line)!r} is not: deb [OPTIONS] URI SUITE COMPONENT…",
            hint="an archive without components has a suite that ends in a slash: deb URI ./",
        )
    return AptSource(words[0].rstrip("/"), (words[1],), tuple(words[2:]), options)


def _shown(line: str) -> str:
    """The line for an error message, without a password in its address."""
    return re.sub(r"://[^/\s]*@", "://", line.strip())


def parse_lines(text: str, *, what: str) -> Iterator[AptSource]:
    """Every source of a sources.list file. Raises Malformed."""
    for line in text.splitlines():
        source = parse_line(line, what=what)
        if source is not None:
            yield source


def parse_deb822(data: bytes, *, what: str) -> Iterator[AptSource]:
    """Every enabled source of a .sources file, one for each URI. Raises Malformed."""
    for fields in paragraphs(data, what=what):
        lowered = {key.lower(): value for key, value in fields.items()}
        types = lowered.pop("types", "").split()
        if "deb" not in types or not is_yes(lowered.pop("enabled", "yes")):
            continue
        suites = tuple(lowered.pop("suites", "").split())
        components = tuple(lowered.pop("components", "").split())
        uris = lowered.pop("uris", "").split()
        if not uris or not suites:
            raise Malformed(f"read {what}", because="a source has no " + ("Suites" if uris else "URIs"))
        for uri in uris:
            yield AptSource(uri.rstrip("/"), suites, components, lowered)
