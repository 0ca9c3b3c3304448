"""Layouts in a tar and docker's archives: read in place, written as one file for everybody, whole or not at all."""

import bz2
import contextlib
import gzip
import io
import itertools
import json
import lzma
import os
import random
import resource
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import settings

from tests.fixtures import images
from toolkit.archive import tar_in_place
from toolkit.errors import CtkError, InUse, Invalid, Malformed, NotFound, Untrusted, Usage
from toolkit.image import digest as digests
from toolkit.image import layout
from toolkit.image.document import config, manifest, media_types, platform
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw, Source
from toolkit.image.layout import archive
from toolkit.image.name import locate

TARS = images.layer({"etc/": b"", "etc/one": b"1"}), images.layer({"two": b"2" * 70_000})
ONE = images.image(*TARS)
TWO = images.image(TARS[1], author="somebody")
PLAIN = images.image(*TARS, codec=media_types.PLAIN)


def write(where: str, *wanted: tuple[images.Image, str], replace: bool = False) -> None:
    destination = layout.open_destination(locate(where), replace=replace)
    try:
        for one, name in wanted:
            images.put(destination, one, name)
        destination.commit()
    finally:
        destination.close()


@contextlib.contextmanager
def opened(where: str) -> Iterator[Source]:
    source = layout.open_source(locate(where))
    try:
        yield source
    finally:
        source.close()


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def tarred(path: Path, *wanted: tuple[str, bytes | str]) -> Path:
    """A tar of files, and of symlinks where the content is a text."""
    with tarfile.open(path, "w") as tar:
        for name, content in wanted:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def layout_of(path: Path) -> list[tuple[str, bytes | str]]:
    """The members of an archive that we wrote, to be changed and packed again."""
    return list(members(path).items())


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".new"))


def test_one_file_is_both_kinds_of_archive(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    write(f"oci-archive:{path}:debian:one", (ONE, ""))
    with opened(f"oci-archive:{path}") as source:
        assert images.equal(source, ONE) and images.equal(source, ONE, "debian:one")
        assert images.equal(source, ONE, "docker.io/library/debian:one")
    with opened(f"docker-archive:{path}:debian:one") as source:
        raw = source.manifest()
        found = manifest.read(raw.data, raw.media_type, "m")
        assert isinstance(found, manifest.Manifest)
        assert (found.config, found.layers) == (ONE.config, ONE.layers)
        assert images.fetch(source, ONE.layers[1], 5) == ONE.blobs[ONE.layers[1].digest][5:]
        assert images.fetch(source, ONE.config) == ONE.blobs[ONE.config.digest]
    assert json.loads(members(path)["manifest.json"])[0]["RepoTags"] == ["docker.io/library/debian:one"]
    assert left_over(tmp_path) == []


def test_names_in_docker_s_archive_are_references(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    write(f"docker-archive:{path}:debian", (ONE, ""))
    held = members(path)
    assert json.loads(held["manifest.json"])[0]["RepoTags"] == ["docker.io/library/debian:latest"]
    annotations = json.loads(held["index.json"])["manifests"][0]["annotations"]
    assert set(annotations.values()) == {"docker.io/library/debian:latest"}
    with pytest.raises(Usage, match="'Debian'"):
        write(f"docker-archive:{tmp_path}/other:Debian", (ONE, ""))
    with pytest.raises(Usage, match="'X'"):
        write(f"docker-archive:{tmp_path}/other", (ONE, "X"))
    write(f"oci-archive:{path}:1.0", (ONE, ""), replace=True)
    assert json.loads(members(path)["manifest.json"])[0]["RepoTags"] is None, "a tag alone is no name of docker's"
    assert sorted(os.listdir(tmp_path)) == ["image.tar"]


def test_several_images_and_several_names(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    write(f"docker-archive:{path}", (ONE, "a:1"), (TWO, "b:2"), (ONE, "a:latest"))
    listed = json.loads(members(path)["manifest.json"])
    assert [one["RepoTags"] for one in listed] == [
        ["docker.io/library/a:1", "docker.io/library/a:latest"],
        ["docker.io/library/b:2"],
    ]
    for transport in ("docker-archive", "oci-archive"):
        with opened(f"{transport}:{path}") as source:
            with pytest.raises(Usage, match="several") as info:
                source.manifest()
            assert "b:2" in info.value.hint
            with pytest.raises(NotFound, match="called 'c'"):
                source.manifest("c")
            for name in ("a", "a:1", "docker.io/library/b:2"):
                found = manifest.read(source.manifest(name).data, "", "m")
                assert isinstance(found, manifest.Manifest)
                assert found.config == (TWO if "b" in name else ONE).config


def orders() -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(4)))


@pytest.mark.parametrize("order", orders(), ids=str)
def test_the_same_image_makes_the_same_bytes(order: tuple[int, ...], tmp_path: Path) -> None:
    write(f"oci-archive:{tmp_path}/straight:x", (ONE, ""))
    destination = layout.open_destination(locate(f"oci-archive:{tmp_path}/other:x"))
    for number in order:
        if number == 3:
            destination.put_manifest(ONE.raw)
            continue
        descriptor = (ONE.config, *ONE.layers)[number]
        with pytest.raises(Untrusted):
            destination.put_blob(descriptor, iter([b"wrong"]))
        destination.put_blob(descriptor, iter([ONE.blobs[descriptor.digest]]))
    destination.commit()
    destination.close()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "straight").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["other", "straight"]


