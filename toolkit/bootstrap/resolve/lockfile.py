"""A lock as a file: the exact packages of a build with their hashes, their sources, and all that a build of the same
tree needs of their indexes. The result file beside a tree contains the same (target.write_result).

A lock file is trusted: --locked fetches by its hashes and checks no signature.
"""

import json
import os
import re
from dataclasses import asdict, fields, replace
from typing import Any

from toolkit.bootstrap import beside
from toolkit.bootstrap.facts.model import Lock, Package, Request, Source
from toolkit.bootstrap.facts.pool import Member, package_of
from toolkit.bootstrap.resolve.resolve import lock as make_lock
from toolkit.deb.index import Index
from toolkit.errors import CtkError, Malformed, NotFound, Usage, reason
from toolkit.fetch.logins import bare
from toolkit.kernel import reading
from toolkit.text import quote

VERSION = 1
_TEXTS = ("suite", "distribution", "variant", "architecture", "preferences")


_MOST_BYTES = 256 << 20  # large enough for the result file beside a tree, which lists all paths


def document(lock: Lock) -> dict[str, Any]:
    """The lock as a JSON document."""
    return {
        "version": VERSION,
        "build_id": lock.build_id,
        "epoch": os.environ.get("SOURCE_DATE_EPOCH", ""),
        **{name: getattr(lock, name) for name in _TEXTS},
        "sources": [asdict(source) for source in lock.sources],
        "packages": [
            {
                "name": one.name,
                "version": one.version,
                "architecture": one.architecture,
                "sha256": one.sha256,
                "size": one.size_bytes,
                "source": one.source,
                "component": one.component,
                "required": number < len(lock.required),
                "fields": dict(one.paragraph),
            }
            for number, one in enumerate(lock.packages)
        ],
    }


def write(lock: Lock, path: str) -> None:
    """Write the file atomically. Raises CtkError."""
    try:
        beside.write(path, json.dumps(document(lock), indent=1) + "\n")
    except OSError as error:
        raise CtkError(f"write the lock {path!r}", because=reason(error)) from None


def load(path: str) -> dict[str, Any]:
    """The document of a lock file, or of the result file beside a tree. Raises NotFound, Malformed."""
    doing = f"read the lock {path!r}"
    try:
        found = json.loads(reading.text(path, limit_bytes=_MOST_BYTES))
    except OSError as error:
        raise NotFound(doing, because=reason(error)) from None
    except (ValueError, RecursionError) as error:
        raise Malformed(doing, because=f"it is not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("lock"), dict):
        found = found["lock"]
    if not isinstance(found, dict) or not isinstance(found.get("packages"), list):
        raise Malformed(doing, because="it is not a lock of ctk", hint="--lock FILE writes one")
    return found


def read(path: str, request: Request) -> Lock:
    """The lock in a file, checked like an index. A mirror in `request` replaces the suite's own.

    Raises NotFound, Malformed, Usage (the request contradicts the lock).
    """
    found = load(path)
    _check_epoch(found, f"read the lock {path!r}")
    return of_document(found, path, request)


def of_document(found: dict[str, Any], path: str, request: Request) -> Lock:
    """The same for a document of `document`, without the check of SOURCE_DATE_EPOCH. Raises Malformed, Usage."""
    doing = f"read the lock {path!r}"
    if found.get("version") != VERSION:
        raise Malformed(doing, because=f"it is of version {found.get('version')!r}, ctk reads {VERSION}")
    try:
        known = {field.name for field in fields(Source)}
        sources = []
        for written in found["sources"]:
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in written.items()
            }
            sources.append(Source(**{key: value for key, value in values.items() if key in known}))
        texts = {name: str(found[name]) for name in _TEXTS}
        required: list[Package] = []
        base: list[Package] = []
        for written in found["packages"]:
            package = _package(written, texts["architecture"], path)
            sources[package.source]
            (required if written["required"] else base).append(package)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise Malformed(doing, because=f"a field is missing or has the wrong type: {error}") from None
    _check_request(request, texts, sources, doing)
    if request.mirror and sources:
        old, new = sources[0].mirror, request.mirror.rstrip("/")
        # Pockets of the same mirror are replaced too.
        sources = [replace(one, mirror=new) if one.mirror == old else one for one in sources]
    sources = [replace(one, mirror=bare(one.mirror)) for one in sources]
    return make_lock(sources=tuple(sources), required=tuple(required), base=tuple(base), **texts)


def _package(written: dict[str, Any], architecture: str, path: str) -> Package:
    """Checked like a paragraph of an index: the file may come from somebody else."""
    paragraph = {str(key): str(value) for key, value in written["fields"].items()}
    name = paragraph.get("Package", "")
    index = Index(b"", what=f"the lock {path!r}")
    own = written["architecture"] if written["architecture"] != "all" else architecture
    if not re.fullmatch(r"\d{1,6}", str(written["source"])):
        raise TypeError(f"source of {name!r}")
    package = package_of(Member(written["source"], str(written["component"]), index), paragraph, own)
    stated = (package.name, package.version, package.architecture, package.sha256, package.size_bytes)
    if stated != tuple(written[key] for key in ("name", "version", "architecture", "sha256", "size")):
        raise Malformed(f"read the lock {path!r}", because=f"it contradicts itself about package {name!r}")
    return package


def _check_epoch(found: dict[str, Any], doing: str) -> None:
    epoch, here = str(found.get("epoch", "")), os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch != here:
        raise Usage(
            doing,
            because=f"it was made with SOURCE_DATE_EPOCH={epoch or '(unset)'}, which is now {here or '(unset)'}",
            hint=f"export SOURCE_DATE_EPOCH={quote(epoch)}" if epoch else "unset SOURCE_DATE_EPOCH",
        )


def _check_request(request: Request, texts: dict[str, str], sources: list[Source], doing: str) -> None:
    names = {texts["suite"], *(source.suite for source in sources[:1])}
    if request.suite not in names:
        from toolkit.bootstrap.facts.suites import lookup

        try:
            known = lookup(request.suite).codename
        except NotFound:
            known = ""
        if known not in names:
            raise Usage(doing, because=f"it is of suite {texts['suite']!r}, not {request.suite!r}")
    if request.architecture and request.architecture != texts["architecture"]:
        raise Usage(doing, because=f"it is for {texts['architecture']!r}, not {request.architecture!r}")
