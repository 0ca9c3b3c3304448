"""A layout in a folder: what is written is read again, nothing half-made is left, nothing outside is touched."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import images
from toolkit.errors import CtkError, Invalid, NotFound, Untrusted, Usage
from toolkit.image import digest as digests
from toolkit.image import layout
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw
from toolkit.image.name import locate

ONE = images.image(images.layer({"etc/": b"", "etc/one": b"1"}))
TWO = images.image(images.layer({"two": b"2"}), images.layer({"three": b"3"}), author="somebody")


def write(where: str, *wanted: images.Image, name: str = "") -> None:
    destination = layout.open_destination(locate(where))
    try:
        for one in wanted:
            images.put(destination, one, name)
        destination.commit()
    finally:
        destination.close()


def index_of(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "index.json").read_bytes())["manifests"]
    return found


def holds(where: str, one: images.Image, wanted: str = "") -> bool:
    source = layout.open_source(locate(where))
    try:
        return images.equal(source, one, wanted)
    finally:
        source.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}:1.0", ONE)
    write(f"oci:{folder}:docker.io/library/two:2", TWO)
    for name, one in (("1.0", ONE), ("docker.io/library/two:2", TWO), ("two:2", TWO), (f"@{TWO.raw.digest}", TWO)):
        assert holds(f"oci:{folder}", one, name)
    assert holds(f"oci:{folder}:1.0", ONE) and holds(f"oci:{folder}@{ONE.raw.digest}", ONE)
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    blobs = {**ONE.blobs, **TWO.blobs, ONE.raw.digest: ONE.raw.data, TWO.raw.digest: TWO.raw.data}
    expected = ["index.json", "oci-layout", *sorted("blobs/" + digest.replace(":", "/") for digest in blobs)]
    assert sorted(files(folder)) == sorted(expected)
    assert all(digests.of((folder / "blobs" / d.replace(":", "/")).read_bytes()) == d for d in blobs)


def test_a_blob_from_an_offset(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/layout", ONE)
    source = layout.open_source(locate(f"oci:{tmp_path}/layout"))
    assert images.fetch(source, ONE.layers[0], 7) == ONE.blobs[ONE.layers[0].digest][7:]
    source.close()


def test_the_only_image_needs_no_name_and_several_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}", ONE)
    assert holds(f"oci:{folder}", ONE) and "annotations" not in index_of(folder)[0]
    with pytest.raises(NotFound, match="called 'latest'") as info:
        holds(f"oci:{folder}:latest", ONE)
    assert "leave the tag out" in info.value.hint
    write(f"oci:{folder}:b", TWO)
    write(f"oci:{folder}:a", TWO)
    with pytest.raises(Usage, match="there are several") as several:
        holds(f"oci:{folder}", ONE)
    assert "its tags: a, b" in several.value.hint
    with pytest.raises(NotFound, match="no image in it is called 'c'"):
        holds(f"oci:{folder}:c", ONE)


def test_a_tag_given_twice_moves_and_the_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    for name, one in (("a", ONE), ("b", ONE), ("a", TWO), ("", ONE), ("", ONE)):
        write(f"oci:{folder}" + (f":{name}" if name else ""), one)
    assert [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index_of(folder)] == [  # type: ignore[attr-defined]
        "b", "a", None,
    ]  # fmt: skip
    assert holds(f"oci:{folder}:a", TWO) and holds(f"oci:{folder}:b", ONE)


def test_fields_that_nobody_here_knows_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}:a", ONE)
    whole = json.loads((folder / "index.json").read_bytes())
    whole["annotations"] = {"mine": "yes"}
    whole["manifests"][0]["x-mine"] = [1, {"y": 2.5}]
    (folder / "index.json").write_text(json.dumps(whole))
    write(f"oci:{folder}:b", TWO)
    after = json.loads((folder / "index.json").read_bytes())
    assert after["annotations"] == {"mine": "yes"} and after["manifests"][0] == whole["manifests"][0]


def several(*wanted: tuple[images.Image, Platform]) -> Raw:
    entries = [manifest.described(one.raw.data, one.raw.media_type, platform=where) for one, where in wanted]
    data = manifest.write_index(entries)
    return Raw(data, media_types.OCI_INDEX, digests.of(data))


def test_an_index_is_listed_and_its_manifests_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    both = several((ONE, Platform("linux", "amd64")), (TWO, Platform("linux", "arm", "v7")))
    destination = layout.open_destination(locate(f"oci:{folder}:multi"))
    images.put(destination, ONE)
    images.put(destination, TWO)
    destination.put_manifest(both)
    destination.commit()
    destination.close()
    assert [entry["digest"] for entry in index_of(folder)] == [both.digest]
    source = layout.open_source(locate(f"oci:{folder}:multi"))
    assert source.manifest() == both
    assert source.manifest(TWO.raw.digest).data == TWO.raw.data
    source.close()


def test_entries_with_platforms_side_by_side_are_one_image(tmp_path: Path) -> None:
    """buildkit and ko list an image's platforms in index.json itself."""
    folder = tmp_path / "layout"
    write(f"oci:{folder}", ONE)
    write(f"oci:{folder}", TWO)
    whole = json.loads((folder / "index.json").read_bytes())
    for entry, architecture in zip(whole["manifests"], ("amd64", "arm64"), strict=True):
        entry["platform"] = {"os": "linux", "architecture": architecture}
        entry["annotations"] = {"org.opencontainers.image.ref.name": "x", "kept": "yes"}
    (folder / "index.json").write_text(json.dumps(whole))
    source = layout.open_source(locate(f"oci:{folder}:x"))
    raw = source.manifest()
    found = manifest.read(raw.data, raw.media_type, "index")
    assert isinstance(found, manifest.Index) and raw.digest == digests.of(raw.data)
    assert [one.digest for one in found.manifests] == [ONE.raw.digest, TWO.raw.digest]
    assert manifest.choose(found, Platform("linux", "arm64"), "x").annotations == {"kept": "yes"}
    source.close()