def test_a_blob_that_failed_last_leaves_no_trace(tmp_path: Path) -> None:
    write(f"oci-archive:{tmp_path}/straight", (ONE, ""))
    destination = layout.open_destination(locate(f"oci-archive:{tmp_path}/other"))
    for descriptor in sorted((ONE.config, *ONE.layers), key=lambda one: -one.size_bytes):
        destination.put_blob(descriptor, iter([ONE.blobs[descriptor.digest]]))
    destination.put_manifest(ONE.raw)
    with pytest.raises(Untrusted):
        destination.put_blob(TWO.config, iter([b"secret"]))
    destination.commit()
    destination.close()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "straight").read_bytes()


def test_without_copy_file_range_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    write(f"oci-archive:{tmp_path}/straight", (ONE, ""))
    monkeypatch.setattr(os, "copy_file_range", refused)
    destination = layout.open_destination(locate(f"oci-archive:{tmp_path}/other"))
    destination.put_manifest(ONE.raw)
    images.put(destination, ONE)
    destination.commit()
    destination.close()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "straight").read_bytes()


def test_blobs_from_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(archive._Region):
        """So that another thread has its turn before it is noted where the next one begins."""

        @property
        def end(self) -> int:
            time.sleep(0.001)
            return super().end

    monkeypatch.setattr(archive, "_Region", Slow)
    one = images.image(*(images.layer({f"f{n}": bytes([n]) * 300_000}) for n in range(8)), codec=media_types.PLAIN)
    write(f"oci-archive:{tmp_path}/straight", (one, ""))
    destination = layout.open_destination(locate(f"oci-archive:{tmp_path}/other"))
    barrier = threading.Barrier(9)

    def put(digest: str, size: int) -> None:
        descriptor = next(d for d in (one.config, *one.layers) if d.digest == digest)
        data = one.blobs[digest]
        barrier.wait()
        destination.put_blob(descriptor, iter(data[at : at + 10_000] for at in range(0, size, 10_000)))

    threads = [threading.Thread(target=put, args=(d.digest, d.size_bytes)) for d in (one.config, *one.layers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    destination.put_manifest(one.raw)
    destination.commit()
    destination.close()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "straight").read_bytes()


def test_an_index_and_what_docker_loads_of_it(tmp_path: Path) -> None:
    host = platform.host()
    foreign = images.image(TARS[0], platform=Platform("linux", "s390x"))
    ours = images.image(TARS[1], platform=host)
    entries = [
        manifest.described(one.raw.data, one.raw.media_type, platform=where)
        for one, where in ((foreign, Platform("linux", "s390x")), (ours, host))
    ]
    data = manifest.write_index(entries)
    destination = layout.open_destination(locate(f"oci-archive:{tmp_path}/image.tar:some/thing:x"))
    for one in (foreign, ours):
        images.put(destination, one)
    destination.put_manifest(Raw(data, media_types.OCI_INDEX, digests.of(data)))
    destination.commit()
    destination.close()
    held = members(tmp_path / "image.tar")
    assert [one["digest"] for one in json.loads(held["index.json"])["manifests"]] == [digests.of(data)]
    assert [one["Config"] for one in json.loads(held["manifest.json"])] == [
        "blobs/" + ours.config.digest.replace(":", "/")
    ]


def test_nothing_is_left_of_a_failed_copy_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    destination = layout.open_destination(locate(f"oci-archive:{path}"))
    images.put(destination, ONE)
    destination.close()
    assert os.listdir(tmp_path) == []
    destination = layout.open_destination(locate(f"oci-archive:{path}"))
    destination.put_manifest(ONE.raw)
    with pytest.raises(NotFound, match="is missing"):
        destination.commit()
    destination.close()
    assert os.listdir(tmp_path) == []
    path.write_text("precious")
    with pytest.raises(InUse, match="exists"):
        write(f"oci-archive:{path}", (ONE, ""))
    assert path.read_text() == "precious"
    with pytest.raises(InUse, match="folder"):
        write(f"oci-archive:{tmp_path}", (ONE, ""), replace=True)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InUse, match="not a regular file"):
        write(f"oci-archive:{tmp_path}/fifo", (ONE, ""), replace=True)  # as /dev/null would be
    (tmp_path / "fifo").unlink()
    with pytest.raises(CtkError, match="no such file"):
        write(f"oci-archive:{tmp_path}/no/where", (ONE, ""))
    artifact = manifest.write(manifest.described(b"{}", media_types.OCI_EMPTY), [], artifact_type="x/y")
    destination = layout.open_destination(locate(f"docker-archive:{tmp_path}/artifact"))
    destination.put_blob(manifest.described(b"{}", media_types.OCI_EMPTY), iter([b"{}"]))
    destination.put_manifest(Raw(artifact, media_types.OCI_MANIFEST, digests.of(artifact)))
    with pytest.raises(Usage, match="nothing that docker"):
        destination.commit()
    destination.close()
    assert os.listdir(tmp_path) == ["image.tar"]


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_a_full_disk_is_one_error_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    """The kernel's limit on a file's size stands in for the disk's end: write(2) fails in the same way."""
    large = images.image(images.layer({"x": bytes(500_000)}), codec=media_types.PLAIN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(CtkError, match=r"write .*file too large"):
            write(f"{kind}:{tmp_path}/image", (large, ""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress,
}  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_compressed_archive_is_spooled(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, spool = tmp_path / "image.tar", tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setenv("TMPDIR", str(spool))
    write(f"oci-archive:{path}", (ONE, ""))
    whole = COMPRESSIONS[name](path.read_bytes())
    path.write_bytes(whole)
    with opened(f"oci-archive:{path}") as source:
        assert images.equal(source, ONE) and list(spool.iterdir()) == []
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Malformed, match="read the archive"):
        layout.open_source(locate(f"oci-archive:{path}"))
    path.write_bytes(whole[:40] + b"\xff\x00\xff" + whole[43:])
    with pytest.raises(Malformed, match="read the archive"):
        layout.open_source(locate(f"oci-archive:{path}"))


def test_a_bomb_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 80 MiB free 16 may be taken: 64 are left for others."""
    path = tmp_path / "bomb.tar.gz"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    real = os.statvfs(tmp_path)

    def small(fd: int) -> os.statvfs_result:
        return os.statvfs_result((*real[:4], (80 << 20) // real.f_frsize, *real[5:]))

    monkeypatch.setattr(os, "fstatvfs", small)
    path.write_bytes(gzip.compress(bytes(1 << 24)))
    with opened(f"oci-archive:{path}") as source, pytest.raises(NotFound, match="no OCI image layout"):
        source.manifest()
    path.write_bytes(gzip.compress(bytes((1 << 24) + 1)))
    with pytest.raises(CtkError, match="not enough room") as info:
        layout.open_source(locate(f"oci-archive:{path}"))
    assert "TMPDIR" in info.value.hint


def test_a_pipe_that_is_handed_over(tmp_path: Path) -> None:
    write(f"docker-archive:{tmp_path}/image.tar:x", (ONE, ""))
    read_end, write_end = os.pipe()
    data = (tmp_path / "image.tar").read_bytes()

    def feed() -> None:
        with open(write_end, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    with opened(f"docker-archive:/dev/fd/{read_end}") as source:
        assert images.fetch(source, ONE.config) == ONE.blobs[ONE.config.digest]
    thread.join()
    os.close(read_end)


@pytest.mark.parametrize("case", ["twice", "twice, spelled otherwise", "symlink", "above", "absolute", "hard link"])
def test_members_that_programs_read_in_two_ways(case: str, tmp_path: Path) -> None:
    write(f"oci-archive:{tmp_path}/image.tar", (ONE, ""))
    held = layout_of(tmp_path / "image.tar")
    index = dict(held)["index.json"]
    more: dict[str, tuple[str, bytes | str]] = {
        "twice": ("index.json", index),
        "twice, spelled otherwise": ("./index.json", index),
        "symlink": ("blobs/other", "/etc"),
        "above": ("../index.json", index),
        "absolute": ("/index.json", index),
        "hard link": ("x", b""),
    }
    path = tarred(tmp_path / "changed.tar", *held, more[case])
    if case == "hard link":
        with tarfile.open(path, "a") as tar:
            link = tarfile.TarInfo("y")
            link.type, link.linkname = tarfile.LNKTYPE, "index.json"
            tar.addfile(link)
    said = {"symlink": "interpret differently", "above": "two ways", "absolute": "two ways", "hard link": "a hard link"}
    with pytest.raises(Malformed, match=said.get(case, "twice")):
        layout.open_source(locate(f"oci-archive:{path}"))


def test_members_that_are_stored_with_holes_and_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"oci-archive:{tmp_path}/image.tar", (ONE, ""))
    with tarfile.open(tmp_path / "image.tar", "a") as tar:
        member = tarfile.TarInfo("holes")
        member.size = 5
        member.pax_headers = {"GNU.sparse.map": "0,5", "GNU.sparse.size": "1000", "GNU.sparse.name": "holes"}
        tar.addfile(member, io.BytesIO(b"12345"))
    with pytest.raises(Malformed, match="stored with holes"):
        layout.open_source(locate(f"oci-archive:{tmp_path}/image.tar"))
    held = layout_of(tmp_path / "image.tar")
    path = tarred(tmp_path / "other.tar", *held, ("x" * 513, b""))
    with pytest.raises(Malformed, match="too long"):
        layout.open_source(locate(f"oci-archive:{path}"))
    monkeypatch.setattr(tar_in_place, "_MOST_MEMBERS", 5)
    path = tarred(tmp_path / "other.tar", *held)
    with pytest.raises(Malformed, match="more than 5 members"):
        layout.open_source(locate(f"oci-archive:{path}"))


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_a_root_file_system_is_told_from_an_image(transport: str, tmp_path: Path) -> None:
    """Whatever is in it: hard links, symlinks and long names are a root's right."""
    path = tarred(tmp_path / "root.tar", ("etc/x", b"1"), ("bin", "usr/bin"), ("x" * 600, b""))
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("etc/y")
        link.type, link.linkname = tarfile.LNKTYPE, "etc/x"
        tar.addfile(link)
    with pytest.raises(NotFound) as info, opened(f"{transport}:{path}") as source:
        source.manifest()
    assert "at its top" in info.value.hint


def test_a_blob_of_another_size_or_that_is_not_there(tmp_path: Path) -> None:
    write(f"oci-archive:{tmp_path}/image.tar:a:1", (ONE, ""))
    for transport in ("oci-archive", "docker-archive"):
        with opened(f"{transport}:{tmp_path}/image.tar") as source:
            with pytest.raises(Untrusted, match="announced"):
                images.fetch(source, ONE.config._replace(size_bytes=ONE.config.size_bytes - 1))
            with pytest.raises(NotFound, match=TWO.config.digest):
                images.fetch(source, TWO.config)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_by_any_writer(form: int, tmp_path: Path) -> None:
    """With ./ in front and folders, as `tar -C layout .` has them."""
    write(f"oci-archive:{tmp_path}/image.tar", (ONE, ""))
    with tarfile.open(tmp_path / "other.tar", "w", format=form) as tar:
        for name in (".", "./blobs", "./blobs/sha256"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for name, content in layout_of(tmp_path / "image.tar"):
            member = tarfile.TarInfo("./" + name)
            member.size = len(content)
            assert isinstance(content, bytes)
            tar.addfile(member, io.BytesIO(content))
    with opened(f"oci-archive:{tmp_path}/other.tar") as source:
        assert images.equal(source, ONE)


def test_what_is_not_an_archive_of_an_image(tmp_path: Path) -> None:
    def refused(data: bytes, said: str, transport: str = "oci-archive") -> str:
        (tmp_path / "file").write_bytes(data)
        with pytest.raises((Malformed, NotFound), match=said) as info, opened(f"{transport}:{tmp_path}/file") as source:
            source.manifest()
        return info.value.hint

    for transport in ("oci-archive", "docker-archive"):
        refused(b"", "it is empty", transport)
        refused(b"hsqs" + bytes(600), "not a tar, but a squashfs image", transport)
        refused(b'{"schemaVersion": 2}', "a JSON text", transport)
        refused(b"x" * 4096, "it is not a tar", transport)
        refused(images.layer({"x": b""}).replace(b"0000644", b"0000755"), "wrong checksum", transport)
        assert "manifest.json" in refused(images.layer({"etc/": b""}), r"\(oci-layout\)|manifest\.json", transport)
        with pytest.raises(NotFound, match="is a directory") as info:
            layout.open_source(locate(f"{transport}:{tmp_path}"))
        assert info.value.hint.startswith("oci:")
        with pytest.raises(NotFound, match="no such file"):
            layout.open_source(locate(f"{transport}:{tmp_path}/none"))
        os.mkfifo(tmp_path / f"fifo-{transport}")
        with pytest.raises(NotFound, match="not a regular file"):
            layout.open_source(locate(f"{transport}:{tmp_path}/fifo-{transport}"))
    docker = tarred(tmp_path / "docker.tar", *old_docker(PLAIN)).read_bytes()
    assert "docker-archive:" in refused(docker, "no OCI image layout")
    write(f"oci-archive:{tmp_path}/oci.tar", (ONE, ""))
    only = [(name, data) for name, data in layout_of(tmp_path / "oci.tar") if name != "manifest.json"]
    oci = tarred(tmp_path / "only.tar", *only).read_bytes()
    assert "oci-archive:" in refused(oci, "manifest.json is not in it", "docker-archive")
    assert "before 1.10" in refused(images.layer({"repositories": b"{}"}), "is not in it", "docker-archive")
    whole = (tmp_path / "oci.tar").read_bytes()
    refused(whole[: whole.index(b"index.json") - 600], "ends in the middle")


def old_docker(one: images.Image, *, tags: Any = ("old:1",), layers: Any = None) -> list[tuple[str, bytes | str]]:
    """What `docker save` before 25 wrote: a folder a layer, and the list of names of docker before 1.10."""
    held: list[tuple[str, bytes | str]] = []
    paths = []
    for number, layer in enumerate(one.layers):
        folder = f"{number:064x}"
        held.append((f"{folder}/VERSION", b"1.0"))
        held.append((f"{folder}/json", b"{}"))
        held.append((f"{folder}/layer.tar", one.blobs[layer.digest]))
        paths.append(f"{folder}/layer.tar")
    name = one.config.digest.partition(":")[2] + ".json"
    held.append((name, one.blobs[one.config.digest]))
    listed = [{"Config": name, "RepoTags": tags, "Layers": paths if layers is None else layers}]
    held.append(("manifest.json", json.dumps(listed).encode()))
    held.append(("repositories", b'{"old": {"1": "x"}}'))
    return held


def docker_manifest(path: Path, name: str = "") -> manifest.Manifest:
    with opened(f"docker-archive:{path}") as source:
        raw = source.manifest(name)
        assert source.manifest(raw.digest) == raw
        found = manifest.read(raw.data, raw.media_type, "made")
        assert isinstance(found, manifest.Manifest)
        whole = config.read(images.fetch(source, found.config), "config")
        config.check_layers(whole, len(found.layers), "config")
        for layer in found.layers:
            data = images.fetch(source, layer)
            assert (digests.of(data), len(data)) == (layer.digest, layer.size_bytes)
        return found


def test_an_archive_of_an_older_docker(tmp_path: Path) -> None:
    path = tarred(tmp_path / "old.tar", *old_docker(PLAIN))
    for name in ("", "old:1", "docker.io/library/old:1"):
        found = docker_manifest(path, name)
        assert (found.config, found.layers) == (PLAIN.config, PLAIN.layers)


def test_an_archive_of_a_newer_docker(tmp_path: Path) -> None:
    """docker 25 saves blobs by their digests, and says in LayerSources what each layer is besides."""
    held: list[tuple[str, bytes | str]] = [(layout_name(one), PLAIN.blobs[one]) for one in PLAIN.blobs]
    sources = {one.digest: one.as_json() for one in PLAIN.layers}
    listed = {
        "Config": layout_name(PLAIN.config.digest),
        "RepoTags": ["new:1"],
        "Layers": [layout_name(one.digest) for one in PLAIN.layers],
        "LayerSources": sources,
    }
    held.append(("manifest.json", json.dumps([listed]).encode()))
    found = docker_manifest(tarred(tmp_path / "x", *held), "new:1")
    assert (found.config, found.layers) == (PLAIN.config, PLAIN.layers)


def layout_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def test_a_layer_that_is_a_link_to_another_s(tmp_path: Path) -> None:
    """docker and podman link where a layer comes twice; the link is followed by its text, one step, inside."""
    same = images.image(TARS[0], TARS[0], codec=media_types.PLAIN)
    held = old_docker(same)
    first, second = (name for name, _ in held if name.endswith("layer.tar"))
    linked = [(name, f"../{first}" if name == second else content) for name, content in held]
    assert docker_manifest(tarred(tmp_path / "x", *linked)).layers == same.layers
    for target in ("../../../../../etc/passwd", "/etc/passwd", "layer.tar", f"../{second}", "..", "/", "../nothing"):
        wrong = [(name, target if name == second else content) for name, content in held]
        with pytest.raises((NotFound, Malformed), match=r"there is no|is not a file"):
            docker_manifest(tarred(tmp_path / "y", *wrong))


@pytest.mark.parametrize("codec", ["gzip", "zstd", "bzip2", "xz"])
def test_compressed_layers(codec: str, tmp_path: Path) -> None:
    held = [
        (name, COMPRESSIONS[codec](content) if name.endswith("layer.tar") and isinstance(content, bytes) else content)
        for name, content in old_docker(PLAIN)
    ]
    path = tarred(tmp_path / "x", *held)
    if codec in ("bzip2", "xz"):
        with pytest.raises(Malformed, match=codec):
            docker_manifest(path)
        return
    assert {layer.media_type for layer in docker_manifest(path).layers} == {media_types.layer_type(codec)}


def test_images_without_layers_and_without_names(tmp_path: Path) -> None:
    scratch = images.image()
    assert docker_manifest(tarred(tmp_path / "x", *old_docker(scratch, tags=None))).layers == ()
    path = tarred(tmp_path / "y", *old_docker(PLAIN, tags=None))
    assert docker_manifest(path).layers == PLAIN.layers
    with pytest.raises(NotFound, match="called 'old'") as info:
        docker_manifest(path, "old")
    assert "leave the name out" in info.value.hint


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("null", Invalid, "a list of images"),
        ("{}", Invalid, "a list of images"),
        ("[]", NotFound, "no image in it"),
        ("[null]", Invalid, "must be an object"),
        ("[{}]", Invalid, "is missing"),
        ('[{"Config": 7}]', Invalid, "must be a text"),
        ('[{"Config": "no.json"}]', NotFound, "there is no"),
        ('[{"config": "no.json"}]', Invalid, "is written 'Config'"),
        ('[{"Config": "../x", "Layers": []}]', NotFound, "there is no"),
        ('[{"Config": "/etc/passwd", "Layers": []}]', NotFound, "there is no"),
        ('[{"Config": "manifest.json", "Layers": []}]', Invalid, "must be an object"),
        ('[{"Config": "folder", "Layers": []}]', Malformed, "not a file"),
        ("[" * 100_000, Invalid, "nested"),
        ("[" + ",".join(["{}"] * 1001) + "]", Invalid, "1000 is the limit"),
        ('[{"Config": "x", "Layers": [' + ",".join(['"x"'] * 1001) + "]}]", Invalid, "1000 is the limit"),
        ('[{"Config": "x", "Layers": "x"}]', Invalid, "a list of texts"),
        ("", Invalid, "ends too early"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_odd_lists_of_images(text: str, error: type[CtkError], said: str, tmp_path: Path) -> None:
    path = tarred(tmp_path / "x", ("manifest.json", text.encode()), ("folder/x", b""), ("y", b"{}"))
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    with pytest.raises(error, match=said):
        docker_manifest(path)


@pytest.mark.parametrize("name", ["ab" * 32 + ".json", "blobs/sha256/" + "ab" * 32, "config.json"])
def test_a_configuration_is_called_by_its_bytes_and_not_by_its_name(name: str, tmp_path: Path) -> None:
    """skopeo, podman and docker read such archives, too."""
    held = [(called, data) for called, data in old_docker(PLAIN) if called != "manifest.json"]
    listed = [{"Config": name, "Layers": [f"{number:064x}/layer.tar" for number in range(2)]}]
    more = (name, PLAIN.blobs[PLAIN.config.digest]), ("manifest.json", json.dumps(listed).encode())
    found = docker_manifest(tarred(tmp_path / "x", *held, *more))
    assert found.config.digest == PLAIN.config.digest


def test_what_contradicts_itself(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="has 1 layer"):
        docker_manifest(tarred(tmp_path / "x", *old_docker(PLAIN, layers=[f"{0:064x}/layer.tar"])))
    large = [(name, bytes(5 << 20) if name == "manifest.json" else data) for name, data in old_docker(PLAIN)]
    with pytest.raises(Malformed, match="too large: the limit is 4194304 bytes"):
        docker_manifest(tarred(tmp_path / "x", *large))
    held = old_docker(PLAIN)
    name = next(name for name, _ in held if len(name) > 60 and name.endswith(".json"))
    large = [(n, bytes(5 << 20) if n == name else data) for n, data in held]
    with pytest.raises(Invalid, match="5242880 bytes, and 4194304 is the limit"):
        docker_manifest(tarred(tmp_path / "x", *large))


def read_all(where: str) -> None:
    with opened(where) as source:
        raw = source.manifest()
        found = manifest.read(raw.data, raw.media_type, "it")
        if isinstance(found, manifest.Manifest):
            for descriptor in (found.config, *found.layers):
                images.fetch(source, descriptor)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "old"])
def test_a_damaged_archive_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Bytes changed, cut out and doubled, in headers and in documents: no other exception than ours."""
    small = images.image(images.layer({"x": b"1"}), codec=media_types.PLAIN)
    path = tmp_path / "image.tar"
    if kind == "old":
        tarred(path, *old_docker(small))
    else:
        write(f"{kind}:{path}:a:1", (small, ""))
    where = f"{'docker-archive' if kind == 'old' else kind}:{path}"
    whole = path.read_bytes()
    chance = random.Random(kind)
    outcomes = set()
    for _ in range(8 * settings.default.max_examples):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            what = chance.randrange(5)
            if what == 0:
                data[at] = chance.randrange(256)
            elif what == 1:
                data[at] ^= 1 << chance.randrange(8)
            elif what == 2:
                del data[at : at + chance.choice([1, 512, 1024])]
            elif what == 3:
                data[at:at] = data[at : at + 512]
            else:
                start = at // 512 * 512
                data[start : start + 512] = with_checksum(bytes(data[start : start + 512]), chance)
        path.write_bytes(data)
        try:
            read_all(where)
        except CtkError as error:
            outcomes.add(type(error))
            assert str(error)
        else:
            outcomes.add(type(None))
    assert {type(None), Malformed} < outcomes, "some are sound, and some fail in more ways than one"


def with_checksum(block: bytes, chance: random.Random) -> bytes:
    """A header with another byte in it and the checksum that goes with it, so that it is not only that which fails."""
    if len(block) < 512:
        return block
    changed = bytearray(block)
    changed[chance.choice([0, 100, 108, 124, 135, 136, 156, 157, 257, 329, 345])] = chance.choice(
        b"0157xgLKS/.\x00\x80\xff"
    )
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)
