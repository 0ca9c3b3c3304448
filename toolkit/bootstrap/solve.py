"""The first half of a bootstrap: from a request to the exact packages, with nothing made yet."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from toolkit import places
from toolkit.bootstrap import mirrors, suites
from toolkit.bootstrap.model import Lock, Request, Source
from toolkit.bootstrap.resolve import resolve, variant_name
from toolkit.bootstrap.sources import load_pool, open_source
from toolkit.bootstrap.stage import stage
from toolkit.errors import HostLacks, NotFound
from toolkit.events import Emit, Finished, Planned
from toolkit.fetch.cache import Cache
from toolkit.fetch.http import Client
from toolkit.fetch.verify import find_keyring

STAGES = (
    ("release", "Verify the suite"),
    ("index", "Read the package lists"),
    ("resolve", "Choose the packages"),
)

# uname's machine → Debian's name of the architecture (dpkg's cputable); a 32-bit Python says what user space is.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "armhf",
    "armv8l": "armhf",
    "armv6l": "armel",
    "i686": "i386",
    "i586": "i386",
    "ppc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loongarch64": "loong64",
    "mips64": "mips64el",
}

Recall = Callable[[Request, tuple[Source, ...]], Lock | None]


@dataclass(frozen=True, slots=True)
class Solved:
    """A lock, and what is needed to build it."""

    lock: Lock
    client: Client
    cache: Cache


def solve(request: Request, emit: Emit) -> Lock:
    """The packages that `bootstrap` would install, without building: the first three stages. Needs no root."""
    emit(Planned(STAGES))
    solved = solve_open(request, emit)
    solved.client.close()
    return solved.lock


def host_architecture() -> str:
    """Debian's name of the host's architecture. Raises HostLacks for one that Debian has no name for."""
    machine = os.uname().machine
    if sys.maxsize < 1 << 32:
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise HostLacks(
            "find out the architecture", because=f"machine {machine!r} is not known", hint="name it with --arch"
        ) from None


def is_native(architecture: str) -> bool:
    """Whether `architecture` (Debian's name) is the host's own."""
    try:
        return architecture == host_architecture()
    except HostLacks:
        return False


def solve_open(request: Request, emit: Emit, recall: Recall | None = None) -> Solved:
    """The first three stages; the caller closes `client`. Raises every ArchiveError, NotFound.

    `recall` may know the lock once the Release files are verified; then the other two stages are left out.
    """
    request = replace(request, include=(*request.include, *request.custom.packages()))
    variant_name(request.variant)  # a typing error is told before the network is asked
    architecture = request.architecture or host_architecture()
    suite = _suite(request)
    keyrings = _keyrings(request, suite)
    choices = mirrors.choose(
        suite,
        architecture,
        request.mirror,
        today=time.strftime("%Y-%m-%d", time.gmtime()),
        native=is_native(architecture),
    )
    client = Client()
    cache = Cache(places.cache_dir())
    try:
        with stage("release", emit) as said:
            opened = open_source(client, request, suite, choices, keyrings, emit)
            source = opened.source
            said.detail = f"{source.origin} {source.codename}, {source.date}, from {source.mirror}"
        known = recall(request, (source,)) if recall else None
        if known is not None:
            for name in ("index", "resolve"):
                emit(Finished(name, 0.0, "nothing has changed", skipped=True))
            return Solved(known, client, cache)
        with stage("index", emit) as said:
            pool = load_pool(client, cache, [opened], architecture, emit)
            said.detail = f"{sum(len(member.index) for member in pool.members)} packages"
        with stage("resolve", emit) as said:
            lock = resolve(
                pool,
                opened.suite,
                (source,),
                variant=request.variant,
                include=request.include,
                exclude=request.exclude,
            )
            said.detail = f"{len(lock.required)} required and {len(lock.base)} further packages"
    except BaseException:
        client.cancel()
        client.close()
        raise
    return Solved(lock, client, cache)


def _suite(request: Request) -> suites.Suite:
    try:
        return suites.lookup(request.suite)
    except NotFound:
        if (request.mirror or os.environ.get("CTK_MIRROR")) and (request.keyring or not request.check_gpg):
            return suites.unknown(request.suite)
        raise


def _keyrings(request: Request, suite: suites.Suite) -> tuple[str, ...]:
    if not request.check_gpg:
        return ()
    if request.keyring:
        return (request.keyring,)
    folders = (places.shipped("keyrings"), "/usr/share/keyrings")
    return tuple(find_keyring(name, folders) for name in suite.keyrings)
