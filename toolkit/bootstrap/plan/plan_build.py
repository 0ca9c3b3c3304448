"""The first half of a bootstrap: from a request to the exact packages. Nothing is made yet."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from toolkit import places
from toolkit.archive.epoch import epoch_s
from toolkit.bootstrap.acquire.deb_folder import DebFolder
from toolkit.bootstrap.acquire.mirrors import note_login
from toolkit.bootstrap.facts.architectures import host_architecture
from toolkit.bootstrap.facts.model import Lock, Request, Source
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.output import reports
from toolkit.bootstrap.plan import load_sources
from toolkit.bootstrap.resolve import lockfile, tarball_read
from toolkit.bootstrap.resolve.resolve import resolve, variant_name
from toolkit.events import Emit, Finished, Note, Planned
from toolkit.fetch.cache import Cache, check_private
from toolkit.fetch.http import Client

STAGES = (
    ("release", "Verify the suite"),
    ("index", "Read the package lists"),
    ("resolve", "Choose the packages"),
)

Recall = Callable[[Request, tuple[Source, ...]], Lock | None]


@dataclass(frozen=True, slots=True)
class Solved:
    """A lock, and what is needed to build from it."""

    lock: Lock
    client: Client
    cache: Cache
    folder: DebFolder | None = None  # a second cache: the user's --cache-dir


def solve(request: Request, emit: Emit) -> Lock:
    """The packages that `bootstrap` would install: its first three stages, without a build. Needs no root."""
    emit(Planned(STAGES))
    solved = solve_open(understood(request, emit), emit)
    solved.client.close()
    reports.write(request, solved.lock)
    return solved.lock


def understood(request: Request, emit: Emit) -> Request:
    """The request without debootstrap's variant fakechroot, which is for builds by ordinary users.

    Raises Usage for a SOURCE_DATE_EPOCH that is none: now, and not after the build.
    """
    epoch_s()
    if request.variant != "fakechroot" or request.engine != "native":
        return request
    emit(Note("the variant '-' is built instead: without root ctk uses a user namespace, and needs no fakechroot"))
    return replace(request, variant="-")


def solve_open(request: Request, emit: Emit, recall: Recall | None = None) -> Solved:
    """The first three stages. The caller closes `client`. Raises any ArchiveError, NotFound, Usage.

    `recall` may return a cached lock for the verified Release files; index and resolve are then skipped.
    """
    request = replace(request, include=(*request.include, *request.custom.packages()))
    variant_name(request.variant)  # an unknown variant is reported before anything is fetched
    reports.check(request)
    check_private(places.cache_dir())
    folder = DebFolder(request.cache_dir) if request.cache_dir else None
    client = Client(certificate=request.certificate, private_key=request.private_key)
    cache = Cache(places.cache_dir())
    try:
        if request.unpack_tarball:
            lock = tarball_read.open_lock(request, cache, emit)
        elif request.locked:
            lock = _locked(request, client, emit)
        else:
            lock = _chosen(request, client, cache, emit, recall)
    except BaseException:
        client.cancel()
        client.close()
        raise
    return Solved(lock, client, cache, folder)


def _chosen(request: Request, client: Client, cache: Cache, emit: Emit, recall: Recall | None) -> Lock:
    gathered = load_sources.gather(request, client, request.architecture or host_architecture(), emit)
    known = recall(request, gathered.sources) if recall else None
    if known is not None:
        for name in ("index", "resolve"):
            emit(Finished(name, 0.0, "nothing has changed", skipped=True))
        return known
    pool = gathered.read(client, cache, emit)
    with stage("resolve", emit) as report:
        lock = resolve(
            pool,
            gathered.suite,
            gathered.sources,
            variant=request.variant,
            include=gathered.include,
            files=gathered.files,
            exclude=request.exclude,
            recommends=request.recommends,
            preferences=gathered.preferences,
        )
        report.detail = f"{len(lock.required)} required packages" + (
            f" and {len(lock.base)} others" if lock.base else ""
        )
        for number, source in enumerate(lock.sources[1:], 1):
            count = sum(package.source == number for package in lock.packages)
            report.detail += f", {count} from {source.suite or source.mirror}"
    return lock


def _locked(request: Request, client: Client, emit: Emit) -> Lock:
    lock = lockfile.read(request.locked, request)
    given = [client.logins.take(mirror).rstrip("/") for mirror in (request.mirror, *request.mirrors) if mirror]
    if len(given) > 1:
        client.mirrors.add(tuple(dict.fromkeys(given)))
    note_login(request.mirror, emit)
    for name in ("release", "index"):
        emit(Finished(name, 0.0, "given by the lock", skipped=True))
    with stage("resolve", emit) as report:
        report.detail = f"{len(lock.packages)} packages of {request.locked}"
    return lock
