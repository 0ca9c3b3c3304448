"""Images into Debian's registry: skopeo reads what we wrote, and nothing half-made has a name."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images, registry
from tests.fixtures.registry import PASSWORD, USER, DebianRegistry
from toolkit.errors import NotFound, Unreachable, Untrusted, Usage
from toolkit.events import Done, Event
from toolkit.image import digest as digests
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw
from toolkit.image.name import locate
from toolkit.image.registry import client, upload
from toolkit.image.store.store import Store
from toolkit.image.transfer.push import CopyRequest, copy

ONE = images.image(images.layer({"etc/": b"", "etc/one": os.urandom(300_000)}))
TWO = images.image(images.layer({"two": b"2"}), images.layer({"three": b"3"}), author="somebody")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


def opened(where: DebianRegistry, called: str, **named: Any) -> client.Registry:
    return registry.opened(where.host, called, **named)


def pieces(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def blobs_in(where: DebianRegistry) -> set[str]:
    """The digests of all blobs in the registry's storage, links of repositories left out."""
    return {f"sha256:{path.parent.name}" for path in where.storage.rglob("blobs/sha256/*/*/data")}


def sessions_in(where: DebianRegistry, repository: str) -> list[str]:
    """Upload sessions that are open; of one that was given up, the registry keeps states of hashes."""
    folder = where.storage / "docker/registry/v2/repositories" / repository / "_uploads"
    return sorted(path.parent.name for path in folder.glob("*/data"))


def test_an_image_goes_there_and_skopeo_reads_it(plain: DebianRegistry, tmp_path: Path) -> None:
    there = opened(plain, "tests/one:1.0")
    assert not there.has(ONE.layers[0])
    images.put(there, ONE, "1.0")
    there.commit()
    assert there.has(ONE.layers[0]) and images.equal(there, ONE)
    raw = registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{plain.host}/tests/one:1.0")
    assert raw == ONE.raw.data
    called = f"docker://{plain.host}/tests/one:1.0"
    registry.skopeo("copy", "-q", "--src-tls-verify=false", called, f"oci:{tmp_path}/copied")
    copied = {path.name: path.read_bytes() for path in (tmp_path / "copied/blobs/sha256").iterdir()}
    assert {f"sha256:{hexadecimal}": data for hexadecimal, data in copied.items()} == {
        **ONE.blobs,
        ONE.raw.digest: ONE.raw.data,
    }


