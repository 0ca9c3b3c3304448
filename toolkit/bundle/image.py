"""An OCI image layout's configuration as edits of a spec (image spec: image-layout.md, config.md, conversion.md).

Layers are not looked at: the root file system is somebody else's work. Volumes are not mounted (they are hints for
engines that manage volumes).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from toolkit.bundle import process, root
from toolkit.bundle.document import Edit, Spec
from toolkit.errors import Invalid, NotFound, Usage

_MANIFEST = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_INDEX = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_PREFIX = "org.opencontainers.image."
_LIMIT_BYTES = 4 << 20
_DEPTH = 4  # an index may name indexes (image-index.md)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def read(text: str) -> dict[str, Any]:
    """The image configuration in the layout `text` (DIR or DIR:TAG), for this machine. Raises NotFound, Invalid."""
    folder, tag = text, ""
    if not os.path.isdir(folder):
        folder, _, tag = text.rpartition(":")
    index_path = os.path.join(folder, "index.json")
    if not folder or not os.path.isfile(index_path):
        raise NotFound(
            f"read the image {text!r}",
            because="no OCI image layout is there (index.json)",
            hint="make one: skopeo copy docker://… oci:DIR, or: podman save --format oci-dir",
        )
    with open(index_path, "rb") as file:
        descriptor = _choose(_parsed(file.read(_LIMIT_BYTES), index_path), tag, text)
    for _ in range(_DEPTH):
        document = _parsed(_blob(folder, descriptor), str(descriptor.get("digest")))
        if "manifests" not in document:
            break
        descriptor = _choose(document, "", text)
    config = document.get("config")
    if not isinstance(config, dict):
        raise Invalid("config", "the manifest names no configuration", document=str(descriptor.get("digest")))
    return _parsed(_blob(folder, config), str(config.get("digest")))


def _choose(index: dict[str, Any], tag: str, text: str) -> dict[str, Any]:
    found = [entry for entry in index.get("manifests") or () if isinstance(entry, dict)]
    found = [entry for entry in found if entry.get("mediaType", _MANIFEST[0]) in (*_MANIFEST, *_INDEX)]
    if tag:
        found = [entry for entry in found if (entry.get("annotations") or {}).get(f"{_PREFIX}ref.name") == tag]
    machine = os.uname().machine
    ours = {"os": "linux", "architecture": _MACHINES.get(machine, machine)}
    fitting = [entry for entry in found if {**ours, **(entry.get("platform") or {})}.items() >= ours.items()]
    if len(fitting) == 1 or (fitting and all("platform" in entry for entry in fitting)):
        return fitting[0]
    known = [(entry.get("annotations") or {}).get(f"{_PREFIX}ref.name") for entry in found]
    tags = ", ".join(sorted(name for name in known if name))
    if fitting:
        raise Usage(f"read the image {text!r}", because="there are several", hint=f"name one as DIR:TAG: {tags}")
    because = f"none of {len(found)} is for linux/{ours['architecture']}" if found else "there is no such image"
    raise NotFound(f"read the image {text!r}", because=because, hint=f"its tags: {tags}" if tags else "")


def _blob(folder: str, descriptor: dict[str, Any]) -> bytes:
    """The bytes that a descriptor names, checked by its digest. Raises NotFound, Invalid."""
    digest = str(descriptor.get("digest") or "")
    match = re.fullmatch(r"(sha256|sha512):([0-9a-f]{64}(?:[0-9a-f]{64})?)", digest)
    if match is None:
        raise Invalid("digest", f"{digest!r} is none that we know", document="the image's index")
    try:
        with open(os.path.join(folder, "blobs", match[1], match[2]), "rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise NotFound(f"read the image's blob {digest}", because=(error.strerror or "").lower()) from None
    if len(data) > _LIMIT_BYTES or hashlib.new(match[1], data).hexdigest() != match[2]:
        raise Invalid("", "its content is not what its name says", document=digest)
    return data


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise Invalid("", f"not JSON: {error}", document=name) from None
    if not isinstance(document, dict):
        raise Invalid("", "the outermost value must be an object", document=name)
    return document


def edits(image: dict[str, Any], rootfs: str, command: Sequence[str]) -> Iterator[Edit]:
    """What conversion.md makes of an image configuration; `command` stands in place of its Cmd.

    `rootfs` is where names of users are looked up. Raises Usage for a user that it does not know.
    """
    config = image.get("config") or {}
    words = [*(config.get("Entrypoint") or ()), *(command or config.get("Cmd") or ())]
    if words:
        yield process.args(words)
    if config.get("Env"):
        yield process.environment([entry for entry in config["Env"] if "=" in entry])
    yield process.cwd(config.get("WorkingDir") or "/")
    if config.get("User"):
        yield process.user(_user(str(config["User"]), rootfs))
    yield _annotate(_annotations(image, config))


def _annotations(image: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    found = {
        _PREFIX + name: str(image[field])
        for field, name in (
            ("os", "os"), ("architecture", "architecture"), ("variant", "variant"), ("os.version", "os.version"),
            ("author", "author"), ("created", "created"),
        )
        if image.get(field)
    }  # fmt: skip
    if image.get("os.features"):
        found[_PREFIX + "os.features"] = ",".join(image["os.features"])
    if config.get("ExposedPorts"):
        found[_PREFIX + "exposedPorts"] = ",".join(config["ExposedPorts"])
    if config.get("StopSignal"):
        found[_PREFIX + "stopSignal"] = str(config["StopSignal"])
    # Labels come last: what is said there outweighs what is concluded (conversion.md, "Annotation Fields").
    return found | {str(name): str(value) for name, value in (config.get("Labels") or {}).items()}


def _annotate(pairs: dict[str, str]) -> Edit:
    def edit(spec: Spec) -> Spec:
        if pairs:
            spec.setdefault("annotations", {}).update(pairs)
        return spec

    return edit


def _user(text: str, rootfs: str) -> str:
    """ "UID:GID[,GID…]" for the image's User: user, uid, user:group and their mixtures."""
    name, colon, group = text.partition(":")
    users = [line.split(":") for line in _lines(rootfs, "/etc/passwd")]
    groups = [line.split(":") for line in _lines(rootfs, "/etc/group")]
    entry = next((fields for fields in users if len(fields) > 3 and name in (fields[0], fields[2])), None)
    if not name.isdecimal() and entry is None:
        raise Usage(
            f"find the image's user {name!r}",
            because=f"{rootfs!r} has no such user in etc/passwd",
            hint="unpack the image there first, or give --user UID:GID",
        )
    uid = name if name.isdecimal() else (entry or [])[2]
    if not colon:
        more = [fields[2] for fields in groups if len(fields) > 3 and entry and entry[0] in fields[3].split(",")]
        first = entry[3] if entry else "0"
        return f"{uid}:" + ",".join(dict.fromkeys([first, *more]))
    if group.isdecimal():
        return f"{uid}:{group}"
    gid = next((fields[2] for fields in groups if len(fields) > 2 and fields[0] == group), "")
    if not gid:
        raise Usage(f"find the image's group {group!r}", because=f"{rootfs!r} has no such group in etc/group")
    return f"{uid}:{gid}"


def _lines(rootfs: str, path: str) -> list[str]:
    """The lines of a file of the root's, links followed inside it; none if there is no such regular file."""
    whole = root.inside(rootfs, path)
    try:
        if not os.path.isfile(whole):
            return []
        with open(whole, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).splitlines()
    except OSError:
        return []
