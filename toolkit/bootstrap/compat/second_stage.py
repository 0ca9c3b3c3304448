"""`--second-stage`: finish a tree made by `--foreign` of ctk or debootstrap.

All that is needed is in the tree: /debootstrap lists the packages, APT's folder holds them. They are unpacked a second
time, which gives this stage the same information about each file as in a build without stages; the rest is the same.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from toolkit import places
from toolkit.bootstrap.customize import customize
from toolkit.bootstrap.facts import suites
from toolkit.bootstrap.facts.debootstrap_files import ARCHIVES, FOLDER, LISTS
from toolkit.bootstrap.facts.model import Lock, Package, Request, Result, Source
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.install import base_files, cleanup, configure
from toolkit.bootstrap.install.core import settled
from toolkit.bootstrap.install.database import Database
from toolkit.bootstrap.install.staging import STAGING
from toolkit.bootstrap.install.unpack import Unpacker
from toolkit.bootstrap.output.next_steps import next_steps
from toolkit.bootstrap.output.target import write_result
from toolkit.bootstrap.sandbox import emulation
from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.children import rootless
from toolkit.deb.archive import Deb
from toolkit.deb.control import parse
from toolkit.deb.index import Index
from toolkit.errors import InUse, NotFound, SystemCall, reason
from toolkit.events import Done, Emit, Line, Planned
from toolkit.fetch.cache import check_private
from toolkit.kernel import reading, rmtree_beneath
from toolkit.kernel.beneath import make_directories, open_beneath
from toolkit.text import number

_MOST_BYTES = 16 << 20
_MOST_INDEX_BYTES = 512 << 20
STAGES = (("unpack", "Unpack"), ("configure", "Configure"), ("tidy", "Tidy up"))
_FACTS = ("suite", "arch", "required", "base", "debpaths")


def second_stage(request: Request, emit: Emit) -> Result:
    """Finish the tree at `request.target`; `engine`, `custom` and `jobs` are used too. Blocks until it is complete.

    Raises NotFound for a tree without a first stage, and BuildFailed; the tree then stays, and the stage can be started
    again.
    """
    check_private(places.cache_dir())
    facts = read_facts(request.target)
    emulation.emulation(facts["arch"])
    if os.geteuid() != 0:
        made: Result = rootless.run(second_stage, request, emit)
        return made
    began = time.monotonic()
    target = os.path.abspath(request.target)
    rootfd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    umask = os.umask(0o022)
    try:
        try:
            fcntl.flock(rootfd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(_doing(request.target), because="another ctk is working on it") from None
        emit(Planned(customize.planned(request.custom, STAGES)))
        lock = read_lock(rootfd, facts)
        own_proc(rootfd)
        emulate = emulation.emulation(lock.architecture).registration
        log_path = configure.log_path(target)
        custom = customize.Customiser(request.custom, target, rootfd, lock, log_path, emulate, emit)
        if request.engine == "debootstrap":
            run_theirs(target, rootfd, log_path, emulate, emit, keep=True)  # `_clear` removes it
        else:
            _ours(target, rootfd, lock, facts, custom, log_path, emulate, emit)
        custom.customize()
        result = _result(request, target, lock)
        # Written here, before the files that the stage could be started from again are removed, and at the end.
        write_result(target, result, lock)
        with stage("tidy", emit):
            _clear(rootfd, facts, keep=request.keep_debootstrap_dir)
            cleanup.tidy(rootfd, lock, emit)
    finally:
        os.umask(umask)
        os.close(rootfd)
    result = replace(result, seconds=round(time.monotonic() - began, 3))
    path = write_result(target, result, lock)
    text = f"{result.title} in {request.target} is complete"
    emit(Done(text, result.seconds, {**asdict(result), "file": path}, next_steps(request.target)))
    return result


def _doing(target: str) -> str:
    return f"finish the root file system in {target!r}"


def _result(request: Request, target: str, lock: Lock) -> Result:
    return Result(
        target=target,
        suite=lock.suite,
        distribution=lock.distribution,
        variant=lock.variant,
        architecture=lock.architecture,
        packages=len(lock.packages),
        size_bytes=sum(max(number(one.paragraph.get("Installed-Size", "")), 0) for one in lock.packages) << 10,
        seconds=0.0,
        build_id=request.custom.build_id(lock.build_id),
        engine=request.engine,
    )


def read_facts(target: str) -> dict[str, str]:
    """The contents of the files in /debootstrap, by name. Raises NotFound."""
    found = {}
    try:
        rootfd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(_doing(target), because=reason(error)) from None
    try:
        for name in (*_FACTS, "variant", "mirror"):
            try:
                fd = open_beneath(rootfd, f"{FOLDER}/{name}", os.O_RDONLY | os.O_NONBLOCK)
            except SystemCall:
                if name not in _FACTS:
                    continue
                raise NotFound(
                    _doing(target),
                    because=f"there is no /{FOLDER}/{name} in it",
                    hint="a first stage leaves it: ctk bootstrap --foreign SUITE TARGET",
                ) from None
            try:
                reading.check(fd, f"{FOLDER}/{name}", _MOST_BYTES)
                found[name] = reading.whole(fd, f"{FOLDER}/{name}", _MOST_BYTES).decode(errors="replace").strip()
            except OSError as error:
                raise NotFound(_doing(target), because=f"/{error.filename}: {reason(error)}") from None
            finally:
                os.close(fd)
    finally:
        os.close(rootfd)
    return found


def own_proc(rootfd: int) -> None:
    """Repair /proc, which debootstrap leaves as a link to itself if it takes the host for a container (quirk 37)."""
    try:
        os.readlink("proc", dir_fd=rootfd)
    except OSError:
        return
    os.unlink("proc", dir_fd=rootfd)
    os.mkdir("proc", 0o755, dir_fd=rootfd)


def read_lock(rootfd: int, facts: dict[str, str]) -> Lock:
    """The lock of the .debs in the tree's APT folder, from their control files and the index in APT's lists."""
    indexes = _indexes(rootfd)
    paths = dict(line.split(None, 1) for line in facts["debpaths"].splitlines() if line.strip())
    sets = [[_package(rootfd, name, paths, indexes) for name in sorted(set(facts[key].split()))] for key in _FACTS[2:4]]
    digest = hashlib.sha256(" ".join(one.sha256 for one in (*sets[0], *sets[1])).encode()).hexdigest()
    try:
        suite = suites.lookup(facts["suite"])
    except NotFound:
        suite = suites.unknown(facts["suite"])
    distribution = suite.distribution.name if suite.distribution else "debian"
    source = Source(facts.get("mirror", ""), facts["suite"], suite.codename, distribution.title(), ("main",), "", "")
    variant = facts.get("variant") or "-"
    return Lock(suite.codename, distribution, variant, facts["arch"], (source,), tuple(sets[0]), tuple(sets[1]), digest)


def _indexes(rootfd: int) -> list[Index]:
    with_lists = []
    try:
        lists = open_beneath(rootfd, LISTS, os.O_RDONLY | os.O_DIRECTORY)
    except SystemCall:
        return []
    try:
        for name in sorted(os.listdir(lists)):
            if name.endswith("_Packages"):
                try:
                    data = reading.read(name, dir_fd=lists, limit_bytes=_MOST_INDEX_BYTES)
                except OSError:
                    data = b""  # no index; the lookup of a package reports what is missing
                with_lists.append(Index(data, what=name))
    finally:
        os.close(lists)
    return with_lists


def _package(rootfd: int, name: str, paths: dict[str, str], indexes: list[Index]) -> Package:
    fd = _open_deb(rootfd, name, paths)
    with open(fd, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        fields = parse(Deb(fd, name).control()["control"].data, what=f"control file of {name!r}")
        size = os.fstat(fd).st_size
    for index in indexes:
        found = index.get(name)
        if found is not None and found.get("Version") == fields.get("Version"):
            fields = found
    filename = fields.get("Filename", f"pool/{name}.deb")
    return Package(name, fields["Version"], fields["Architecture"], filename, size, digest, 0, fields)


def _open_deb(rootfd: int, name: str, paths: dict[str, str]) -> int:
    try:
        return open_beneath(rootfd, paths[name], os.O_RDONLY | os.O_NONBLOCK)
    except (KeyError, SystemCall):
        raise NotFound(
            "finish the root file system",
            because=f"the package {name!r} is not in /{ARCHIVES} of the tree",
            hint="start again with --foreign",
        ) from None


def _ours(
    target: str,
    rootfd: int,
    lock: Lock,
    facts: dict[str, str],
    custom: customize.Customiser,
    log_path: str,
    emulate: bytes,
    emit: Emit,
) -> None:
    paths = dict(line.split(None, 1) for line in facts["debpaths"].splitlines() if line.strip())
    with stage("unpack", emit) as report:
        if os.path.lexists(f"{target}/{STAGING}"):
            rmtree_beneath.remove(rootfd, STAGING)  # left by a second stage that failed
        merged = os.path.islink(os.path.join(target, "bin"))
        unpacker = Unpacker(rootfd, lock, emit, merged_usr=merged, skips=custom.skips)

        def add(package: Package) -> None:
            with open(_open_deb(rootfd, package.name, paths), "rb") as file:
                unpacker.add(package, file.fileno())

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(add, lock.packages):
                pass
        unpacked = unpacker.finish()
        database = Database(rootfd)
        database.create()
        database.register(settled(lock, unpacked))
        base_files.localtime(rootfd)
        report.detail = f"{len(unpacked)} packages"
    custom.extracted()
    with stage("configure", emit) as report:
        configure.configure(
            target,
            rootfd,
            lock,
            unpacked,
            emit,
            log_path,
            open_deb=lambda package: _open_deb(rootfd, package.name, paths),
            emulate=emulate,
            between=custom.essential,
        )
        report.detail = f"{len(unpacked)} packages"


def run_theirs(target: str, rootfd: int, log_path: str, emulate: bytes, emit: Emit, *, keep: bool) -> None:
    """Run debootstrap's own second stage in the tree. `keep`: its /debootstrap stays."""
    if not os.path.lexists(f"{target}/{FOLDER}/debootstrap"):
        raise NotFound(
            _doing(target),
            because=f"there is no /{FOLDER}/debootstrap in it",
            hint="--engine native, the default, does not need it",
        )
    with (
        stage("configure", emit),
        Sandbox(
            target, log_path, lambda text: emit(Line("configure", text)), lambda _: None, emulate=emulate, rootfd=rootfd
        ) as sandbox,
    ):
        # `container` tells it that it runs in a container: it then makes no device nodes, and uses this /proc and /dev.
        sandbox.run(
            ["/bin/sh", f"/{FOLDER}/debootstrap", "--second-stage", *(["--keep-debootstrap-dir"] if keep else [])],
            doing="run debootstrap's second stage",
            environment={"container": "lxc", "DEBOOTSTRAP_DIR": f"/{FOLDER}"},
        )


def _clear(rootfd: int, facts: dict[str, str], *, keep: bool) -> None:
    """Remove what the first stage left for this one. With `keep` /debootstrap stays, without its log."""
    if FOLDER in os.listdir(rootfd):
        # O_NOFOLLOW: a script may have made it a link to a folder of the host, whose log must not be moved.
        folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=rootfd)
        parent = make_directories(rootfd, "var/log")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename("debootstrap.log", "bootstrap.log", src_dir_fd=folder, dst_dir_fd=parent)
        finally:
            os.close(parent)
            os.close(folder)
        if not keep:
            rmtree_beneath.remove(rootfd, FOLDER)
    names = {os.path.basename(line.split(None, 1)[-1]) for line in facts["debpaths"].splitlines()}
    for path, kept in ((ARCHIVES, lambda name: name in names), (LISTS, lambda name: "_dists_" in name)):
        parent = make_directories(rootfd, path)
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        os.close(parent)
        for name in filter(kept, os.listdir(folder)):
            os.unlink(name, dir_fd=folder)
        os.close(folder)