def test_a_name_may_be_a_whole_reference_or_none(plain: DebianRegistry) -> None:
    there = opened(plain, "tests/names")
    images.put(there, TWO, f"{plain.host}/tests/names:whole")
    images.put(there, ONE)
    assert there.tags() == ["whole"] and there.manifest(ONE.raw.digest).data == ONE.raw.data
    with pytest.raises(Usage, match="the repository that is open is"):
        there.put_manifest(ONE.raw, f"{plain.host}/tests/other:1")


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 4096])
def test_a_blob_in_chunks(size: int, plain: DebianRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way a blob can go gives the same."""
    data = os.urandom(size)
    for way, (chunk, chunked) in {"whole": (10_000, 10_000), "once": (-1, 10_000), "chunks": (-1, -1)}.items():
        monkeypatch.setattr(upload, "CHUNK_BYTES", 50 if way == "chunks" else chunk)
        monkeypatch.setattr(upload, "CHUNKED_BYTES", chunked)
        if way == "chunks":
            monkeypatch.setattr(upload, "CHUNKED_BYTES", 0)
            if size <= 50:
                continue
        there = opened(plain, f"ways/{way}{size}")
        wanted = Descriptor("application/octet-stream", digests.of(data), size)
        before = len(plain.log)
        there.put_blob(wanted, pieces(data, 20))
        assert images.fetch(there, wanted) == data and there.has(wanted)
        patches = [line for line in plain.log[before:] if "http.request.method=PATCH" in line and "response" in line]
        assert bool(patches) == (way == "chunks"), patches
        assert sessions_in(plain, f"ways/{way}{size}") == []
        there.close()


@pytest.mark.parametrize("way", ["whole", "once", "chunks"])
@pytest.mark.parametrize("wrong", ["digest", "longer", "shorter", "breaks"])
def test_what_is_not_what_it_should_be_does_not_get_there(
    way: str, wrong: str, plain: DebianRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "whole":
        monkeypatch.setattr(upload, "CHUNK_BYTES", 1000)
    if way == "chunks":
        monkeypatch.setattr(upload, "CHUNKED_BYTES", 1000)
    data = os.urandom(5000)
    wanted = Descriptor("x", digests.of(data), len(data))
    sent = {"digest": data[:-1] + bytes([data[-1] ^ 1]), "longer": data + b"x", "shorter": data[:-1], "breaks": data}

    def given() -> Iterator[bytes]:
        yield from pieces(sent[wrong], 700)
        if wrong == "breaks":
            raise OSError("the source broke")

    there = opened(plain, f"wrong/{way}")
    before, said = blobs_in(plain), len(plain.log)
    with pytest.raises(OSError if wrong == "breaks" else Untrusted, match=r"broke|digest is|bytes"):
        there.put_blob(wanted, given())
    assert blobs_in(plain) == before and not there.has(wanted)
    if way == "once":
        # It is given up as well, but docker-registry can't find the session of a body that has stopped half-way.
        assert any("http.request.method=DELETE" in line for line in plain.log[said:])
    else:
        assert sessions_in(plain, f"wrong/{way}") == []


def test_a_blob_of_another_repository_is_mounted(plain: DebianRegistry) -> None:
    first, second = opened(plain, "mount/first"), opened(plain, "mount/second")
    images.put(first, ONE, "1")
    (blob,) = ONE.layers
    assert second.mount(blob, "mount/first") and second.has(blob)
    assert not second.mount(TWO.layers[0], "mount/first") and not second.has(TWO.layers[0])
    assert sessions_in(plain, "mount/second") == []


def test_a_push_has_the_layers_mounted_that_were_pulled_there(plain: DebianRegistry) -> None:
    """The store's own names tell in which repository a layer is: none of its bytes is sent again."""
    store = Store()
    place = store.destination()
    images.put(place, ONE, f"{plain.host}/base:1")
    place.close()
    images.put(opened(plain, "base"), ONE, "1")
    store.tag(f"{plain.host}/base:1", "mine")
    events: list[Event] = []
    copy(CopyRequest(locate("store:mine"), locate(f"docker://{plain.host}/mounted:1")), events.append)
    (done,) = [event for event in events if isinstance(event, Done)]
    assert done.result["bytes"] == ONE.config.size_bytes
    assert images.equal(opened(plain, "mounted:1"), ONE)


def test_a_registry_without_logins_checks_none(plain: DebianRegistry) -> None:
    assert not opened(plain, "any", username=USER, password="wrong").check_login()


def test_a_manifest_without_its_blobs_is_refused_by_the_registry(plain: DebianRegistry) -> None:
    there = opened(plain, "empty/one")
    with pytest.raises((Unreachable, NotFound), match="BLOB_UNKNOWN"):
        there.put_manifest(ONE.raw, "1")
    with pytest.raises(NotFound):
        there.manifest("1")


def test_tags_are_those_that_skopeo_lists(plain: DebianRegistry) -> None:
    there = opened(plain, "tags/many")
    images.put(there, ONE)
    for tag in ("b", "a", "1.0", "Z"):
        there.put_manifest(ONE.raw, tag)
    listed = json.loads(registry.skopeo("list-tags", "--tls-verify=false", f"docker://{plain.host}/tags/many"))
    assert there.tags() == listed["Tags"] and set(there.tags()) == {"b", "a", "1.0", "Z"}
    with pytest.raises(NotFound, match="NAME_UNKNOWN"):
        opened(plain, "tags/none").tags()


def test_a_manifest_is_deleted_by_its_digest(plain: DebianRegistry) -> None:
    there = opened(plain, "delete/one")
    images.put(there, ONE, "1")
    with pytest.raises(Unreachable, match="400 Bad Request") as caught:  # this registry deletes no tags
        there.delete("1")
    assert f"{plain.host}/delete/one@sha256:" in caught.value.hint
    there.delete(ONE.raw.digest)
    with pytest.raises(NotFound):
        there.manifest("1")
    with pytest.raises(NotFound):
        there.delete(ONE.raw.digest)


def test_a_registry_that_deletes_nothing(tmp_path: Path) -> None:
    with registry.running(tmp_path / "keeps", deletes=False) as running:
        there = opened(running, "one")
        images.put(there, ONE, "1")
        with pytest.raises(Unreachable, match="405") as caught:
            there.delete(ONE.raw.digest)
        assert "administrator" in caught.value.hint and there.manifest("1").data == ONE.raw.data
        there.close()


def artifact(subject: Raw, kind: str, text: str) -> images.Image:
    """Something that refers to an image, as a signature or a bill of materials does."""
    empty = Descriptor(media_types.OCI_EMPTY, digests.of(b"{}"), 2)
    blob = Descriptor("text/plain", digests.of(text.encode()), len(text))
    whole = Descriptor(subject.media_type, subject.digest, len(subject.data))
    data = manifest.write(empty, [blob], subject=whole, artifact_type=kind, annotations={"text": text})
    raw = Raw(data, media_types.OCI_MANIFEST, digests.of(data))
    return images.Image(raw, empty, (blob,), {empty.digest: b"{}", blob.digest: text.encode()})


def test_what_refers_to_an_image_where_the_registry_keeps_no_list(plain: DebianRegistry) -> None:
    """docker-registry has no referrers API: the index under the subject's tag is ours to keep."""
    there = opened(plain, "refer/one")
    images.put(there, ONE, "1")
    assert there.referrers(ONE.raw.digest) == []
    bill, signature = artifact(ONE.raw, "application/x.bill", "bill"), artifact(ONE.raw, "application/x.sig", "sig")
    for one in (bill, signature, bill):
        images.put(there, one)
    found = there.referrers(ONE.raw.digest)
    assert [(one.digest, one.artifact_type, one.annotations) for one in found] == [
        (bill.raw.digest, "application/x.bill", {"text": "bill"}),
        (signature.raw.digest, "application/x.sig", {"text": "sig"}),
    ]
    assert [one.digest for one in there.referrers(ONE.raw.digest, "application/x.sig")] == [signature.raw.digest]
    tag = ONE.raw.digest.replace(":", "-")
    index = json.loads(
        registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{there.reference.name}:{tag}")
    )
    assert [one["digest"] for one in index["manifests"]] == [bill.raw.digest, signature.raw.digest]
    there.delete(bill.raw.digest)
    assert [one.digest for one in there.referrers(ONE.raw.digest)] == [signature.raw.digest]


def test_pushing_needs_a_login_and_says_so(tmp_path: Path) -> None:
    with registry.running(tmp_path / "guarded", logins=True) as running:
        there = opened(running, "one")
        with pytest.raises(Unreachable, match=r"401 Unauthorized .* we asked as anonymous") as caught:
            there.put_blob(ONE.layers[0], pieces(ONE.blobs[ONE.layers[0].digest]))
        assert f"ctk login {running.host}" in caught.value.hint
        there = opened(running, "one", username=USER, password=PASSWORD)
        images.put(there, ONE, "1")
        assert images.equal(there, ONE, "1")
