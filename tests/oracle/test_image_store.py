"""skopeo and umoci read our store, and what they write into it is found there."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.command import tool
from toolkit.image.layout.folder import FolderDestination
from toolkit.image.name import locate
from toolkit.image.store import check, collect, listing
from toolkit.image.store.store import Store

NAME = "docker.io/library/debian:bookworm"
ONE = images.image(images.layer({"etc/": b"", "etc/hostname": b"one\n"}), images.layer({"two": b"2"}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "images"))
    place = store.destination()
    images.put(place, ONE, "debian:bookworm")
    place.commit()
    place.close()
    with store.layers.laying_out(ONE.diff_ids[0]):
        pass
    return store


def run(*words: str | Path) -> str:
    done = subprocess.run([tool(str(words[0])), *words[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_reads_it(store: Store, tmp_path: Path) -> None:
    folder = store.place.folder
    raw = run("skopeo", "inspect", "--raw", f"oci:{folder}:{NAME}")
    assert raw.encode() == ONE.raw.data
    told = json.loads(run("skopeo", "inspect", f"oci:{folder}:{NAME}"))
    assert (told["Digest"], told["Layers"]) == (ONE.digest, [layer.digest for layer in ONE.layers])
    run("skopeo", "copy", "-q", f"oci:{folder}:{NAME}", f"dir:{tmp_path / 'dir'}")
    assert (tmp_path / "dir/manifest.json").read_bytes() == ONE.raw.data


def test_umoci_reads_it(store: Store, tmp_path: Path) -> None:
    folder = store.place.folder
    assert run("umoci", "ls", "--layout", folder).split() == [NAME]
    store.tag("debian:bookworm", "debian:12")
    assert sorted(run("umoci", "ls", "--layout", folder).split()) == ["docker.io/library/debian:12", NAME]
    run("umoci", "gc", "--layout", folder)
    assert list(check.check(store)) == []  # it took nothing away
    run("umoci", "raw", "unpack", "--rootless", "--image", f"{folder}:{NAME}", str(tmp_path / "root"))
    assert (tmp_path / "root/etc/hostname").read_text() == "one\n"


def test_what_skopeo_writes_is_found(store: Store) -> None:
    folder = store.place.folder
    run("skopeo", "copy", "-q", f"oci:{folder}:{NAME}", f"oci:{folder}:quay.io/mine/app:1")
    assert store.resolve("quay.io/mine/app:1").digest == ONE.digest
    run("skopeo", "copy", "-q", f"oci:{folder}:{NAME}", f"oci:{folder}:latest")  # a mere tag
    assert {one.name for one in listing.listing(store)} == {"debian:bookworm", "quay.io/mine/app:1", "latest"}
    assert store.resolve("latest").digest == ONE.digest
    collect.prune(store)
    collect.remove(store, ["debian:bookworm", "quay.io/mine/app:1"])
    assert run("skopeo", "inspect", "--raw", f"oci:{folder}:latest").encode() == ONE.raw.data
    assert list(check.check(store)) == []


def test_a_new_image_of_skopeos_is_whole_here(store: Store, tmp_path: Path) -> None:
    other = images.image(images.layer({"other": b"o"}))
    place = FolderDestination(locate(f"oci:{tmp_path / 'other'}:x"))
    images.put(place, other)
    place.commit()
    place.close()
    run("skopeo", "copy", "-q", f"oci:{tmp_path / 'other'}:x", f"oci:{store.place.folder}:docker.io/library/other:1")
    image = store.image("other:1")
    assert image.digest == other.digest
    source = store.source("other:1")
    assert images.equal(source, other)
    source.close()
    assert list(check.check(store)) == []
    assert os.stat(store.place.folder).st_mode & 0o777 == 0o700