def test_an_artifact_beside_an_image_does_not_hide_it(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    subject = manifest.described(ONE.raw.data, ONE.raw.media_type)
    empty = manifest.described(b"{}", media_types.OCI_EMPTY)
    data = manifest.write(empty, [empty], subject=subject, artifact_type="application/vnd.example.sbom")
    destination = layout.open_destination(locate(f"oci:{folder}:1"))
    images.put(destination, ONE)
    destination.put_blob(empty, iter([b"{}"]))
    destination.put_manifest(Raw(data, media_types.OCI_MANIFEST, digests.of(data)))
    destination.commit()
    destination.close()
    assert holds(f"oci:{folder}", ONE) and holds(f"oci:{folder}:1", ONE)
    assert index_of(folder)[1]["artifactType"] == "application/vnd.example.sbom"


@pytest.mark.parametrize("wrong", ["other", "short", "long"])
def test_a_blob_that_is_another_is_refused_and_nothing_is_left(wrong: str, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}", ONE)
    before = files(folder)
    data = TWO.blobs[TWO.layers[0].digest]
    taken = []

    def pieces() -> Iterator[bytes]:
        for piece in {"other": [data[:-1] + b"x"], "short": [data[:-1]], "long": [data, b"x", b"y"]}[wrong]:
            taken.append(piece)
            yield piece

    destination = layout.open_destination(locate(f"oci:{folder}"))
    with pytest.raises(Untrusted, match=r"announced|asked for"):
        destination.put_blob(TWO.layers[0], pieces())
    assert not destination.has(TWO.layers[0]) and files(folder) == before
    assert b"y" not in taken, "refused at the first byte too many"
    destination.close()


def test_a_failed_copy_leaves_no_new_layout(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        destination = layout.open_destination(locate(f"oci:{folder}:x"))
        images.put(destination, ONE)
        destination.close()
        assert folder.exists() == (folder.name == "empty") and files(tmp_path) == []
        assert not folder.exists() or list(folder.iterdir()) == []


def test_a_failed_copy_does_not_take_another_s_layout_away(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    first = layout.open_destination(locate(f"oci:{folder}:a"))
    second = layout.open_destination(locate(f"oci:{folder}:b"))
    images.put(first, ONE)
    images.put(second, ONE)
    first.close()
    second.commit()
    second.close()
    assert holds(f"oci:{folder}:b", ONE)


def test_what_a_killed_writer_has_left_is_removed_when_nobody_writes(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    folder.mkdir()
    left = folder / (".0123456789abcdef" + ".new")
    left.write_text("half of it")
    (folder.parent / left.name).write_text("not ours")
    first = layout.open_destination(locate(f"oci:{folder}:a"))
    assert not left.exists()
    left.write_text("half of another's")
    write(f"oci:{folder}:b", TWO)
    assert left.exists()
    images.put(first, ONE)
    first.commit()
    first.close()
    write(f"oci:{folder}:c", TWO)
    assert not left.exists() and (folder.parent / left.name).exists()
    assert all(holds(f"oci:{folder}:{tag}", one) for tag, one in (("a", ONE), ("b", TWO), ("c", TWO)))


def test_writers_side_by_side_all_land(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    failed: list[BaseException] = []

    def one(number: int) -> None:
        try:
            write(f"oci:{folder}:{number}", images.image(author=str(number)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for number in range(16):
        assert holds(f"oci:{folder}:{number}", images.image(author=str(number)))


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256"])
def test_nothing_is_written_through_a_link(link: str, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "layout"
    outside.mkdir()
    folder.mkdir()
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    if link != "blobs":
        (folder / "blobs").mkdir()
    (folder / link).symlink_to(outside)
    with pytest.raises(Usage, match="a link"):
        write(f"oci:{folder}", ONE)
    assert list(outside.iterdir()) == []


def test_index_json_as_a_link_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}:a", ONE)
    (folder / "index.json").rename(tmp_path / "mine")
    before = (tmp_path / "mine").read_bytes()
    (folder / "index.json").symlink_to(tmp_path / "mine")
    with pytest.raises(CtkError, match="symbolic links"):
        write(f"oci:{folder}:b", TWO)
    assert (tmp_path / "mine").read_bytes() == before
    assert holds(f"oci:{folder}:a", ONE), "reading follows it: what it leads to is hashed"


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("x")
    with pytest.raises(Usage, match="not an OCI image layout"):
        write(f"oci:{tmp_path}", ONE)
    assert files(tmp_path) == ["thesis"]
    with pytest.raises(CtkError, match="not a directory"):
        write(f"oci:{tmp_path}/thesis", ONE)
    with pytest.raises(CtkError, match="no such file"):
        write(f"oci:{tmp_path}/no/layout", ONE)
    assert files(tmp_path) == ["thesis"]


def test_what_is_no_layout(tmp_path: Path) -> None:
    for text, error in (("oci:{}/none", NotFound), ("oci:{}", NotFound)):
        with pytest.raises(error, match="no OCI image layout is there"):
            holds(text.format(tmp_path), ONE)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    (tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    with pytest.raises(NotFound, match=r"'2\.0\.0'"):
        holds(f"oci:{tmp_path}", ONE)
    with pytest.raises(NotFound, match=r"'2\.0\.0'"):
        write(f"oci:{tmp_path}", ONE)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    with pytest.raises(NotFound, match="no image in it"):
        holds(f"oci:{tmp_path}", ONE)
    entry = {"mediaType": "application/x-other", "digest": ONE.raw.digest, "size": 1}
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(NotFound, match="no image in it, but application/x-other"):
        holds(f"oci:{tmp_path}", ONE)
    (tmp_path / "file").touch()
    with pytest.raises(NotFound) as info:
        holds(f"oci:{tmp_path}/file", ONE)
    assert "oci-archive:" in info.value.hint


def test_a_blob_that_was_changed_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}", ONE)
    path = folder / "blobs" / ONE.raw.digest.replace(":", "/")
    path.write_bytes(ONE.raw.data.replace(b"2", b"3"))
    with pytest.raises(Untrusted, match="its digest is"):
        holds(f"oci:{folder}", ONE)
    path.write_bytes(ONE.raw.data)
    layer = folder / "blobs" / ONE.layers[0].digest.replace(":", "/")
    layer.write_bytes(b"x")
    with pytest.raises(Untrusted, match="1 bytes, and"):
        holds(f"oci:{folder}", ONE)
    layer.unlink()
    with pytest.raises(NotFound, match="no such file"):
        holds(f"oci:{folder}", ONE)
    os.mkfifo(layer)
    with pytest.raises(NotFound, match="not a regular file"):
        holds(f"oci:{folder}", ONE)
    whole = json.loads((folder / "index.json").read_bytes())
    whole["manifests"][0]["size"] += 1
    (folder / "index.json").write_text(json.dumps(whole))
    with pytest.raises(Untrusted, match="announced"):
        holds(f"oci:{folder}", ONE)


def test_sha512(tmp_path: Path) -> None:
    data = b"something"
    descriptor = Descriptor(media_types.OCI_CONFIG, images.sha512(data), len(data))
    document = manifest.write(descriptor, [])
    raw = Raw(document, media_types.OCI_MANIFEST, images.sha512(document))
    destination = layout.open_destination(locate(f"oci:{tmp_path}/layout"))
    destination.put_blob(descriptor, iter([data]))
    destination.put_manifest(raw)
    destination.commit()
    destination.close()
    source = layout.open_source(locate(f"oci:{tmp_path}/layout"))
    assert source.manifest() == raw and images.fetch(source, descriptor) == data
    source.close()


@pytest.mark.parametrize("called", [".AZ94n18s", "a__b", "a---b", "a-", "/a", "a//b", "a b", "ä"])
def test_names_that_other_programs_do_not_take(called: str, tmp_path: Path) -> None:
    """By the grammar of image-spec, annotations.md; skopeo calls each of them an invalid image."""
    for transport in ("oci", "oci-archive"):
        with pytest.raises(Usage, match="is no name of an image in a layout"):
            layout.open_destination(locate(f"{transport}:{tmp_path}/new:{called}"))
    assert os.listdir(tmp_path) == []
    layout.open_destination(locate(f"oci:{tmp_path}/new:1.0--rc_1+b/x@y:Z")).close()


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    with pytest.raises(Usage, match="2 images"):
        write(f"oci:{folder}:x", ONE, TWO)
    with pytest.raises(Usage, match="the image's digest is"):
        write(f"oci:{folder}@{TWO.raw.digest}", ONE)
    assert not folder.exists()
    write(f"oci:{folder}@{ONE.raw.digest}", ONE)
    assert holds(f"oci:{folder}", ONE)
    wrong = Raw(ONE.raw.data, media_types.OCI_INDEX, ONE.raw.digest)
    destination = layout.open_destination(locate(f"oci:{folder}"))
    with pytest.raises(Invalid, match="the document came as"):
        destination.put_manifest(wrong)
    with pytest.raises(Untrusted):
        destination.put_manifest(ONE.raw._replace(digest=TWO.raw.digest))
    with pytest.raises(Untrusted):
        # Of this digest and size there is a blob already.
        destination.put_manifest(ONE.raw._replace(data=ONE.raw.data.replace(b"+gzip", b"+zstd")))
    destination.close()


def test_an_entry_that_no_json_can_hold_is_one_error(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    write(f"oci:{folder}:a", ONE)
    text = (folder / "index.json").read_text().replace('"size":', '"x":1e999,"size":')
    (folder / "index.json").write_text(text)
    with pytest.raises(Invalid, match="can't be written again"):
        write(f"oci:{folder}:b", TWO)
    assert (folder / "index.json").read_text() == text
