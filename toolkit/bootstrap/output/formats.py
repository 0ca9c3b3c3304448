"""The formats that a finished tree is written in, and how each is told from a target's suffix."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.archive import streams, tar_write, walk
from toolkit.bootstrap.output.finished import Tree, write_all

_UNTAR = "mkdir fs && tar --numeric-owner --xattrs -xpf {} -C fs"


Write = Callable[[Tree, int], dict[str, Any]]  # the tree, the empty file; what else there is to say about it


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its suffixes, and the function that writes it. `streams`: it can be written to a pipe.

    `image`: it is an image, and may have a name. `folder`: it is not one file.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Write
    streams: bool
    hint: str  # what to do with it next (next_steps.image_steps)
    unprivileged: str = ""
    image: bool = False
    folder: bool = False


def _tar(tree: Tree, out: int) -> dict[str, Any]:
    write_all(out, _segments(tree))
    return {}


def _tar_zst(tree: Tree, out: int) -> dict[str, Any]:
    write_all(out, streams.zstd(_segments(tree)))
    return {}


def _tar_gz(tree: Tree, out: int) -> dict[str, Any]:
    write_all(out, streams.gzip(_segments(tree)))
    return {}


def _squashfs(tree: Tree, out: int) -> dict[str, Any]:
    from toolkit.archive import squashfs

    squashfs.write(tree.rootfd, out, walk.walk(tree.rootfd, latest_s=tree.latest_s), time_s=_time_s(tree.latest_s))
    return {}


def _ext4(tree: Tree, out: int) -> dict[str, Any]:
    from toolkit.archive import ext4

    ext4.write(tree.rootfd, out, walk.walk(tree.rootfd, latest_s=tree.latest_s), time_s=_time_s(tree.latest_s))
    return {}


def _oci(tree: Tree, out: int) -> dict[str, Any]:  # noqa: ARG001 - it is a folder
    from toolkit.bootstrap.output import image

    return image.write_folder(tree)


def _oci_archive(tree: Tree, out: int) -> dict[str, Any]:
    from toolkit.bootstrap.output import image

    return image.write_archive(tree, out, for_docker=False)


def _docker_archive(tree: Tree, out: int) -> dict[str, Any]:
    from toolkit.bootstrap.output import image

    return image.write_archive(tree, out, for_docker=True)


def _store(tree: Tree, out: int) -> dict[str, Any]:  # noqa: ARG001 - it has no path
    from toolkit.bootstrap.output import image

    return image.write_store(tree)


def _time_s(latest_s: int | None) -> int:
    return int(time.time()) if latest_s is None else latest_s


def _segments(tree: Tree) -> Iterator[bytes]:
    return tar_write.segments(tree.rootfd, walk.walk(tree.rootfd, latest_s=tree.latest_s))


# A further format needs only one more line: `--format` and the suffix find it here.
FORMATS = (
    Format("tar", (".tar",), _tar, True, _UNTAR),
    Format("tar.zst", (".tar.zst", ".tzst"), _tar_zst, True, _UNTAR),
    Format("tar.gz", (".tar.gz", ".tgz"), _tar_gz, True, _UNTAR),
    Format("squashfs", (".squashfs", ".sqfs"), _squashfs, False, "mount {} /mnt", "unsquashfs -d fs {}"),
    Format(
        "ext4",
        (".ext4", ".img"),
        _ext4,
        False,
        "mount {} /mnt        (larger: truncate -s 10G {}; resize2fs {})",
        "mkdir fs && /sbin/debugfs -R 'rdump / fs' {} 2>/dev/null",
    ),
    Format("oci", (".oci",), _oci, False, "ctk copy oci:{} NAME", image=True, folder=True),
    Format("oci-archive", (".oci.tar",), _oci_archive, True, "podman load -i {}", image=True),
    Format("docker-archive", (".docker.tar",), _docker_archive, True, "docker load -i {}", image=True),
)
STORE = Format("store", (), _store, False, "", image=True)
"""Where an image goes that has a name and no target."""


def by_suffix(target: str) -> Format | None:
    """The format whose suffix the target has, the longest of those; a folder that is there has none of a file's."""
    is_folder = os.path.isdir(target)
    found = [
        (len(suffix), one)
        for one in FORMATS
        if one.folder or not is_folder
        for suffix in one.suffixes
        if target.endswith(suffix)
    ]
    return max(found, key=lambda each: each[0])[1] if found else None
