"""`--unpack-tarball`: the packages in a tarball (tarball_write.py makes them), and their lock.

As with debootstrap, the file is trusted: its packages are checked against the hashes in it, not against a signature.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from toolkit.archive.compressed_tar import plain_pieces
from toolkit.archive.entries import FILE
from toolkit.archive.tar_read_any import AnyTar
from toolkit.bootstrap.acquire import mirrors
from toolkit.bootstrap.facts import debootstrap_files, suites
from toolkit.bootstrap.facts.architectures import is_native
from toolkit.bootstrap.facts.model import Lock, Package, Request, Source
from toolkit.bootstrap.facts.pool import Member, package_of
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.resolve import lockfile
from toolkit.bootstrap.resolve.resolve import lock as make_lock
from toolkit.deb.archive import Deb
from toolkit.deb.control import parse
from toolkit.deb.index import Index
from toolkit.errors import Malformed, NotFound, Untrusted, Usage, reason
from toolkit.events import Emit, Finished, Note
from toolkit.fetch.cache import Cache
from toolkit.fetch.logins import bare

_FACTS = ("suite", "arch", "required", "base", "debpaths")
_FACT_BYTES = 256 << 20  # of all indexes; sid's main has 60 MB
# Options that would change the set of packages, which is given by the tarball.
_CHOOSING = (
    "exclude", "pockets", "sources", "source_files", "pins", "preferences", "include_files", "recommends", "snapshot",
    "locked",
)  # fmt: skip


def open_lock(request: Request, cache: Cache, emit: Emit) -> Lock:
    """The lock of the packages in the file `request.unpack_tarball`; puts them all into `cache`. Uses no network.

    Raises NotFound, Malformed, Untrusted (a package differs from the tarball's own index), Usage (the request
    contradicts the tarball).
    """
    path = request.unpack_tarball
    for name in _CHOOSING:
        if getattr(request, name):
            option = "--" + name.replace("_", "-").removesuffix("s")
            raise Usage(
                f"take the packages of {path!r}",
                because=f"its packages are fixed, and {option} would change them",
                hint=f"make the tarball with {option}: --make-tarball FILE",
            )
    for name in ("release", "index"):
        emit(Finished(name, 0.0, "given by the tarball", skipped=True))
    with stage("resolve", emit) as report:
        found = _Found(path, cache)
        lock = found.lock(request)
        there = {one.name for one in lock.packages}
        missing = [word for word in request.include if word not in there]
        if missing:
            raise NotFound(
                f"include {missing[0]!r}",
                because=f"{path!r} has no such package",
                hint="--make-tarball FILE --include … makes one that has",
            )
        report.detail = f"{len(lock.packages)} packages of {path}"
    emit(Note(f"no signature of the archive is checked for the packages of {path}: its maker is trusted"))
    return lock


class _Found:
    """The contents of a tarball. Reading it puts its packages into the cache."""

    def __init__(self, path: str, cache: Cache) -> None:
        self._path = path
        what = f"the tarball {path!r}"
        self._doing = f"read {what}"
        self._facts: dict[str, str] = {}
        self._held_bytes = 0
        self._indexes: list[tuple[str, Index]] = []  # with their components
        self._debs: dict[str, tuple[str, int, dict[str, str]]] = {}  # file name: hash, size, control file
        try:
            with plain_pieces(path, what) as stream:
                members = AnyTar(stream, what)
                for one in members:
                    if one.kind == FILE:
                        self._take(os.fsdecode(one.name).removeprefix("./"), one.size_bytes, members.pieces(one), cache)
        except OSError as error:
            raise NotFound(self._doing, because=reason(error)) from None

    def _take(self, name: str, size: int, pieces: Iterator[memoryview], cache: Cache) -> None:
        folder, _, last = name.rpartition("/")
        if folder == debootstrap_files.ARCHIVES and last.endswith(".deb"):
            fd, digest = cache.add(map(bytes, pieces), size)
            with open(fd, "rb"):
                control = Deb(fd, last).control()["control"].data
            self._debs[last] = (digest, size, parse(control, what=f"the control file of {last!r}"))
            return
        is_index = folder == debootstrap_files.LISTS and last.endswith("_Packages")
        if not is_index and folder != debootstrap_files.FOLDER:
            return
        self._held_bytes += size
        if self._held_bytes > _FACT_BYTES:
            raise Malformed(self._doing, because=f"its indexes and lists have more than {_FACT_BYTES} bytes: {name!r}")
        if is_index:
            match = re.search(r"_dists_.+_([^_]+)_binary-[^_]+_Packages\Z", last)
            component = match[1] if match else "main"
            self._indexes.append((component, Index(b"".join(pieces), what=f"{name!r} of {self._path!r}")))
        else:
            self._facts[last] = b"".join(pieces).decode(errors="replace")

    def lock(self, request: Request) -> Lock:
        """Raises like `open_lock`."""
        if debootstrap_files.OWN in self._facts:
            try:
                document = json.loads(self._facts[debootstrap_files.OWN])
            except (ValueError, RecursionError) as error:
                raise Malformed(self._doing, because=f"its {debootstrap_files.OWN} is not JSON: {error}") from None
            lock = lockfile.of_document(document, self._path, request)
        else:
            lock = self._theirs(request)
        hashes = {digest for digest, _, _ in self._debs.values()}
        for one in lock.packages:
            if one.sha256 not in hashes:
                raise Untrusted(
                    self._doing,
                    because=f"the package {one.name!r} in it is missing, or is not the one in its lock",
                    hint="make it again: it is incomplete, or was changed",
                )
        self._check_variant(request, lock.variant)
        return lock

    def _check_variant(self, request: Request, variant: str) -> None:
        if request.variant not in ("-", variant):
            raise Usage(self._doing, because=f"it is of the variant {variant!r}, not {request.variant!r}")

    def _theirs(self, request: Request) -> Lock:
        facts = {name: text.strip() for name, text in self._facts.items()}
        missing = next((name for name in _FACTS if name not in facts), "")
        if missing:
            raise Malformed(
                self._doing,
                because=f"there is no {debootstrap_files.FOLDER}/{missing} in it",
                hint="`ctk bootstrap --make-tarball FILE` and debootstrap's option of that name make such files",
            )
        suite = suites.lookup(facts["suite"]) if _known(facts["suite"]) else suites.unknown(facts["suite"])
        asked = suites.lookup(request.suite).codename if _known(request.suite) else request.suite
        if asked != suite.codename:
            raise Usage(self._doing, because=f"it is of suite {suite.codename!r}, not {request.suite!r}")
        architecture = facts["arch"]
        if request.architecture not in ("", architecture):
            raise Usage(self._doing, because=f"it is for {architecture!r}, not {request.architecture!r}")
        paths = dict(line.split(None, 1) for line in facts["debpaths"].splitlines() if line.strip())
        required, base = (
            tuple(self._package(name, paths, architecture) for name in sorted(set(facts[key].split())))
            for key in ("required", "base")
        )
        distribution = suite.distribution.name if suite.distribution else "debian"
        source = Source(
            mirror=self._mirror(request, suite, architecture, facts.get("deburis", "")),
            suite=facts["suite"],
            codename=suite.codename,
            origin=distribution.title(),
            components=request.components or tuple(dict.fromkeys(one for one, _ in self._indexes)) or ("main",),
            date="",
            release_sha256="",
        )
        extra = (replace(source, suite=name, codename=name) for name in facts.get("extra-suites", "").split())
        return make_lock(
            suite=suite.codename,
            distribution=distribution,
            variant=facts.get("variant") or "-",
            architecture=architecture,
            sources=(source, *extra),
            required=required,
            base=base,
        )

    def _package(self, name: str, paths: dict[str, str], architecture: str) -> Package:
        last = paths.get(name, "").rpartition("/")[2]
        if last not in self._debs:
            raise NotFound(self._doing, because=f"the package {name!r} is not in it", hint="make it again")
        digest, size, control = self._debs[last]
        fields, component = control, "main"
        for listed, index in self._indexes:
            found = index.get(name)
            if found is None or found.get("Version") != control.get("Version"):
                continue
            if found.get("SHA256", digest) != digest:
                raise Untrusted(self._doing, because=f"{last!r} in it is not the package that its index describes")
            fields, component = dict(found), listed
        whole = {"Filename": f"pool/{last}"} | fields | {"Size": str(size), "SHA256": digest}
        return package_of(Member(0, component, Index(b"", what=self._path)), whole, architecture)

    def _mirror(self, request: Request, suite: suites.Suite, architecture: str, uris: str) -> str:
        """The mirror for the tree's sources.list: the request's, the one that the packages are from, or the usual."""
        for line in uris.splitlines() if not request.mirror else ():
            mirror, slash, _ = line.split()[-1].partition("/pool/") if line.strip() else ("", "", "")
            if slash:
                return bare(mirror)
        today = time.strftime("%Y-%m-%d", time.gmtime())
        native = is_native(architecture)
        return bare(mirrors.choose(suite, architecture, request.mirror, today=today, native=native)[0].mirror)


def _known(name: str) -> bool:
    try:
        suites.lookup(name)
    except NotFound:
        return False
    return True
