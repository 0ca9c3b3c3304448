"""`ctk bootstrap`: from a request to a root file system, stage by stage.

    release   fetch and verify the suite's Release file
    index     fetch the Packages indexes that it vouches for
    resolve   choose the packages: the Lock
    download  ┐ in parallel: a package is unpacked as soon as it is there
    unpack    ┘
    seed      dpkg's database, /etc, /dev
    configure the packages' own scripts, in namespaces of their own
    tidy      remove what a build leaves and a root should not hold
    keep      store a copy in the cache (tree_cache.py); the next build of the same lock only unpacks it

A build that ends early (an error, Ctrl-C) leaves nothing behind. What a kill -9 leaves is recognised by its marker
(toolkit/bootstrap/output/target.py).
"""

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

from toolkit import places, text
from toolkit.bootstrap.acquire.download import Download
from toolkit.bootstrap.acquire.repacked import Repacked
from toolkit.bootstrap.compat import engine_debootstrap, first_stage
from toolkit.bootstrap.customize import customize
from toolkit.bootstrap.facts.model import Lock, Request, Result
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.install import base_files, cleanup, configure
from toolkit.bootstrap.install.unpack import Unpacked, Unpacker
from toolkit.bootstrap.output import outputs, prune, reports
from toolkit.bootstrap.output.next_steps import next_steps
from toolkit.bootstrap.output.target import MARKER, Target, check_space, empty
from toolkit.bootstrap.output.tree_cache import Spoilt, TreeCache
from toolkit.bootstrap.plan import plan_build
from toolkit.bootstrap.plan.plan_build import Solved, solve_open, understood
from toolkit.bootstrap.sandbox import confinement, emulation
from toolkit.children import rootless
from toolkit.errors import CtkError, Unreachable, Usage, reason
from toolkit.events import Done, Emit, Finished, Note, Planned, Started
from toolkit.fetch.cache import check_private
from toolkit.text import quote

ENGINES = ("native", "debootstrap")
STAGES = (
    *plan_build.STAGES,
    ("download", "Download"),
    ("unpack", "Unpack"),
    ("seed", "Lay the foundations"),
    ("configure", "Configure"),
    ("tidy", "Tidy up"),
    ("keep", "Keep a copy"),
)
_AFTER_UNPACK = ("seed", "configure", "tidy", "keep")


def bootstrap(request: Request, emit: Emit) -> Result:
    """Make the root file system that `request` asks for. Blocks until it is complete.

    An ordinary user becomes root of a user namespace for it (rootless.py).

    Writes the result to `.NAME.ctk.json` beside the target. Raises a CtkError of any kind; then, and on
    KeyboardInterrupt, nothing of the tree is left (with `request.keep_failed` it stays, with its marker).
    """
    request = understood(request, emit)
    _check_engine(request)
    check_private(places.cache_dir())
    customize.check(request)
    form = outputs.format_of(request)
    prune.limit()  # an invalid value is reported now, not after the build
    if request.or_host and request.suite != "host":
        return _archive_or_host(request, emit)
    if request.suite == "host" and form is None:
        return _host(request, emit)
    if request.engine == "debootstrap":
        engine_debootstrap.check(request)
    if request.architecture and request.variant != "extract" and not request.foreign:
        emulation.emulation(request.architecture)  # raises if it can't run, before anything is fetched or made
    if os.geteuid() != 0:
        made: Result = rootless.run(bootstrap, request, emit)
        return made
    with _one_interruption():
        if form is not None:
            return outputs.build(request, form, emit, _host if request.suite == "host" else _bootstrap)
        return _bootstrap(request, emit)


def _check_engine(request: Request) -> None:
    doing = "read the command line"
    if request.engine not in ENGINES:
        raise Usage(doing, because=f"there is no engine {request.engine!r}", hint="native or debootstrap")
    if request.engine == "native" and (request.script.startswith("deb ") or "://" in request.script):
        raise Usage(
            doing,
            because=f"{request.script!r} is a second mirror or source, where debootstrap has its script",
            hint="--source 'deb URL SUITE COMPONENT…' adds a source, --pocket updates,security those of the suite; "
            "--mirror URL may be given more than once",
        )
    if request.engine == "native" and (request.script or request.engine_options):
        raise Usage(
            doing,
            because="suite scripts and --engine-opt are debootstrap's",
            hint="ctk has the rules of every suite in its own table; --engine debootstrap runs the real program",
        )
    if not request.suite:
        raise Usage(doing, because="there is no SUITE", hint="for example: ctk bootstrap bookworm ./fs")
    if request.foreign and request.variant == "extract":
        raise Usage(doing, because="the variant 'extract' has no second stage", hint="leave out --foreign")


