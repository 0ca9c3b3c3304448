"""Package specifications of `--include`: those that `apt-get install` takes, and a few of apt-patterns(7).

    NAME  NAME=VERSION  NAME/SUITE  NAME:ARCHITECTURE  ./FILE.deb
    ?essential  ?priority(P)  ?section(S)  ?name(REGEX)

A requested version, or one from a requested suite, becomes the candidate, as in apt (`Pool.use`).
"""

import difflib
import re

from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.bootstrap.resolve.relations import Relations
from toolkit.errors import NotFound, Unsolvable, Usage

_PATTERN = re.compile(r"\?(?P<word>[a-z-]+)(?:\((?P<argument>.*)\))?\Z")


def is_file(written: str) -> bool:
    """Whether a specification is a package file. By apt's rule: a path that begins with a slash, `./` or `../`."""
    return written.startswith(("/", "./", "../"))


def foreign_architectures(include: tuple[str, ...], architecture: str) -> tuple[str, ...]:
    """The architectures named in `include` other than the root's own."""
    found = []
    for written in include:
        if not is_file(written) and not written.startswith("?"):
            _, _, other = written.partition("=")[0].partition("/")[0].partition(":")
            if other not in ("", "all", "any", "native", architecture):
                found.append(other)
    return tuple(dict.fromkeys(found))


def find(pool: Pool, written: str) -> list[Candidate]:
    """The packages of a specification that is not a file. Raises Unsolvable, NotFound, Usage."""
    if written.startswith("?"):
        return _pattern(pool, written)
    name, _, version = written.partition("=")
    name, _, suite = name.partition("/")
    name, _, architecture = name.partition(":")
    doing = f"include {written!r}"
    own = architecture in ("", "all", "any", "native", pool.architecture)
    key = name if own else f"{name}:{architecture}"
    versions = pool.versions(key)
    if not versions:
        raise _missing(pool, doing, key)
    if version or suite:
        fitting = [one for one in versions if _fits(pool, one, version, suite)]
        if not fitting:
            listed = ", ".join(dict.fromkeys(f"{one.version}{_place(pool, one)}" for one in versions))
            raise Unsolvable(doing, because=f"the suite has version {listed} of it", hint=_further(pool, suite))
        pool.use(fitting[0])
        if suite:
            _follow(pool, fitting[0], suite)
        return [fitting[0]]
    found = pool.candidate(key)
    if found is None:
        raise Unsolvable(doing, because="a pin forbids all versions of it")
    return [found]


def _fits(pool: Pool, one: Candidate, version: str, suite: str) -> bool:
    if version and one.version != version:
        return False
    if not suite:
        return True
    if pool.policy is None:
        return False
    facts = pool.policy.sources[one.member.source]
    return suite in (facts.archive, facts.codename)


def _follow(pool: Pool, one: Candidate, suite: str) -> None:
    """Use the suite's versions of dependencies of `one` that no current candidate satisfies, as apt's NAME/SUITE."""
    relations = Relations(pool)
    todo, seen = [one], {one.key}
    while todo:
        needy = todo.pop()
        for group in relations.of(needy, "Pre-Depends", "Depends"):
            if relations.solutions(needy, group):
                continue
            for wanted in group:
                for other in pool.versions(wanted.name):
                    before = pool.candidate(wanted.name)
                    if other.key in seen or not _fits(pool, other, "", suite):
                        continue
                    pool.use(other)
                    if relations.solutions(needy, (wanted,)):
                        seen.add(other.key)
                        todo.append(other)
                        break
                    if before is not None:
                        pool.use(before)


def _pattern(pool: Pool, written: str) -> list[Candidate]:
    match = _PATTERN.match(written)
    word, argument = (match["word"], match["argument"] or "") if match else ("", "")
    if word == "essential" and not argument:
        names = pool.having("Essential: yes")
    elif word == "priority" and argument:
        names = pool.having(f"Priority: {argument}")
    elif word == "section" and argument:
        names = pool.having(f"Section: {argument}")
    elif word == "name" and argument:
        try:
            names = [name for name in dict.fromkeys(pool.names()) if re.search(argument, name)]
        except re.error as error:
            raise Usage(f"include {written!r}", because=f"it is not a regular expression: {error}") from None
    else:
        raise Usage(
            f"include {written!r}",
            because="it is not a pattern that ctk knows",
            hint="patterns are ?essential, ?priority(important), ?section(shells), ?name(^python3-gi)",
        )
    found = [one for name in names if (one := pool.candidate(name)) is not None]
    if not found:
        raise NotFound(f"include {written!r}", because="no package matches the pattern")
    return found


def _missing(pool: Pool, doing: str, key: str) -> Unsolvable:
    providers = pool.providers(key)
    if providers:
        return Unsolvable(
            doing,
            because=f"{key!r} is a virtual package",
            hint="include one of those that provide it: " + ", ".join(sorted(providers)[:8]),
        )
    components = " ".join(dict.fromkeys(member.component for member in pool.members))
    near = difflib.get_close_matches(
        key, [one for one in dict.fromkeys(pool.names()) if one.startswith(key[:1])], n=3, cutoff=0.75
    )
    hint = "did you mean " + " or ".join(repr(one) for one in near) + "?" if near else ""
    return Unsolvable(doing, because=f"there is no package {key!r} in {components}", hint=hint)


def _place(pool: Pool, one: Candidate) -> str:
    if pool.policy is None:
        return ""
    facts = pool.policy.sources[one.member.source]
    return f" ({facts.codename or facts.archive or facts.site})"


def _further(pool: Pool, suite: str) -> str:
    if not suite or pool.policy is None:
        return "another version may be in a --pocket, a --source or a --snapshot"
    names = dict.fromkeys(name for facts in pool.policy.sources for name in (facts.codename, facts.archive) if name)
    return "the sources are: " + ", ".join(names)
