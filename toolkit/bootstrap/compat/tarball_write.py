"""debootstrap's tarballs of packages (`--make-tarball`, `--unpack-tarball`): all of a build in one file, for later or
for a machine without a network. Each program reads those of the other.

    var/cache/apt/archives/NAME_VERSION_ARCH.deb
    var/lib/apt/lists/…_Packages       their paragraphs of the archive's index
    debootstrap/{suite,arch,variant}   and the lists required, base (names), debpaths (name, path)
    debootstrap/deburis                where they came from (for debootstrap)
    debootstrap/ctk.lock               all of that, and sources, hashes, pins (for ctk; debootstrap ignores it)

As with debootstrap, the file is trusted: its packages are checked against the hashes in it, not against a signature.

Source: debootstrap 1.0.128, the phases maketarball and first_stage; functions: apt_dest, download_debs.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from toolkit.archive import streams, tar_write, walk
from toolkit.archive.entries import Entry
from toolkit.archive.epoch import epoch_s
from toolkit.bootstrap.compat import first_stage
from toolkit.bootstrap.facts import debootstrap_files
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.output import finished, outputs, work_folder
from toolkit.bootstrap.plan import download_only, plan_build
from toolkit.bootstrap.resolve import lockfile
from toolkit.errors import Usage
from toolkit.events import Done, Emit, Planned
from toolkit.kernel.beneath import make_directories
from toolkit.text import quote

STAGES = (*download_only.STAGES, outputs.STAGE)


def make(request: Request, path: str, emit: Emit) -> Lock:
    """Write the packages of `request` to the file `path`, a gzipped tar. Needs neither root nor a target.

    Raises any ArchiveError, NotFound, Usage, InUse (the file exists, and `restart` is not set); no new file is left.
    """
    download_only.check(request, "--make-tarball")
    began = time.monotonic()
    emit(Planned(STAGES))
    with outputs.Part(replace(request, target=path)) as part, work_folder.make() as work:
        solved = plan_build.solve_open(plan_build.understood(request, emit), emit)
        lock = solved.lock
        rootfd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_one_architecture(lock)
            archives = first_stage.open_folder(rootfd, debootstrap_files.ARCHIVES)
            try:
                done = download_only.fetch(request, solved, lambda one, deb: first_stage.keep(archives, one, deb), emit)
            finally:
                os.close(archives)
            first_stage.leave_lists(lock, rootfd)
            first_stage.leave_facts(lock, rootfd)
            folder = make_directories(rootfd, debootstrap_files.FOLDER)
            try:
                first_stage.write_file(
                    folder, debootstrap_files.OWN, json.dumps(lockfile.document(lock), indent=1).encode() + b"\n"
                )
            finally:
                os.close(folder)
            with stage(outputs.STAGE[0], emit) as report:
                try:
                    finished.write_all(part.fd, streams.gzip(tar_write.segments(rootfd, _members(rootfd))))
                    part.name()
                except OSError as error:
                    raise outputs.failed(path, error) from None
                size = os.fstat(part.fd).st_size
                report.detail = f"{size / 1e6:.1f} MB"
        finally:
            os.close(rootfd)
            solved.client.close()
    text = f"{len(lock.packages)} packages of {lock.title} are in {path}"
    facts = download_only.as_json(lock, done) | {"tarball": os.path.abspath(path), "file_bytes": size}
    step = "ctk bootstrap " + " ".join(map(quote, (request.suite, f"./{request.suite}", "--unpack-tarball", path)))
    emit(Done(text, round(time.monotonic() - began, 3), facts, (step,)))
    return lock


def _check_one_architecture(lock: Lock) -> None:
    for one in lock.packages:
        if one.architecture not in (lock.architecture, "all"):
            raise Usage(
                "make a tarball as debootstrap's",
                because=f"{lock.key(one)!r} is of another architecture, which this format can't express",
                hint="use --download-only --lock FILE, and later --locked FILE",
            )


def _members(rootfd: int) -> Iterator[Entry]:
    """The members of the tarball: owned by root, whoever makes it, with times by SOURCE_DATE_EPOCH."""
    for entry in walk.walk(rootfd, latest_s=epoch_s()):
        entry.uid = entry.gid = 0
        entry.xattrs = {}
        if entry.name:
            yield entry