def _host(request: Request, emit: Emit) -> Result:
    from toolkit.bootstrap.host import host  # imports an ELF reader, which a build from an archive does not need

    return host.bootstrap(request, emit, lenient=request.or_host)


def _archive_or_host(request: Request, emit: Emit) -> Result:
    try:
        return bootstrap(replace(request, or_host=False), emit)
    except Unreachable as error:
        emit(Note(f"no archive: {error}", warning=True))
        emit(Note(f"{request.target} is made of this host's own programs instead of {request.suite}", warning=True))
        return bootstrap(replace(request, suite="host"), emit)


def _bootstrap(request: Request, emit: Emit) -> Result:
    began = time.monotonic()
    target = Target(request)
    umask = os.umask(0o022)
    try:
        emit(Planned(_stages(request)))
        rootfd = target.open()
        if not request.foreign and request.variant != "extract":
            confinement.check(target.path)
        lock = _make(request, target, rootfd, emit)
        reports.write(request, lock, rootfd)
        result = replace(_result(lock, target.path, began), engine=request.engine, foreign=request.foreign)
        path = target.close(result, lock)
    except BaseException as error:
        if request.keep_failed:
            target.leave()
        else:
            _remove(target, emit)
        if isinstance(error, OSError):  # something that a package or its scripts made in the tree is in the way
            name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
            because = name + reason(error)
            raise CtkError(f"make a root file system in {target.path!r}", because=because) from error
        raise
    finally:
        os.umask(umask)
    emit(
        Done(
            f"{result.title} is in {request.target}" + (", its first half" if request.foreign else ""),
            result.seconds,
            {**asdict(result), "file": path},
            _next_steps(request),
        )
    )
    return result


def _stages(request: Request) -> tuple[tuple[str, str], ...]:
    if request.engine == "debootstrap":
        return engine_debootstrap.stages(request)
    if request.foreign:
        return (*plan_build.STAGES, *customize.planned(request.custom, first_stage.STAGES))
    return customize.planned(request.custom, STAGES)


def _make(request: Request, target: Target, rootfd: int, emit: Emit) -> Lock:
    """Fill the empty folder. Returns the lock that it was made from."""
    if request.engine == "debootstrap":
        lock = engine_debootstrap.build(request, target.path, rootfd, configure.log_path(target.path), emit)
        return replace(lock, build_id=request.custom.build_id(lock.build_id))
    trees = TreeCache(places.cache_dir())
    solved = solve_open(request, emit, trees.recall)
    solved = replace(solved, lock=replace(solved.lock, build_id=request.custom.build_id(solved.lock.build_id)))
    try:
        if request.foreign:
            log_path = configure.log_path(target.path)
            first_stage.first_stage(request, solved, target.path, rootfd, log_path, emit)
            return solved.lock
        trees.remember(request, solved.lock)
        count = _extract_cached(request, trees, solved.lock, target, rootfd, emit)
        if count is None:
            _build(request, solved, target, rootfd, trees, emit)
        return solved.lock
    finally:
        solved.client.close()


def _next_steps(request: Request) -> tuple[str, ...]:
    if request.foreign:
        return (
            f"ctk bootstrap --second-stage {quote(request.target)}",
            "or, on a machine that runs it, inside: /debootstrap/debootstrap --second-stage",
        )
    return next_steps(request.target)


def _remove(target: Target, emit: Emit) -> None:
    """Remove the half-made tree. A failure is only noted: the error that brought us here is the one to raise."""
    try:
        target.remove()
    except (CtkError, OSError) as error:
        emit(Note(f"the half-made tree {target.path!r} is still there: {error}", warning=True))


