"""Layouts and archives of images as skopeo and umoci read and write them: the same bytes both ways."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.command import tool
from tests.fixtures.images import Image
from toolkit.image import digest as digests
from toolkit.image import layout
from toolkit.image.document import config, manifest, media_types
from toolkit.image.document.manifest import Manifest
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw, Source
from toolkit.image.name import locate

TARS = images.layer({"etc/": b"", "etc/one": b"1"}), images.layer({"two": bytes(range(256)) * 500})
IMAGES = {
    "gzip": images.image(*TARS, config={"Cmd": ["sh"]}),
    "plain": images.image(*TARS, codec=media_types.PLAIN),
    "large name": images.image(TARS[1], author="x" * 70_000),
}
KINDS = ("oci", "oci-archive", "docker-archive")
NAME = "docker.io/some/thing:1"


def peer(name: str, *arguments: str, cwd: Path) -> bytes:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TMPDIR": str(cwd), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([tool(name), *arguments], cwd=cwd, env=environment, capture_output=True)
    assert done.returncode == 0, (arguments, done.stderr.decode())
    return done.stdout


def skopeo(folder: Path, *arguments: str) -> bytes:
    return peer("skopeo", "--insecure-policy", *arguments, cwd=folder)


def write(where: str, *wanted: Image, index: "Raw | None" = None) -> None:
    destination = layout.open_destination(locate(where))
    try:
        for one in wanted:
            images.put(destination, one)
        if index is not None:
            destination.put_manifest(index)
        destination.commit()
    finally:
        destination.close()


@contextmanager
def opened(where: str) -> Iterator[Source]:
    source = layout.open_source(locate(where))
    try:
        yield source
    finally:
        source.close()


def same(where: str, one: Image) -> None:
    """The source has this image; docker's archive has its configuration and the plain tars of its layers."""
    with opened(where) as source:
        if not where.startswith("docker-archive"):
            assert images.equal(source, one)
            return
        raw = source.manifest()
        found = manifest.read(raw.data, raw.media_type, where)
        assert isinstance(found, Manifest) and found.config.digest == one.config.digest
        said = config.read(images.fetch(source, found.config), where)
        for layer, diff_id in zip(found.layers, said.diff_ids, strict=True):
            assert layer.digest in (diff_id, *(own.digest for own in one.layers))
            assert digests.of(images.fetch(source, layer)) == layer.digest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", IMAGES)
def test_skopeo_reads_what_we_write(kind: str, name: str, tmp_path: Path) -> None:
    one = IMAGES[name]
    place = f"{kind}:{tmp_path}/image:{NAME}"
    write(place, one)
    if kind != "docker-archive":
        assert skopeo(tmp_path, "inspect", "--raw", place) == one.raw.data
    assert skopeo(tmp_path, "inspect", "--raw", "--config", place) == one.blobs[one.config.digest]
    skopeo(tmp_path, "copy", place, "dir:folder")
    held = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    for layer, tar in zip(one.layers, json.loads(one.blobs[one.config.digest])["rootfs"]["diff_ids"], strict=True):
        digest = layer.digest if layer.digest.partition(":")[2] in held else tar
        assert digests.of(held[digest.partition(":")[2]]) == digest
    if kind != "docker-archive":
        assert held["manifest.json"] == one.raw.data
    for number, other in enumerate(KINDS):
        # Without the option skopeo compresses plain layers for a layout.
        keep = ["--preserve-digests"] if "docker-archive" not in (kind, other) else []
        skopeo(tmp_path, "copy", *keep, place, f"{other}:{tmp_path}/back{number}:some/thing:1")
        if kind != "docker-archive" or other == "docker-archive":
            same(f"{other}:{tmp_path}/back{number}", one)


@pytest.mark.parametrize("kind", KINDS)
def test_we_read_what_skopeo_writes(kind: str, tmp_path: Path) -> None:
    one = IMAGES["gzip"]
    write(f"oci:{tmp_path}/ours:x", one)
    skopeo(tmp_path, "copy", "oci:ours:x", f"{kind}:image:{NAME}")
    for name in ("", f":{NAME}", ":some/thing:1"):
        same(f"{kind}:{tmp_path}/image{name}", one)


