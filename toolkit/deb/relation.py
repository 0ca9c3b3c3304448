"""Relations between packages: `Depends: a (>= 1) | b:any, c [amd64] <!nocheck>` (Debian Policy 7.1)."""

import re
from typing import NamedTuple

from toolkit.errors import Malformed


class Alternative(NamedTuple):
    """One package of a group. `qualifier` is what follows the colon (`any`, `native`, an architecture)."""

    name: str
    qualifier: str = ""
    relation: str = ""
    version: str = ""

    def __str__(self) -> str:
        text = f"{self.name}:{self.qualifier}" if self.qualifier else self.name
        return f"{text} ({self.relation} {self.version})" if self.relation else text


Group = tuple[Alternative, ...]

_ALTERNATIVE = re.compile(
    r"""\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+.\-]*) (?: :(?P<qualifier>[A-Za-z0-9\-]+) )?
        \s*(?: \(\s*(?P<relation><<|<=|>=|>>|=|<|>)\s*(?P<version>[A-Za-z0-9.+:~\-]+)\s*\) )?
        \s*(?: \[(?P<architectures>[^\]]*)\] )? \s*(?: <[^>]*> \s*)*$""",
    re.VERBOSE,
)


def parse_relations(text: str, architecture: str = "") -> tuple[Group, ...]:
    """The groups of a dependency field, in order; a group is satisfied by any of its alternatives.

    Alternatives whose `[architectures]` exclude `architecture` are left out (only source packages and hand-written
    lists have such lists). Raises Malformed.
    """
    groups: list[Group] = []
    for written in text.replace("\n", " ").split(","):
        if not written.strip():
            continue
        alternatives = []
        for one in written.split("|"):
            # Collapse blanks: the pattern has so many optional parts that a long run would be tried in every way.
            match = _ALTERNATIVE.match(" ".join(one.split()))
            if match is None:
                raise Malformed("read a dependency", because=f"{one.strip()!r} is not a relation")
            only = match["architectures"]
            if only is not None and architecture and not _applies(only.split(), architecture):
                continue
            alternatives.append(
                Alternative(match["name"], match["qualifier"] or "", match["relation"] or "", match["version"] or "")
            )
        if alternatives:
            groups.append(tuple(alternatives))
    return tuple(groups)


def _applies(listed: list[str], architecture: str) -> bool:
    if listed and listed[0].startswith("!"):
        return "!" + architecture not in listed
    return architecture in listed or "any" in listed or "linux-any" in listed
