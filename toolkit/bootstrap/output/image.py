"""A finished tree as an image of one layer: a layout in a folder, an archive, or a name in the store.

Its configuration is that of docker's own debian images: PATH, a shell to start, and how the tree was made. The layer of
a file is gzip, which every program reads; that of the store is the cached tree, which is zstd. With the same lock and
SOURCE_DATE_EPOCH all of it is the same, byte for byte.
"""

import errno
import os
from typing import Any

from toolkit import __version__, places
from toolkit.archive.epoch import time_text
from toolkit.bootstrap.facts.architectures import of_image
from toolkit.bootstrap.facts.model import Request, Result
from toolkit.bootstrap.output.finished import Tree, write_all
from toolkit.bootstrap.output.tree_cache import CachedTree, Spoilt, TreeCache, as_layer
from toolkit.errors import CtkError, SystemCall, Usage
from toolkit.image import layout
from toolkit.image.document import media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Destination
from toolkit.image.layer import write
from toolkit.image.layer.forms import form_here
from toolkit.image.name import DOCKER_ARCHIVE, OCI, OCI_ARCHIVE, Location, Reference, parse
from toolkit.image.store import limit
from toolkit.image.store.store import Store
from toolkit.image.transfer import put
from toolkit.kernel import reading, rmtree_beneath
from toolkit.kernel.beneath import O_PATH, open_beneath
from toolkit.oci import json_text
from toolkit.text import quote

_VERSION = "ctk " + __version__
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


def check_name(request: Request, form: str) -> None:
    """Raise Usage for a name that can't be, in the format of that name."""
    reference = name_of(request)
    if reference and form in (OCI, OCI_ARCHIVE):
        layout.check_name(Location(form, request.target, reference.tag if form == OCI else str(reference)))


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
        write_all(out, reading.pieces(file.fileno()))
    return {"digest": more["digest"]}


def write_store(tree: Tree) -> dict[str, Any]:
    """Put it into the store, under the request's name. Raises CtkError, OSError.

    Nothing is copied, if cache and store are on one file system: the cached tree becomes the layer's blob by a hard
    link, and the tree itself the layer as it is laid out.
    """
    reference = str(name_of(tree.request))
    store = Store()
    into = store.destination(f"ctk bootstrap --tag {quote(tree.request.tag)}")
    try:
        with _kept(tree) as kept:
            layer = Descriptor(media_types.OCI_LAYER_ZSTD, kept.digest(), kept.size_bytes)
            into.hold(layer.digest)
            store.blobs.adopt(layer, kept.fd)
        into.hold(kept.diff_id)
        digest = put.documents(into, _config(tree, kept.diff_id), [layer], [reference])
        _lay_out(tree, store, kept.diff_id)
        limit.keep(store, tree.emit)
    finally:
        into.close()
    return {"digest": digest, "bytes": layer.size_bytes, "reference": reference}


def _kept(tree: Tree) -> CachedTree:
    """The cached tree, or, if it is not cached, the same made in a file of ours. Raises CtkError, OSError."""
    cached = TreeCache(places.cache_dir()).open(tree.request, tree.result.build_id)
    if cached is not None:
        try:
            cached.digest()
            return cached
        except Spoilt:
            os.close(cached.fd)
    path = os.path.join(tree.folder, "layer.tar.zst")
    with open(path, "xb", buffering=0) as file:
        write_all(file.fileno(), as_layer(tree.rootfd))
    return CachedTree(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)


def _lay_out(tree: Tree, store: Store, diff_id: str) -> None:
    """Move the tree to where the store has the layer laid out; on another file system the first use lays it out."""
    try:
        with store.layers.laying_out(diff_id, form_here()) as making:
            if not making.there:
                os.rename(tree.path, os.readlink(f"/proc/self/fd/{making.rootfd}"))  # an empty folder is replaced
                making.rootfd = tree.rootfd
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise


def _write(tree: Tree, destination: Destination, name: str) -> dict[str, Any]:
    doing = f"make an image of {tree.result.title}"
    try:
        entries = write.whole(tree.rootfd, doing, latest_s=tree.latest_s)
        layer = put.layer(destination, tree.rootfd, entries, doing, folder=tree.folder)
        assert layer is not None  # the root is a member
        digest = put.documents(destination, _config(tree, layer.diff_id), [layer.descriptor], [name])
    finally:
        destination.close()
    return {"digest": digest, "bytes": layer.descriptor.size_bytes}


def _config(tree: Tree, diff_id: str) -> bytes:
    """The configuration (image-spec 1.1, config.md)."""
    result = tree.result
    created = time_text(tree.latest_s)
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
