"""The repositories that a build takes packages from: the suite, its pockets, and added sources with their own keys."""

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from toolkit.bootstrap.acquire import mirrors, snapshot
from toolkit.bootstrap.acquire.mirrors import Choice
from toolkit.bootstrap.facts.architectures import host_architecture
from toolkit.bootstrap.facts.model import Request
from toolkit.bootstrap.facts.suites import Suite, unknown
from toolkit.deb.sources_list import AptSource, parse_deb822, parse_line, parse_lines
from toolkit.errors import NotFound, Untrusted, Usage, reason
from toolkit.fetch.logins import bare
from toolkit.fetch.verify import Keyring, keyring_of, load_keyring, load_keyrings, only
from toolkit.kernel import reading

_FINGERPRINT = re.compile(r"(0x)?[0-9A-Fa-f]{16,40}!?\Z")
_ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----"


@dataclass(frozen=True, slots=True)
class Repository:
    """One suite of one archive, as requested."""

    suite: Suite
    choices: tuple[Choice, ...]
    keyring: Keyring | None  # None: its signature is not checked
    components: tuple[str, ...] = ()  # () is the distribution's
    own: bool = False  # an added source (--source): not of the suite's distribution, with keys of its own
    flat: bool = False  # no dists/: the suite's name is a folder, with Release and Packages in it
    check_date: bool = True
    table_keys: bool = False  # the keys are those that the suite table names
    options: str = ""  # for the tree's sources.list
    key: str = ""  # base64, for the tree
    pocket: bool = False  # a pocket of the main suite, from the same archive


def main(request: Request, suite: Suite, choices: tuple[Choice, ...], keyrings: tuple[str, ...]) -> Repository:
    """The requested suite."""
    return Repository(
        suite,
        choices,
        load_keyrings(keyrings) if request.check_gpg else None,
        request.components,
        check_date=request.check_date,
        table_keys=request.check_gpg and not request.keyring,
        options=snapshot.OPTIONS if request.snapshot else "",
    )


def pockets(request: Request, first: Repository, actual: Suite, mirror: str) -> Iterator[Repository]:
    """The requested pockets of the suite that `first` turned out to be (`actual`, from `mirror`)."""
    for asked in request.pockets:
        name = pocket_name(actual, asked)
        suite = replace(actual, name=name)
        yield replace(
            first,
            suite=suite,
            choices=_pocket_mirrors(request, suite, mirror),
            pocket=True,
        )


def pocket_name(suite: Suite, asked: str) -> str:
    """The name under dists/ of a pocket: `updates` is `bookworm-updates`; a full name stays as it is."""
    named = dict(suite.pockets).get(asked)
    if named:
        return named
    codename = suite.codename
    if asked.startswith((codename + "-", codename + "/")):
        return asked
    if suite.pockets and not any(asked == name for _, name in suite.pockets):
        raise NotFound(
            f"find pocket {asked!r} of {codename}",
            because="it has only: " + ", ".join(name for name, _ in suite.pockets),
            hint=f"another suite of the same mirror is named in full: --pocket {codename}-{asked}",
        )
    return f"{codename}-{asked}"


def _pocket_mirrors(request: Request, suite: Suite, mirror: str) -> tuple[Choice, ...]:
    here = Choice(mirror, "the suite's own mirror")
    distribution = suite.distribution
    is_security = suite.name.endswith(("-security", "/updates"))
    if distribution is None or not (is_security and distribution.security_mirror):
        return (here,)
    if request.snapshot:
        return (Choice(snapshot.security_mirror(request, distribution), "the snapshot"), here)
    choices = []
    # Debian's security archive is separate, by convention beside the main one: …/debian and …/debian-security.
    if mirror.rpartition("/")[2] == "debian":
        choices.append(Choice(mirror + "-security", "beside the mirror"))
    if not request.mirror and not os.environ.get("CTK_MIRROR"):
        architecture = request.architecture or host_architecture()
        sources = [source.of(architecture) for source in mirrors.host_sources()]
        listed = [source.uri for source in sources if suite.name in source.suites]
        choices = [Choice(uri, "the host's apt sources") for uri in dict.fromkeys(listed)]
        choices.append(Choice(distribution.security_mirror, "the suite table"))
        choices.append(Choice(distribution.archived_security_mirror, "the suite table"))
    # Last: a mirror that has both in one place.
    return (*choices, here)


