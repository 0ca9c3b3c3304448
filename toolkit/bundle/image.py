"""The configuration in an OCI image layout as edits of a spec (image spec: image-layout.md, config.md, conversion.md).

Layers are ignored: something else has to unpack them. Volumes are not mounted (they are hints for engines that manage
volumes).

Images are untrusted: the size of each document is limited, a wrong type is reported as one error, and a label that
would control the runtime (as in containerd CVE-2026-53488) does not become an annotation.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from toolkit.bundle import process, root
from toolkit.bundle.document import Edit, Spec
from toolkit.errors import Invalid, NotFound, Usage, reason
from toolkit.events import Emit, Note, silent
from toolkit.kernel import reading
from toolkit.oci import json_text

_MANIFEST = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_INDEX = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_PREFIX = "org.opencontainers.image."
# Annotations that control a runtime: ours, crun's, and those that runc and crun pass to systemd and CRIU.
STEERING = ("ctk.", "run.oci.", "org.systemd.property.", "org.criu.")
_LIMIT_BYTES = 4 << 20
_DEPTH = 4  # an index may refer to other indexes (image-index.md)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def read(text: str) -> dict[str, Any]:
    """The image configuration for this machine in the layout `text` (DIR or DIR:TAG). Raises NotFound, Invalid."""
    folder, tag = text, ""
    if not os.path.isdir(folder):
        folder, _, tag = text.rpartition(":")
    index_path = os.path.join(folder, "index.json")
    if not folder or not os.path.lexists(index_path):
        raise NotFound(
            f"read the image {text!r}",
            because="no OCI image layout is there (index.json)",
            hint="make one: skopeo copy docker://… oci:DIR, or: podman save --format oci-dir",
        )
    try:
        index = reading.read(index_path, limit_bytes=_LIMIT_BYTES, follow=True)
    except OSError as error:
        raise NotFound(f"read the image's {index_path!r}", because=reason(error)) from None
    descriptor = _choose(_parsed(index, index_path), tag, text)
    for _ in range(_DEPTH):
        document = _parsed(_blob(folder, descriptor), str(descriptor.get("digest")))
        if "manifests" not in document:
            break
        descriptor = _choose(document, "", text)
    config = document.get("config")
    if not isinstance(config, dict):
        raise Invalid("config", "the manifest names no configuration", document=str(descriptor.get("digest")))
    found = _parsed(_blob(folder, config), str(config.get("digest")))
    _check(found, _IMAGE, str(config.get("digest")))
    _check(found.get("config") or {}, _CONFIG, str(config.get("digest")), "config.")
    return found


_TEXT, _TEXTS, _OBJECT, _PAIRS = "a text", "a list of texts", "an object", "an object of texts"
_IMAGE = {
    "os": _TEXT, "architecture": _TEXT, "variant": _TEXT, "os.version": _TEXT, "author": _TEXT, "created": _TEXT,
    "os.features": _TEXTS, "config": _OBJECT,
}  # fmt: skip
_CONFIG = {
    "Entrypoint": _TEXTS, "Cmd": _TEXTS, "Env": _TEXTS, "WorkingDir": _TEXT, "User": _TEXT, "ExposedPorts": _OBJECT,
    "StopSignal": _TEXT, "Labels": _PAIRS,
}  # fmt: skip
_DESCRIPTOR = {"mediaType": _TEXT, "digest": _TEXT, "platform": _OBJECT, "annotations": _PAIRS}


def _check(part: dict[str, Any], kinds: dict[str, str], document: str, path: str = "") -> None:
    """Raise Invalid for a field that does not have its type in the image spec. null counts as absent."""
    for name, kind in kinds.items():
        value = part.get(name)
        if value is None:
            continue
        sound = isinstance(value, str if kind == _TEXT else list if kind == _TEXTS else dict)
        if sound and kind in (_TEXTS, _PAIRS):
            sound = all(isinstance(item, str) for item in (value.values() if kind == _PAIRS else value))
        if not sound:
            raise Invalid(path + name, f"must be {kind}", document=document)


def _choose(index: dict[str, Any], tag: str, text: str) -> dict[str, Any]:
    listed = index.get("manifests") or []
    if not isinstance(listed, list):
        raise Invalid("manifests", "must be a list", document=f"the index of {text!r}")
    found = [entry for entry in listed if isinstance(entry, dict)]
    for entry in found:
        _check(entry, _DESCRIPTOR, f"the index of {text!r}", "manifests[].")
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
    """The content that a descriptor refers to, checked by its digest. Raises NotFound, Invalid."""
    digest = str(descriptor.get("digest") or "")
    match = re.fullmatch(r"(sha256|sha512):([0-9a-f]{64}(?:[0-9a-f]{64})?)", digest)
    if match is None:
        raise Invalid("digest", f"{digest!r} is not a digest that ctk knows", document="the image's index")
    try:
        data = reading.read(os.path.join(folder, "blobs", match[1], match[2]), limit_bytes=_LIMIT_BYTES, follow=True)
    except OSError as error:
        raise NotFound(f"read the image's blob {digest}", because=reason(error)) from None
    if hashlib.new(match[1], data).hexdigest() != match[2]:
        raise Invalid("", "its content does not match its digest", document=digest)
    return data


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    document = json_text.loads(data, name)
    if not isinstance(document, dict):
        raise Invalid("", "the outermost value must be an object", document=name)
    return document


def edits(image: dict[str, Any], rootfs: str, command: Sequence[str], emit: Emit = silent) -> Iterator[Edit]:
    """The edits for an image configuration by conversion.md. `command` replaces its Cmd.

    User names are looked up in `rootfs`. `emit` gets a note about labels left out because they would control the
    runtime. Raises Usage for an unknown user.
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
    found = _annotations(image, config)
    if left_out := sorted(name for name in found if name.startswith(STEERING)):
        names = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        why = "they would control the runtime; use --annotation NAME=VALUE to set one yourself"
        emit(Note(f"labels of the image that do not become annotations: {names} ({why})", warning=True))
    yield _annotate({name: value for name, value in found.items() if name not in left_out})


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
    # Labels come last: an explicit label overrides an implicit annotation (conversion.md, "Annotation Fields").
    return found | {str(name): str(value) for name, value in (config.get("Labels") or {}).items()}


def _annotate(pairs: dict[str, str]) -> Edit:
    def edit(spec: Spec) -> Spec:
        if pairs:
            spec.setdefault("annotations", {}).update(pairs)
        return spec

    return edit


def _user(text: str, rootfs: str) -> str:
    """The image's User (user, uid, user:group and combinations of these) as "UID:GID[,GID…]"."""
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
    """The lines of a regular file of the root, with links followed inside it; none without such a file."""
    try:
        return reading.text(root.inside(rootfs, path), limit_bytes=1 << 20, errors="replace").splitlines()
    except OSError:
        return []
