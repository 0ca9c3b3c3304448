"""`ctk image explain`: an image of the store, document by document and layer by layer, with lines that show the same.

The lines are for sh with coreutils, jq and tar, in the store's folder. What a field becomes in config.json is found out
by converting a configuration that has that field alone, so it can't be told otherwise than it is done.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from toolkit.errors import Usage
from toolkit.explain.pull.steps import PACKED, check
from toolkit.image.digest import split
from toolkit.image.document import config as configs
from toolkit.image.document import media_types
from toolkit.image.document.config import ImageConfig
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index
from toolkit.image.document.platform import Platform
from toolkit.image.layer import names
from toolkit.image.layer.apply import USERXATTR
from toolkit.image.layer.forms import form_here
from toolkit.image.store import reach, tars, use
from toolkit.image.store.store import Image, Store
from toolkit.oci import json_text
from toolkit.text import quote

Convert = Callable[[ImageConfig, bool], dict[str, Any]]
"""The spec that a configuration alone makes; the second argument is whether the root is read-only. Raises Usage."""

_REF = "org.opencontainers.image.ref.name"


class Step(NamedTuple):
    """A thing that is so, in a sentence; what belongs to it, a line each; shell lines that show it."""

    sentence: str
    comments: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {"what": self.sentence, "facts": list(self.comments), "shell": list(self.shell)}


def steps(store: Store, name: str, wanted: Platform | None, convert: Convert) -> Iterator[Step]:
    """What the image consists of, and what becomes of it. Raises NotFound, Usage, Invalid, Untrusted, Malformed."""
    with closing(store.source(name)) as source:
        image = store.image(name, wanted)
        configs.check_layers(image.config, len(image.manifest.layers), image.manifest.config.digest)
        layers = list(zip(image.manifest.layers, image.config.diff_ids, strict=True))
        yield _store(store, source.top)
        if image.top.digest != image.digest:
            yield _index(store, image)
        yield _manifest(image)
        described = image.manifest.config
        yield Step(
            f"{_said(described)} is the configuration. Its digest is the image's id, as docker and podman show it.",
            shell=(check(described.digest, _blob(described.digest)), f"jq . {_blob(described.digest)}"),
        )
        yield Step(
            "The configuration becomes config.json (image-spec 1.1, conversion.md), field by field.",
            tuple(_fields(image.config, convert)),
        )
        for number, (blob, diff_id) in enumerate(layers, 1):
            yield _layer(store, blob, diff_id, number, len(layers))
        yield _root(store, image.config.diff_ids)


def _store(store: Store, top: Descriptor) -> Step:
    query = f'.manifests[] | select(.annotations["{_REF}"] == {json.dumps(top.name)}).digest'
    told = (
        f"The store is an OCI image layout: index.json has the names, and {top.name or 'this image'} is {top.digest}."
    )
    lines = (f"cd {quote(store.place.folder)}", *((f"jq -r {quote(query)} index.json",) if top.name else ()))
    return Step(told, shell=lines)


def _index(store: Store, image: Image) -> Step:
    top = image.top
    found = reach.read(store.blobs, top.digest, top.media_type)
    assert isinstance(found, Index)
    lines = tuple(
        f"{one.digest}  {one.platform or one.media_type}" + ("  <- this one" if one.digest == image.digest else "")
        for one in found.manifests
    )
    told = (
        f"{_said(top)} is an index: one manifest for each platform. For {image.config.platform} it is {image.digest}."
    )
    return Step(told, lines, (check(top.digest, _blob(top.digest)), f"jq '.manifests[]' {_blob(top.digest)}"))


def _manifest(image: Image) -> Step:
    size = image.top.size_bytes if image.top.digest == image.digest else 0
    said = f"{image.digest} ({image.manifest.media_type}{f', {size} bytes' if size else ''})"
    layers = len(image.manifest.layers)
    told = f"{said} is the manifest: it names the configuration and {layers} layers by type, size and digest."
    file = _blob(image.digest)
    return Step(told, shell=(check(image.digest, file), f"jq -c '.config, .layers[]' {file}"))


def _said(one: Descriptor) -> str:
    return f"{one.digest} ({one.media_type}, {one.size_bytes} bytes)"


def _blob(digest: str) -> str:
    return "blobs/" + "/".join(split(digest))


# ---- the configuration


def _fields(config: ImageConfig, convert: Convert) -> Iterator[str]:
    """Each field of the configuration, and what it becomes."""
    whole = json_text.loads(config.raw, "the configuration")
    run = whole.get("config") or {}
    for name in sorted(whole.keys() - {"config", "rootfs", "history"}):
        yield f"{name} -> {_becomes({name: whole[name]}, convert)}"
    for name in sorted(run):
        yield f"config.{name} -> {_becomes({'config': {name: run[name]}}, convert)}"
    yield "rootfs.diff_ids -> the layers, below"
    if "history" in whole:
        yield "history -> nothing: it is for people (ctk image history)"


def _becomes(alone: dict[str, Any], convert: Convert) -> str:
    """The paths of config.json that are different when a configuration has this field."""
    for readonly in (False, True):
        try:
            with_it, without = (
                dict(_flat(convert(configs.read(json.dumps(one).encode(), "it"), readonly))) for one in (alone, {})
            )
        except Usage as error:
            if "User" in alone.get("config", {}):
                return "process.user, by the image's own etc/passwd and etc/group"
            return f"an error: {error}"
        if different := sorted(path for path in with_it if with_it[path] != without.get(path)):
            return ", ".join(different) + (" (if the root is read-only)" if readonly else "")
    return "nothing: config.json is the same without it"


def _flat(spec: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in spec.items():
        path = f'{above}["{name}"]' if above == "annotations" else f"{above}.{name}".lstrip(".")
        if isinstance(value, dict):
            yield from _flat(value, path)
        else:
            yield path, value


# ---- the layers


def _layer(store: Store, blob: Descriptor, diff_id: str, number: int, of: int) -> Step:
    members, whiteouts = _counted(store, blob, diff_id)
    program = PACKED[media_types.CODECS[blob.media_type]][1] or "cat"
    read = f"{program} {'-dc ' if program != 'cat' else ''}{_blob(blob.digest)}"
    algorithm, encoded = split(diff_id)
    hashed = f"{read} | {algorithm}sum | grep -x {quote(f'{encoded}  -')}"
    lines = [check(blob.digest, _blob(blob.digest)), hashed, f"{read} | tar -tvf -"]
    told = f"Layer {number} of {of}: {_said(blob)}. Its tar has {members} members, {whiteouts} of them whiteouts"
    if whiteouts:
        lines.append(f"{read} | tar -tf - | grep -E '(^|/)\\.wh\\.'")
        told += ", which hide files of the layers below"
    return Step(
        f"{told}; the digest of the tar is its diff id, rootfs.diff_ids[{number - 1}].", (diff_id,), tuple(lines)
    )


def _counted(store: Store, blob: Descriptor, diff_id: str) -> tuple[int, int]:
    """How many members the layer has, and how many are whiteouts; it is verified on the way."""
    members = whiteouts = 0
    doing = f"read the layer {blob.digest}"
    with tars.opened(store, blob, diff_id, doing) as tar:
        for entry in tar:
            members += 1
            if b".wh." in entry.name:
                whiteouts += _is_whiteout(entry.name)
    return members, whiteouts


def _is_whiteout(name: bytes) -> bool:
    try:
        found = names.whiteout(names.relative(name))
    except names.BadName:
        return False  # it is refused when the layer is laid out
    return found is not None and found.name is not None


def _root(store: Store, diff_ids: tuple[str, ...]) -> Step:
    form = form_here()
    lowers = use.lowers(store, diff_ids, form) if all(store.layers.has(one, form) for one in diff_ids) else None
    if lowers is None:
        paths = tuple(dict.fromkeys(store.layers.path(one, form) for one in reversed(diff_ids)))
        told = "When it is run, each layer is laid out in a folder, and overlayfs merges them, the topmost first:"
        return Step(told, paths)
    if os.geteuid() != 0:
        told = (
            "The layers are laid out, each in a folder. In a user namespace overlayfs merges them, the topmost first:"
        )
        return Step(told, tuple(lowers))
    short = [path.removeprefix(store.place.folder + "/") for path in lowers]
    options = f"lowerdir={':'.join(short)}{',userxattr' if form == USERXATTR else ''}"
    over = f'{quote(options)},upperdir="$d/upper",workdir="$d/work"'
    lines = (
        'd=$(mktemp -d) && mkdir "$d/upper" "$d/work" "$d/root"',
        # By mount(2): fsconfig(2), which mount(8) uses from util-linux 2.39 on, takes 255 bytes of lowerdir.
        f'LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o {over} "$d/root" && ls "$d/root"',
    )
    told = "The layers are laid out, each in a folder. overlayfs merges them, the topmost first: the image's root."
    return Step(told, tuple(lowers), lines)
