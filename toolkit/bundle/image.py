"""The configuration in an OCI image layout as edits of a spec (image spec: image-layout.md, config.md, conversion.md).

Layers are ignored: something else has to unpack them.

What a container writes at a volume's path goes where all goes that it writes: for `ctk up IMAGE` and `ctk run --image`
the bundle's folder `writable`, which lives as long as an engine's anonymous volume would. Only where the root is
read-only a volume is mounted: a tmpfs that begins with what the image has there (decision 0017).

Images are untrusted: the size of each document is limited, a wrong type is reported as one error, and a label that
would control the runtime (as in containerd CVE-2026-53488) does not become an annotation.
"""

import os
from collections.abc import Callable, Iterator, Sequence

from toolkit.bundle import process, root
from toolkit.bundle.document import Edit, Spec
from toolkit.errors import Invalid, NotFound, Usage
from toolkit.events import Emit, Note, silent
from toolkit.image.document import platform
from toolkit.image.document.config import ImageConfig
from toolkit.image.document.manifest import Manifest
from toolkit.image.layout import folder
from toolkit.image.name import OCI, Location
from toolkit.image.transfer import tree
from toolkit.kernel import reading

LIMIT_BYTES = 1 << 20
"""Of a file of the root that is read for its users or groups."""

_MOST_VOLUMES = 100
_PREFIX = "org.opencontainers.image."
# Annotations that control a runtime: ours, crun's, and those that runc and crun pass to systemd and CRIU.
STEERING = ("ctk.", "run.oci.", "org.systemd.property.", "org.criu.")


def read(text: str) -> ImageConfig:
    """The image configuration for this machine in the layout `text` (DIR or DIR:TAG).

    Raises NotFound, Usage, Invalid, Untrusted.
    """
    path, tag = text, ""
    if not os.path.isdir(text) and ":" in text:
        path, _, tag = text.rpartition(":")
    source = folder.open_source(Location(OCI, path, tag))
    try:
        host = platform.host()
        stated = [entry.descriptor.platform for entry in source.chosen()]
        if not any(one is None or platform.rank(host, one) for one in stated):
            raise NotFound(f"read the image {text!r}", because=f"none of {len(stated)} is for {host}")
        found = tree.one(source, "", host).documents[-1][1]
        assert isinstance(found, Manifest)
        return tree.configuration(source, found)
    finally:
        source.close()


Lines = Callable[[str], list[str]]
"""The lines of a file of the image's root; none if there is no such file."""


def in_folder(rootfs: str) -> Lines:
    """Files of a root that lies in one folder; links are followed inside it."""

    def lines(path: str) -> list[str]:
        try:
            return reading.text(root.inside(rootfs, path), limit_bytes=LIMIT_BYTES, errors="replace").splitlines()
        except OSError:
            return []

    return lines


def edits(image: ImageConfig, lines: Lines, command: Sequence[str], emit: Emit = silent) -> Iterator[Edit]:
    """The edits for an image configuration by conversion.md. `command` replaces its Cmd.

    User names are looked up in the image's own files by `lines`. `emit` gets a note about labels left out because they
    would control the runtime. Raises Usage for an unknown user, Invalid.
    """
    run = image.run
    words = [*run.entrypoint, *(command or run.cmd)]
    if words:
        yield process.args(words)
    if nameless := [entry for entry in run.env if entry.startswith("=")]:
        raise Invalid("config.Env", f"{nameless[0]!r} has no name before its '='", document="the image's configuration")
    if run.env:
        yield process.environment([entry for entry in run.env if "=" in entry])
    yield process.cwd(run.working_dir or "/")
    if run.user:
        yield process.user(_user(run.user, lines))
    found = _annotations(image)
    if left_out := sorted(name for name in found if name.startswith(STEERING)):
        names = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        why = "they would control the runtime; use --annotation NAME=VALUE to set one yourself"
        emit(Note(f"labels of the image that do not become annotations: {names} ({why})", warning=True))
    yield _annotate({name: value for name, value in found.items() if name not in left_out})
    yield _volumes(run.volumes, emit)


def of_configuration(image: ImageConfig, readonly: bool) -> Spec:
    """A spec with what the configuration says and nothing else. Raises Usage for a user who is a name."""
    spec: Spec = {"root": {"readonly": readonly}}
    for edit in edits(image, lambda _: [], ()):
        spec = edit(spec)
    return spec


def _volumes(paths: Sequence[str], emit: Emit) -> Edit:
    """A tmpfs for each volume, if the root is read-only; a mount that the caller names comes later, on top of it."""

    def edit(spec: Spec) -> Spec:
        if not (spec.get("root") or {}).get("readonly"):
            return spec
        refused = [path for path in paths if not _may_be_volume(path)]
        if refused or len(paths) > _MOST_VOLUMES:
            names = ", ".join(refused[:5]) or f"more than {_MOST_VOLUMES}"
            emit(Note(f"volumes of the image that are not mounted: {names}", warning=True))
        mounts = spec.setdefault("mounts", [])
        taken = {os.path.normpath(one["destination"]) for one in mounts}
        for path in sorted({os.path.normpath(path) for path in paths[:_MOST_VOLUMES] if path not in refused} - taken):
            options = ["nosuid", "nodev", "tmpcopyup"]
            mounts.append({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options})
        return spec

    return edit


def _may_be_volume(path: str) -> bool:
    """Not the root, and nothing that the kernel shows: a file system over /proc would hide its masks (CVE-2019-16884).

    Where links on the path lead is the runtime's to see to.
    """
    words = [word for word in path.split("/") if word not in ("", ".")]
    return path.startswith("/") and bool(words) and ".." not in words and words[0] not in ("proc", "sys", "dev")


def _annotations(image: ImageConfig) -> dict[str, str]:
    found = {
        "os": image.platform.os,
        "architecture": image.platform.architecture,
        "variant": image.platform.variant,
        "os.version": image.os_version,
        "author": image.author,
        "created": image.created,
        "os.features": ",".join(image.os_features),
        "exposedPorts": ",".join(image.run.exposed_ports),
        "stopSignal": image.run.stop_signal,
    }
    # Labels come last: an explicit label overrides an implicit annotation (conversion.md, "Annotation Fields").
    return {_PREFIX + name: value for name, value in found.items() if value} | image.run.labels


def _annotate(pairs: dict[str, str]) -> Edit:
    def edit(spec: Spec) -> Spec:
        if pairs:
            spec.setdefault("annotations", {}).update(pairs)
        return spec

    return edit


def _user(text: str, lines: Lines) -> str:
    """The image's User (user, uid, user:group and combinations of these) as "UID:GID[,GID…]"."""
    name, colon, group = text.partition(":")
    users = [line.split(":") for line in lines("/etc/passwd")]
    groups = [line.split(":") for line in lines("/etc/group")]
    entry = next((fields for fields in users if len(fields) > 3 and name in (fields[0], fields[2])), None)
    if not name.isdecimal() and entry is None:
        raise Usage(
            f"find the image's user {name!r}",
            because="the root has no such user in etc/passwd",
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
        raise Usage(f"find the image's group {group!r}", because="the root has no such group in etc/group")
    return f"{uid}:{gid}"
