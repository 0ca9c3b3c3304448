"""`--foreign`: the first stage of a bootstrap, in which no program of the tree runs.

The result is that of `debootstrap --foreign`: the files of the required packages, every .deb in APT's folder, and
/debootstrap with lists of the packages and with debootstrap's own second stage (from the archive's package debootstrap,
or else the host's). The second stage is `ctk bootstrap --second-stage` (second_stage.py) or, on the machine itself,
`/debootstrap/debootstrap --second-stage`.

Source: debootstrap 1.0.128, the phases save_variables and first_stage.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from toolkit.archive import entries
from toolkit.bootstrap.acquire.deb_folder import deb_name
from toolkit.bootstrap.acquire.download import Download
from toolkit.bootstrap.customize import customize
from toolkit.bootstrap.facts.debootstrap_files import ARCHIVES, FOLDER, LISTS
from toolkit.bootstrap.facts.model import Lock, Package, Request
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.install import base_files
from toolkit.bootstrap.install.database import Database
from toolkit.bootstrap.install.unpack import Unpacker
from toolkit.bootstrap.plan.plan_build import Solved, solve_open
from toolkit.deb.archive import Deb
from toolkit.deb.control import write
from toolkit.errors import CtkError
from toolkit.events import Emit, Finished, Note, Started, silent
from toolkit.kernel.beneath import make_directories

STAGES = (("download", "Download"), ("unpack", "Unpack"), ("seed", "Lay the foundations"))

_HOST = "/usr/share/debootstrap"
_PROGRAM = "usr/sbin/debootstrap"
_SHARE = "usr/share/debootstrap/"
_FETCHED = re.compile(r"(functions|pkgdetails|scripts/[a-z0-9.-]+)")


def first_stage(request: Request, solved: Solved, target: str, rootfd: int, log_path: str, emit: Emit) -> None:
    """Run the first stage for `solved.lock` in the empty directory `rootfd`. Raises CtkError, OSError."""
    lock = solved.lock
    custom = customize.Customiser(request.custom, target, rootfd, lock, log_path, b"", emit)
    custom.setup()
    first = replace(lock, base=())
    unpacker = Unpacker(rootfd, first, emit, merged_usr=request.custom.merged_usr, skips=custom.skips)
    required = {(one.name, one.architecture) for one in lock.required}
    archives = open_folder(rootfd, ARCHIVES)

    def take(package: Package, deb: int) -> None:
        keep(archives, package, deb)
        if (package.name, package.architecture) in required:
            unpacker.add(package, deb)

    try:
        download = Download(
            solved.client,
            solved.cache,
            lock,
            take,
            emit,
            fetchers=request.jobs,
            consumers=request.jobs,
            folder=solved.folder,
        )
        emit(Started("download", download.total_bytes, "bytes"))
        emit(Started("unpack", len(lock.required), "packages"))
        began = time.monotonic()
        download.run()
        emit(Finished("download", download.fetched_at - began, f"{len(lock.packages)} packages kept in /{ARCHIVES}"))
    finally:
        os.close(archives)
    unpacked = unpacker.finish()
    emit(Finished("unpack", time.monotonic() - began, f"{len(unpacked)} packages"))
    with stage("seed", emit):
        Database(rootfd).create()
        base_files.etc(rootfd, lock, request.custom)
        base_files.dev(rootfd, emit)
        leave_lists(lock, rootfd)
        leave_facts(lock, rootfd)
        _leave_programs(request, lock, rootfd, emit)
    custom.extracted()


def list_name(mirror: str, suite: str, architecture: str, component: str = "main") -> str:
    """debootstrap's file name for the index of a component in APT's lists folder."""
    path = f"{mirror.rstrip('/')}_dists/{suite}/{component}/binary-{architecture}/Packages"
    return re.sub(r"^[^:]+://", "", path).replace("/", "_")


def keep(archives: int, package: Package, deb: int) -> None:
    """Copy a package into APT's folder. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(deb_name(package), flags, 0o644, dir_fd=archives)
    try:
        position = 0
        while data := os.pread(deb, 1 << 20, position):
            position += len(data)
            while data:
                data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def leave_lists(lock: Lock, rootfd: int) -> None:
    """Write indexes of the packages, in which debootstrap looks up dependencies, one per component. Raises OSError."""
    first = lock.sources[0]
    components = first.components or ("main",)
    texts = dict.fromkeys(components, "")
    for one in lock.packages:
        # With the packages of pockets: debootstrap reads only one index per component.
        texts[one.component if one.component in texts else components[0]] += write(one.paragraph) + "\n"
    with _opened(rootfd, LISTS) as lists:
        for component, text in texts.items():
            write_file(lists, list_name(first.mirror, lock.suite, lock.architecture, component), text.encode())


def leave_facts(lock: Lock, rootfd: int) -> None:
    """Write the files in /debootstrap that debootstrap's later phases read. Raises OSError."""
    _write_facts(
        lock, rootfd, {"debpaths": "\n".join(f"{one.name} /{ARCHIVES}/{deb_name(one)}" for one in lock.packages)}
    )