def _extract_cached(
    request: Request, trees: TreeCache, lock: Lock, target: Target, rootfd: int, emit: Emit
) -> int | None:
    """Make the tree from a cached one of the same lock. Returns its number of files; None without an intact one."""
    cached = trees.open(request, lock.build_id)
    if cached is None:
        return None
    with cached:
        check_space(target.path, cached.plain_bytes)
        emit(Finished("download", 0.0, "the tree of this very build is cached", skipped=True))
        try:
            with stage("unpack", emit) as report:
                count = cached.extract(rootfd)
                report.detail = f"{count} files of a cached tree"
        except Spoilt:
            emit(Note("the cached tree was damaged; it is removed, and the tree is built again", warning=True))
            empty(target.path, rootfd, but=MARKER)
            return None
        except OSError as error:
            because = reason(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                because += f" (the tree has {cached.plain_bytes >> 20} MiB)"
            raise CtkError(f"lay out a cached tree in {target.path!r}", because=because) from None
    for name in _AFTER_UNPACK:
        emit(Finished(name, 0.0, "as in the cached tree", skipped=True))
    return count


def _build(request: Request, solved: Solved, target: Target, rootfd: int, trees: TreeCache, emit: Emit) -> None:
    lock = solved.lock
    check_space(target.path, _installed_bytes(lock))
    log_path = configure.log_path(target.path)
    emulate = b"" if lock.variant == "extract" else emulation.emulation(lock.architecture).registration
    custom = customize.Customiser(request.custom, target.path, rootfd, lock, log_path, emulate, emit)
    custom.setup()
    download, unpacked = _fetch_and_unpack(request, solved, rootfd, custom, emit)
    if lock.variant != "extract":
        with stage("seed", emit):
            base_files.seed(rootfd, lock, unpacked, request.custom, emit)
        custom.extracted()
        with stage("configure", emit) as report:
            configure.configure(
                target.path,
                rootfd,
                lock,
                unpacked,
                emit,
                log_path,
                open_deb=download.reopen,
                emulate=emulate,
                between=custom.essential,
            )
            report.detail = f"{len(unpacked)} packages"
    else:
        custom.extracted()
    custom.customize()
    if request.keep_debootstrap_dir:
        first_stage.leave_record(lock, rootfd, log_path)
    with stage("tidy", emit):
        cleanup.tidy(rootfd, lock, emit)
    with stage("keep", emit) as report:
        size = trees.store(request, lock, rootfd)
        prune.prune(places.cache_dir(), prune.limit())
        report.detail = f"{size / 1e6:.1f} MB in the cache" if size else "none: this tree is not cached"


def _fetch_and_unpack(
    request: Request, solved: Solved, rootfd: int, custom: customize.Customiser, emit: Emit
) -> tuple[Download, list[Unpacked]]:
    """Unpack each package as soon as it is there: the stages download and unpack, which run side by side."""
    lock = solved.lock
    repacked = None if solved.folder else Repacked(solved.cache)  # --cache-dir gets the packages as they were published
    merged = request.custom.merged_usr
    unpacker = Unpacker(rootfd, lock, emit, merged_usr=merged, skips=custom.skips, repacked=repacked)
    download = Download(
        solved.client,
        solved.cache,
        lock,
        unpacker.add,
        emit,
        fetchers=request.jobs,
        consumers=request.jobs,
        folder=solved.folder,
        repacked=repacked,
    )
    emit(Started("download", download.total_bytes, "bytes"))
    emit(Started("unpack", len(lock.packages), "packages"))
    fetching = time.monotonic()
    try:
        download.run()
    except Unreachable as error:
        if request.locked:
            error.hint = "the archive has moved on: --snapshot DATE --locked FILE takes the package from back then"
        raise
    amounts = ((download.fetched_bytes, ""), (download.cached_bytes, " from the cache"))
    parts = [f"{amount / 1e6:.1f} MB{source}" for amount, source in amounts if amount]
    emit(Finished("download", download.fetched_at - fetching, ", ".join(parts)))
    unpacked = unpacker.finish()
    emit(Finished("unpack", time.monotonic() - fetching, f"{len(unpacked)} packages"))
    return download, unpacked


def _result(lock: Lock, path: str, began: float) -> Result:
    return Result(
        target=path,
        suite=lock.suite,
        distribution=lock.distribution,
        variant=lock.variant,
        architecture=lock.architecture,
        packages=len(lock.packages),
        size_bytes=_installed_bytes(lock),
        seconds=round(time.monotonic() - began, 3),
        build_id=lock.build_id,
    )


def _installed_bytes(lock: Lock) -> int:
    return sum(_kibibytes(package.paragraph) for package in lock.packages) << 10


def _kibibytes(paragraph: Any) -> int:
    size = paragraph.get("Installed-Size", "")
    return max(text.number(size), 0)


@contextmanager
def _one_interruption() -> Iterator[None]:
    """Let the first Ctrl-C (or other signal with a handler) through and drop those that follow.

    A second one would interrupt the clean-up after the first, at any line of it. The clean-up takes a bounded time;
    SIGQUIT and SIGKILL still end it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    came: list[int] = []

    def once(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if not came and callable(handler):
            came.append(number)
            handler(number, frame)

    changed = [number for number, handler in before.items() if callable(handler)]
    for number in changed:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