def test_skopeo_adds_to_our_layout_and_we_to_its(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/both:a", IMAGES["gzip"])
    write(f"oci:{tmp_path}/other:x", IMAGES["plain"])
    skopeo(tmp_path, "copy", "--preserve-digests", "oci:other:x", "oci:both:b")
    write(f"oci:{tmp_path}/both:c", IMAGES["large name"])
    for tag, name in (("a", "gzip"), ("b", "plain"), ("c", "large name")):
        same(f"oci:{tmp_path}/both:{tag}", IMAGES[name])
        assert skopeo(tmp_path, "inspect", "--raw", f"oci:both:{tag}") == IMAGES[name].raw.data


def test_an_image_for_several_platforms(tmp_path: Path) -> None:
    wanted = [("amd64", ""), ("arm64", "v8"), ("arm", "v7")]
    several = [images.image(TARS[0], platform=Platform("linux", *one)) for one in wanted]
    entries = [
        manifest.described(one.raw.data, one.raw.media_type, platform=Platform("linux", *where))
        for one, where in zip(several, wanted, strict=True)
    ]
    data = manifest.write_index(entries)
    index = Raw(data, media_types.OCI_INDEX, digests.of(data))
    for kind in ("oci", "oci-archive"):
        place = f"{kind}:{tmp_path}/{kind}:multi"
        write(place, *several, index=index)
        assert skopeo(tmp_path, "inspect", "--raw", place) == data
        skopeo(tmp_path, "copy", "--all", place, f"oci:back-{kind}:multi")
        with opened(f"oci:{tmp_path}/back-{kind}:multi") as source:
            assert source.manifest().data == data
            assert [source.manifest(one.raw.digest).data for one in several] == [one.raw.data for one in several]


def test_umoci_reads_changes_and_cleans_our_layout(tmp_path: Path) -> None:
    for tag, name in (("a", "gzip"), ("b", "plain")):
        write(f"oci:{tmp_path}/layout:{tag}", IMAGES[name])
    assert peer("umoci", "list", "--layout", "layout", cwd=tmp_path).decode().split() == ["a", "b"]
    for tag in "ab":
        peer("umoci", "raw", "unpack", "--rootless", "--image", f"layout:{tag}", f"tree-{tag}", cwd=tmp_path)
        assert (tmp_path / f"tree-{tag}/etc/one").read_bytes() == b"1"
        assert (tmp_path / f"tree-{tag}/two").read_bytes() == bytes(range(256)) * 500
    peer("umoci", "tag", "--image", "layout:a", "again", cwd=tmp_path)
    peer("umoci", "rm", "--image", "layout:b", cwd=tmp_path)
    peer("umoci", "gc", "--layout", "layout", cwd=tmp_path)
    for tag in ("a", "again"):
        same(f"oci:{tmp_path}/layout:{tag}", IMAGES["gzip"])
    write(f"oci:{tmp_path}/layout:b", IMAGES["plain"])
    same(f"oci:{tmp_path}/layout:b", IMAGES["plain"])
    assert peer("umoci", "list", "--layout", "layout", cwd=tmp_path).decode().split() == ["a", "again", "b"]


def test_we_read_what_umoci_makes(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/one").write_text("1")
    peer("umoci", "init", "--layout", "layout", cwd=tmp_path)
    peer("umoci", "new", "--image", "layout:1", cwd=tmp_path)
    peer("umoci", "insert", "--rootless", "--image", "layout:1", "files", "/", cwd=tmp_path)
    with opened(f"oci:{tmp_path}/layout:1") as source:
        raw = source.manifest()
        found = manifest.read(raw.data, raw.media_type, "it")
        assert isinstance(found, Manifest) and len(found.layers) == 1
        assert digests.of(images.fetch(source, found.layers[0])) == found.layers[0].digest
        config.check_layers(config.read(images.fetch(source, found.config), "it"), 1, "it")
        destination = layout.open_destination(locate(f"docker-archive:{tmp_path}/image.tar:from/umoci:1"))
        for descriptor in (found.config, *found.layers):
            with source.blob(descriptor) as pieces:
                destination.put_blob(descriptor, pieces)
        destination.put_manifest(raw)
        destination.commit()
        destination.close()
    assert skopeo(tmp_path, "inspect", "--raw", "oci-archive:image.tar") == raw.data
