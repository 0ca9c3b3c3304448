"""`--download-only`: fetch and check what a build needs, and build nothing."""

import time
from typing import Any

from toolkit.bootstrap.acquire.deb_folder import deb_name
from toolkit.bootstrap.acquire.download import Consume, Download
from toolkit.bootstrap.facts.model import Lock, Package, Request
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.output import reports
from toolkit.bootstrap.plan import plan_build
from toolkit.bootstrap.plan.plan_build import Solved
from toolkit.errors import Usage
from toolkit.events import Done, Emit, Planned, Started
from toolkit.text import quote

STAGES = (*plan_build.STAGES, ("download", "Download"))


def download_only(request: Request, emit: Emit) -> Lock:
    """Fetch the packages of `request` into the cache (and `cache_dir`), and list them. Needs neither root nor a target.

    Raises any ArchiveError, NotFound, Usage; the packages fetched by then stay in the cache.
    """
    check(request, "--download-only")
    began = time.monotonic()
    emit(Planned(STAGES))
    solved = plan_build.solve_open(plan_build.understood(request, emit), emit)
    try:
        done = fetch(request, solved, _leave_it, emit)
    finally:
        solved.client.close()
    lock = solved.lock
    reports.write(request, lock)
    facts = as_json(lock, done)
    for package, one in zip(lock.packages, facts["packages"], strict=True):
        one["file"] = (
            f"{solved.folder.path}/{deb_name(package)}" if solved.folder else solved.cache.path(package.sha256)
        )
    where = solved.folder.path if solved.folder else solved.cache.folder
    text = f"{len(lock.packages)} packages of {lock.title} are in {where}, checked"
    emit(Done(text, round(time.monotonic() - began, 3), facts, _next_steps(request)))
    return lock


def check(request: Request, option: str) -> None:
    """Raise Usage if there is nothing to fetch, or if the engine fetches for itself."""
    if request.engine != "native":
        raise Usage("read the command line", because=f"{option} is the native engine's", hint="leave out --engine")
    if request.suite == "host":
        raise Usage("read the command line", because="there is nothing to fetch for this host's own programs")


def fetch(request: Request, solved: Solved, take: Consume, emit: Emit) -> Download:
    """The stage `download`: call `take` with each package, fetched and checked. Raises like `Download.run`."""
    with stage("download", emit) as report:
        download = Download(
            solved.client, solved.cache, solved.lock, take, emit, fetchers=request.jobs, folder=solved.folder
        )
        emit(Started("download", download.total_bytes, "bytes"))
        download.run()
        report.detail = f"{download.fetched_bytes / 1e6:.1f} MB, {download.cached_bytes / 1e6:.1f} MB were cached"
    return download


def _leave_it(package: Package, deb: int) -> None:
    """Nothing more to do: the package is in the cache."""


def as_json(lock: Lock, done: Download) -> dict[str, Any]:
    """What was fetched, for --json."""
    return {
        "suite": lock.suite,
        "variant": lock.variant,
        "architecture": lock.architecture,
        "build_id": lock.build_id,
        "fetched_bytes": done.fetched_bytes,
        "cached_bytes": done.cached_bytes,
        "packages": [
            {
                "name": one.name,
                "version": one.version,
                "architecture": one.architecture,
                "sha256": one.sha256,
                "size": one.size_bytes,
            }
            for one in lock.packages
        ],
    }


def _next_steps(request: Request) -> tuple[str, ...]:
    """A build from the fetched packages. Only with a lock: without one a build fetches what is current then."""
    if not request.lock:
        return ()
    return (f"ctk bootstrap {quote(request.suite)} {quote(f'./{request.suite}')} --locked {quote(request.lock)}",)
