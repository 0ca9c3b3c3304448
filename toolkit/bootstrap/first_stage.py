"""`--foreign`: the half of a bootstrap in which no program of the tree runs, left so that others can finish it.

What is left is what `debootstrap --foreign` leaves: the required packages' files, every .deb in APT's folder, and
/debootstrap with the facts and with debootstrap's own second stage (taken from the archive's package of that name, else
the host's). So the other half is `ctk bootstrap --second-stage` (second_stage.py) or, on the machine itself,
`/debootstrap/debootstrap --second-stage`.

Source: debootstrap 1.0.128, the phases save_variables and first_stage.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from toolkit.bootstrap import customise, seed
from toolkit.bootstrap.database import Database
from toolkit.bootstrap.deb_folder import deb_name
from toolkit.bootstrap.download import Download
from toolkit.bootstrap.model import Lock, Package, Request
from toolkit.bootstrap.solve import Solved, solve_open
from toolkit.bootstrap.stage import stage
from toolkit.bootstrap.unpack import Unpacker
from toolkit.deb import tar
from toolkit.deb.archive import Deb
from toolkit.deb.control import write
from toolkit.errors import CtkError
from toolkit.events import Emit, Finished, Note, Started, silent
from toolkit.kernel.beneath import make_directories

FOLDER = "debootstrap"
ARCHIVES = "var/cache/apt/archives"
LISTS = "var/lib/apt/lists"
STAGES = (("download", "Download"), ("unpack", "Unpack"), ("seed", "Lay the foundations"))

_HOST = "/usr/share/debootstrap"
_PROGRAM = "usr/sbin/debootstrap"
_SHARE = "usr/share/debootstrap/"
_FETCHED = re.compile(r"(functions|pkgdetails|scripts/[a-z0-9.-]+)")


def first_stage(request: Request, solved: Solved, target: str, rootfd: int, log_path: str, emit: Emit) -> None:
    """Make the first half of the tree of `solved.lock` in the empty directory `rootfd`. Raises CtkErrors, OSError."""
    lock = solved.lock
    custom = customise.Customiser(request.custom, target, rootfd, lock, log_path, b"", emit)
    custom.setup()
    first = replace(lock, base=())
    unpacker = Unpacker(rootfd, first, emit, merged_usr=request.custom.merged_usr, skips=custom.skips)
    required = {(one.name, one.architecture) for one in lock.required}
    archives = _folder(rootfd, ARCHIVES)

    def take(package: Package, deb: int) -> None:
        _keep(archives, package, deb)
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
        seed.etc(rootfd, lock, request.custom)
        seed.dev(rootfd, emit)
        _leave(request, lock, rootfd, emit)
    custom.extracted()


def list_name(mirror: str, suite: str, architecture: str) -> str:
    """What debootstrap calls the index of component main in APT's folder of lists."""
    path = f"{mirror.rstrip('/')}_dists/{suite}/main/binary-{architecture}/Packages"
    return re.sub(r"^[^:]+://", "", path).replace("/", "_")


def _keep(archives: int, package: Package, deb: int) -> None:
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


def _leave(request: Request, lock: Lock, rootfd: int, emit: Emit) -> None:
    """/debootstrap, and the index of the packages (debootstrap's second stage looks dependencies up in it)."""
    mirror = lock.sources[0].mirror
    packages = lock.packages
    with _opened(rootfd, LISTS) as lists:
        text = "".join(write(one.paragraph) + "\n" for one in packages)
        _write(lists, list_name(mirror, lock.suite, lock.architecture), text.encode())
    with _opened(rootfd, FOLDER) as folder:
        facts = {
            "arch": lock.architecture,
            "suite": lock.suite,
            "mirror": mirror,
            "variant": "" if lock.variant == "-" else lock.variant,
            "required": " ".join(one.name for one in lock.required),
            "base": " ".join(one.name for one in lock.base),
            "debpaths": "\n".join(f"{one.name} /{ARCHIVES}/{deb_name(one)}" for one in packages),
        }
        for name, value in facts.items():
            if value or name not in ("variant",):
                _write(folder, name, value.encode() + b"\n")
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
        _write(folder, "debootstrap", files["debootstrap"], 0o755)
        _write(folder, "suite-script", files[f"scripts/{script}"])
        for name, data in files.items():
            if "/" not in name and name != "debootstrap":
                _write(folder, name, data)
            elif name.endswith("-common"):
                _write(folder, name.removeprefix("scripts/"), data)


def _usual(lock: Lock) -> str:
    return "gutsy" if lock.distribution == "ubuntu" else "sid"


def _from_archive(request: Request, lock: Lock) -> dict[str, bytes]:
    """debootstrap's files from the archive's own package, by their names below /usr/share/debootstrap; {} without."""
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
                if entry.kind == tar.FILE:
                    files[short] = b"".join(archive.pieces(entry))
                elif entry.kind == tar.SYMLINK:
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
    """The same from this host's installation; {} without one."""
    files = {}
    with contextlib.suppress(OSError):
        names = ["functions", *(f"scripts/{name}" for name in os.listdir(f"{_HOST}/scripts"))]
        for name, path in (("debootstrap", "/" + _PROGRAM), *((name, f"{_HOST}/{name}") for name in names)):
            with open(path, "rb") as file:
                files[name] = file.read()
    return files


def _folder(rootfd: int, path: str) -> int:
    held = make_directories(rootfd, path)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
    finally:
        os.close(held)


@contextlib.contextmanager
def _opened(rootfd: int, path: str) -> Iterator[int]:
    fd = _folder(rootfd, path)
    try:
        yield fd
    finally:
        os.close(fd)


def _write(folder: int, name: str, data: bytes, mode: int = 0o644) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, mode, dir_fd=folder), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
