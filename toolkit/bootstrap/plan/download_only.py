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
    """Fetch the packages of `request` into the cache (and its `cache_dir`), and say which. Needs no root, no target.

    Raises every ArchiveError, NotFound, Usage; what has come by then stays in the cache.
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
    facts = told(lock, done)
    for package, one in zip(lock.packages, facts["packages"], strict=True):
        one["file"] = (
            f"{solved.folder.path}/{deb_name(package)}" if solved.folder else solved.cache.path(package.sha256)
        )
    where = solved.folder.path if solved.folder else solved.cache.folder
    text = f"{len(lock.packages)} packages of {lock.title} are in {where}, checked"
    emit(Done(text, round(time.monotonic() - began, 3), facts, _next_steps(request)))
    return lock


def check(request: Request, option: str) -> None:
    """Raise Usage where there is nothing to fetch, or somebody else fetches."""
    if request.engine != "native":
        raise Usage("read the command line", because=f"{option} is the native engine's", hint="leave out --engine")
    if request.suite == "host":
        raise Usage("read the command line", because="of this host's own programs there is nothing to fetch")


def fetch(request: Request, solved: Solved, take: Consume, emit: Emit) -> Download:
    """The stage `download`: each package to `take` when it is there and checked. Raises as `Download.run`."""
    with stage("download", emit) as report:
        download = Download(
            solved.client, solved.cache, solved.lock, take, emit, fetchers=request.jobs, folder=solved.folder
        )
        emit(Started("download", download.total_bytes, "bytes"))
        download.run()
        report.detail = f"{download.fetched_bytes / 1e6:.1f} MB, {download.cached_bytes / 1e6:.1f} MB were there"
    return download


def _leave_it(package: Package, deb: int) -> None:
    """It is in the cache; nothing else is wanted of it."""


def told(lock: Lock, done: Download) -> dict[str, Any]:
    """What was fetched, for programs."""
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
    """With a lock the packages are all that a build needs; without one it asks the archive what is current."""
    if not request.lock:
        return ()
    return (f"ctk bootstrap {quote(request.suite)} {quote(f'./{request.suite}')} --locked {quote(request.lock)}",)