def leave_record(lock: Lock, rootfd: int, log_path: str) -> None:
    """Write /debootstrap into a finished tree, for inspection (`--keep-debootstrap-dir`): the packages, the origin of
    each, the log so far. Raises OSError."""
    uris = "\n".join(
        f"{one.name} {one.version} {lock.sources[one.source].mirror}/{one.filename}" for one in lock.packages
    )
    log = ""
    with contextlib.suppress(FileNotFoundError), open(log_path, errors="surrogateescape") as file:
        log = file.read().rstrip("\n")  # a build without scripts has none
    _write_facts(lock, rootfd, {"deburis": uris, "debootstrap.log": log})


def _write_facts(lock: Lock, rootfd: int, more: dict[str, str]) -> None:
    facts = {
        "arch": lock.architecture,
        "suite": lock.suite,
        "mirror": lock.sources[0].mirror,
        "variant": "" if lock.variant == "-" else lock.variant,
        "required": " ".join(one.name for one in lock.required),
        "base": " ".join(one.name for one in lock.base),
    }
    with _opened(rootfd, FOLDER) as folder:
        for name, value in (facts | more).items():
            if value or name not in ("variant",):
                write_file(folder, name, value.encode(errors="surrogateescape") + b"\n")


def _leave_programs(request: Request, lock: Lock, rootfd: int, emit: Emit) -> None:
    """Put debootstrap's own second stage into /debootstrap."""
    with _opened(rootfd, FOLDER) as folder:
        files = _from_archive(request, lock) or _from_host()
        script = next((one for one in (lock.suite, _usual(lock)) if f"scripts/{one}" in files), "")
        if "debootstrap" not in files or not script:
            emit(
                Note(
                    "neither the archive nor this host has debootstrap: only `ctk bootstrap --second-stage` can finish "
                    "this tree",
                    warning=True,
                )
            )
            return
        write_file(folder, "debootstrap", files["debootstrap"], 0o755)
        write_file(folder, "suite-script", files[f"scripts/{script}"])
        for name, data in files.items():
            if "/" not in name and name != "debootstrap":
                write_file(folder, name, data)
            elif name.endswith("-common"):
                write_file(folder, name.removeprefix("scripts/"), data)


def _usual(lock: Lock) -> str:
    return "gutsy" if lock.distribution == "ubuntu" else "sid"


def _from_archive(request: Request, lock: Lock) -> dict[str, bytes]:
    """debootstrap's files from the archive's package, by their names below /usr/share/debootstrap; {} without one."""
    asked = Request(
        lock.suite,
        request.target,
        variant="extract",
        architecture=request.architecture,
        mirror=request.mirror,
        keyring=request.keyring,
        check_gpg=request.check_gpg,
        check_date=request.check_date,
        certificate=request.certificate,
        private_key=request.private_key,
        include=("debootstrap",),
        snapshot=request.snapshot,
    )
    try:
        found = solve_open(asked, silent)
    except CtkError:
        return {}
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}

    def take(package: Package, deb: int) -> None:
        archive = Deb(deb, package.name).data()
        for entry in archive:
            name = os.fsdecode(entry.name).removeprefix("./")
            short = "debootstrap" if name == _PROGRAM else name.removeprefix(_SHARE)
            if short == "debootstrap" or (name.startswith(_SHARE) and _FETCHED.fullmatch(short)):
                if entry.kind == entries.FILE:
                    files[short] = b"".join(archive.pieces(entry))
                elif entry.kind == entries.SYMLINK:
                    links[short] = os.path.join(os.path.dirname(short), os.path.basename(os.fsdecode(entry.link)))

    try:
        only = tuple(one for one in found.lock.packages if one.name == "debootstrap")
        Download(found.client, found.cache, replace(found.lock, required=only, base=()), take, silent).run()
    except (CtkError, OSError):
        return {}
    finally:
        found.client.close()
    for name, to in links.items():
        if to in files:
            files[name] = files[to]
    return files


def _from_host() -> dict[str, bytes]:
    """The same from the installation on this host; {} without one."""
    files = {}
    with contextlib.suppress(OSError):
        names = ["functions", *(f"scripts/{name}" for name in os.listdir(f"{_HOST}/scripts"))]
        for name, path in (("debootstrap", "/" + _PROGRAM), *((name, f"{_HOST}/{name}") for name in names)):
            with open(path, "rb") as file:
                files[name] = file.read()
    return files


def open_folder(rootfd: int, path: str) -> int:
    """A folder of the tree, made if it is missing. Raises OSError, SystemCall."""
    held = make_directories(rootfd, path)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
    finally:
        os.close(held)


@contextlib.contextmanager
def _opened(rootfd: int, path: str) -> Iterator[int]:
    fd = open_folder(rootfd, path)
    try:
        yield fd
    finally:
        os.close(fd)


def write_file(folder: int, name: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file with exactly `data`. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, mode, dir_fd=folder), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