def further(request: Request, default: Keyring | None, architecture: str) -> Iterator[Repository]:
    """The sources of --source and --sources. `default` are the keys for a source that names none."""
    for written in request.sources:
        found = parse_line(written if written.lstrip().startswith("deb") else "deb " + written, what="--source")
        if found is None:
            raise Usage(f"read --source {written!r}", because="it names no source of binary packages")
        yield from _of(found.of(architecture), request, default)
    for path in request.source_files:
        try:
            data = reading.named(path, limit_bytes=16 << 20)
        except OSError as error:
            raise Usage(f"read --sources {path!r}", because=reason(error)) from None
        what = f"--sources {path!r}"
        listed = (
            parse_deb822(data, what=what)
            if path.endswith(".sources")
            else parse_lines(data.decode(errors="replace"), what=what)
        )
        for one in listed:
            yield from _of(one.of(architecture), request, default)


def _of(source: AptSource, request: Request, default: Keyring | None) -> Iterator[Repository]:
    place = f"source {bare(source.uri)} {' '.join(source.suites)}"
    keyring, key = _keys(source, default, place)
    if source.flag("trusted") or not request.check_gpg:
        keyring = None
    options = [
        f"{name}={source.options[name]}"
        for name in ("arch", "architectures", "trusted", "check-valid-until")
        if name in source.options
    ]
    if keyring is not None and key:  # the tree's copy holds the selected certificates only; "!" (exact) must be kept
        exact = [one for one in keyring.selected if one.endswith("!")]
        options += [f"signed-by={','.join(keyring.selected)}"] if exact else []
    for written in source.suites:
        flat = written.endswith("/")
        name = written.rstrip("/") or "."
        yield Repository(
            replace(unknown(name), name=name),
            (Choice(source.uri, "given"),),
            keyring,
            source.components,
            own=True,
            flat=flat,
            check_date=request.check_date and source.check_valid_until is not False,
            options=" ".join(options).replace("architectures=", "arch="),
            key=key,
        )


def _keys(source: AptSource, default: Keyring | None, place: str) -> tuple[Keyring | None, str]:
    """The keys that may sign a source, and those to install in the tree for it (base64)."""
    given = source.options.get("signed-by", "").strip()
    if not given:
        return default, ""
    if _ARMOUR in given:
        # deb822(5): a continuation line of a field begins with a space, and an empty one is a dot.
        lines = [line.strip() for line in given.split("\n")]
        data = "\n".join("" if line == "." else line for line in lines).encode() + b"\n"
        return keyring_of(data, place), base64.b64encode(data).decode()
    words = given.replace(",", " ").split()
    fingerprints = [word for word in words if _FINGERPRINT.match(word)]
    files = [word for word in words if word not in fingerprints]
    if not files:
        return (None if default is None else only(default, fingerprints)), ""
    rings = [load_keyring(file) for file in files]
    keyring = Keyring(", ".join(files), tuple(one for ring in rings for one in ring.certificates))
    if fingerprints:  # they select keys from the files
        keyring = only(keyring, fingerprints)
        if not keyring.certificates:
            because = f"none of its keys is {', '.join(fingerprints)}"
            raise Untrusted(f"read the keys of {place}", because=because, hint="name the file that has it (signed-by)")
    data = b"".join(map(bytes, keyring.certificates))
    return keyring, base64.b64encode(data).decode()


def site(mirror: str) -> str:
    """What `origin` of a pin is compared with: the host of an address, "" for this machine."""
    return urlsplit(mirror).hostname or ""
