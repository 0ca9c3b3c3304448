"""A finished tree as an image of one layer: a layout in a folder, an archive, or a name in the store.

Its configuration is that of docker's own debian images: PATH, a shell to start, and how the tree was made. The layer is
gzip, which every program reads. With the same lock and SOURCE_DATE_EPOCH all of it is the same, byte for byte.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from toolkit import __version__
from toolkit.bootstrap.facts.architectures import of_image
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.bootstrap.output.finished import Tree, write_all
from toolkit.errors import CtkError, SystemCall, Usage
from toolkit.image import digest as digests
from toolkit.image import layout
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Destination, Raw
from toolkit.image.layer import write
from toolkit.image.name import DOCKER_ARCHIVE, OCI, OCI_ARCHIVE, Location, Reference, parse
from toolkit.kernel import rmtree_beneath
from toolkit.kernel.beneath import O_PATH, open_beneath
from toolkit.oci import json_text
from toolkit.text import quote

_VERSION = "ctk " + __version__
_PIECE_BYTES = 1 << 20
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELLS = ("/bin/bash", "/bin/sh")
_LAYOUT = frozenset({"oci-layout", "index.json", "blobs"})


def name_of(request: Request) -> Reference | None:
    """The name that the image is to have; None for none. Raises Usage."""
    if not request.tag:
        return None
    reference = parse(request.tag)
    if reference.digest:
        raise Usage(f"name an image {request.tag!r}", because="its digest is not known before it is made")
    return reference.tagged()


def is_layout(folder: str) -> bool:
    """Whether it is an OCI layout, complete or not, with nothing else in it. Raises OSError."""
    names = {name for name in os.listdir(folder) if not (name.startswith(".") and name.endswith(".new"))}
    return "oci-layout" in names and names <= _LAYOUT


def write_folder(tree: Tree) -> dict[str, Any]:
    """Write the layout `request.target`; what was there is replaced. Raises CtkError, OSError.

    Its image has the tag of the name that was asked for, or else the suite's code name: umoci needs one.
    """
    target = os.path.abspath(tree.request.target)
    if os.path.isdir(target):
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            rmtree_beneath.empty(fd)
        finally:
            os.close(fd)
    reference = name_of(tree.request)
    return _write(
        tree, layout.open_destination(Location(OCI, target)), reference.tag if reference else tree.result.suite
    )


def write_archive(tree: Tree, out: int, *, for_docker: bool) -> dict[str, Any]:
    """Write an archive, which is OCI's and docker's at once, to the descriptor `out`. Raises CtkError, OSError.

    Without a name that of the suite is its tag; docker's has no name then.
    """
    reference = name_of(tree.request)
    name = str(reference) if reference else "" if for_docker else tree.result.suite
    path = os.path.join(tree.folder, "image")  # the members' order is known at the end only, and a pipe can't seek
    location = Location(DOCKER_ARCHIVE if for_docker else OCI_ARCHIVE, path)
    more = _write(tree, layout.open_destination(location), name)
    with open(path, "rb", buffering=0) as file:
        os.unlink(path)
        write_all(out, _pieces(file.fileno()))
    return {"digest": more["digest"]}


def write_store(tree: Tree) -> dict[str, Any]:
    """Put it into the store, under the request's name. Raises CtkError, OSError."""
    from toolkit.image.store.store import Store

    reference = str(name_of(tree.request))
    more = _write(tree, Store().destination(f"ctk bootstrap --tag {quote(tree.request.tag)}"), reference)
    return {**more, "reference": reference}


def _write(tree: Tree, destination: Destination, name: str) -> dict[str, Any]:
    doing = f"make an image of {tree.result.title}"
    try:
        with tempfile.TemporaryFile(dir=tree.folder, buffering=0) as file:
            entries = write.whole(tree.rootfd, doing, latest_s=tree.latest_s)
            made = write.write(tree.rootfd, entries, file.fileno(), doing)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            destination.put_blob(made.descriptor, _pieces(file.fileno()))
        digest = _put_documents(tree, destination, made.descriptor, made.diff_id, name)
    finally:
        destination.close()
    return {"digest": digest, "bytes": made.descriptor.size_bytes}


def _put_documents(tree: Tree, destination: Destination, layer: Descriptor, diff_id: str, name: str) -> str:
    """Put the configuration and the manifest; the manifest's digest."""
    config = _config(tree, diff_id)
    described = manifest.described(config, media_types.OCI_CONFIG)
    destination.put_blob(described, iter([config]))
    data = manifest.write(described, [layer])
    digest = digests.of(data)
    destination.put_manifest(Raw(data, media_types.OCI_MANIFEST, digest), name)
    destination.commit()
    return digest


def _config(tree: Tree, diff_id: str) -> bytes:
    """The configuration (image-spec 1.1, config.md)."""
    result = tree.result
    seconds = time.time() if tree.latest_s is None else tree.latest_s
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    architecture, variant = of_image(result.architecture)
    labels = {
        "org.opencontainers.image.title": f"{result.distribution} {result.title}",
        "org.opencontainers.image.version": result.suite,
    }
    shell = _shell(tree.rootfd)
    whole = {
        "created": created,
        "architecture": architecture,
        **({"variant": variant} if variant else {}),
        "os": "linux",
        "config": {"Env": [f"PATH={_PATH}"], **({"Cmd": [shell]} if shell else {}), "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [
            {
                "created": created,
                "created_by": _command(result),
                "comment": f"build {result.build_id} of {_VERSION}",
            }
        ],
    }
    return json_text.dumps(whole).encode()


def _command(result: Result) -> str:
    """The command that makes such a tree."""
    variant = () if result.variant == "-" else ("--variant", result.variant)
    return " ".join(map(quote, ("ctk", "bootstrap", result.suite, *variant, "--arch", result.architecture)))


def _shell(rootfd: int) -> str:
    """The shell that the tree has; "" for none."""
    for path in _SHELLS:
        try:
            os.close(open_beneath(rootfd, path, O_PATH))
        except (CtkError, SystemCall, OSError):
            continue
        return path
    return ""


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, _PIECE_BYTES):
        yield piece
