"""What is asked of a registry itself: tags, deletion, referrers; and artifacts, which are passed on as they are."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import Command
from tests.fixtures.registry import DebianRegistry
from toolkit.image import digest as digests
from toolkit.image import layout, name
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw

pytestmark = pytest.mark.root

ONE = images.image(images.layer({"etc/": b"", "etc/one": b"1" * 5000}))
OTHER = images.image(images.layer({"arm": b"arm"}), platform=images.ARM64)
SPDX = json.dumps({"spdxVersion": "SPDX-2.3", "name": "one"}).encode()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def ours(ctk: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., "object"]]:
    """ctk, with a store of the test's own, of a user without settings."""
    registry.own_home(tmp_path, monkeypatch)
    env = {key: os.environ[key] for key in ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")}
    env["CTK_IMAGES"] = str(tmp_path / "images")
    yield lambda *words: ctk(*words, env=env, cwd=str(tmp_path))
    registry.close_all()


def filled(running: DebianRegistry, called: str) -> str:
    """A repository with ONE in it, tags 1 and 2; its whole name."""
    there = registry.opened(running.host, called)
    images.put(there, ONE, "1")
    there.put_manifest(ONE.raw, "2")
    return there.reference.name


def test_tags_are_listed(ours: Command, running: DebianRegistry) -> None:
    where = filled(running, "tags/one")
    assert sorted(ours("image", "tags", where).ok().out.split()) == ["1", "2"]
    assert sorted(json.loads(ours("image", "tags", "--json", f"docker://{where}").ok().out)) == ["1", "2"]
    told = ours("image", "tags", f"{where}:1")
    assert told.rc == 1 and f"ctk image tags {where}" in told.err
    assert ours("image", "tags", f"{running.host}/tags/none").rc == 1
    told = ours("list-tags", where)
    assert told.rc == 1 and "ctk image tags" in told.err


def test_an_image_is_deleted_there_and_a_tag_only_where_that_can_be(ours: Command, running: DebianRegistry) -> None:
    where = filled(running, "delete/two")
    told = ours("image", "rm", f"docker://{where}:1")
    assert told.rc == 1 and f"{where}@{ONE.digest}" in told.err
    assert ours("image", "rm", f"docker://{where}").rc == 1
    assert ours("image", "rm", "docker://Upper/case:1", f"docker://{where}@{ONE.digest}").rc == 1
    assert sorted(ours("image", "tags", where).ok().out.split()) == ["1", "2"]
    deleted = ours("image", "rm", f"docker://{where}@{ONE.digest}").ok()
    assert deleted.out == f"deleted docker://{where}@{ONE.digest}\n"
    assert ours("image", "rm", f"docker://{where}@{ONE.digest}").rc == 1
    assert ours("pull", f"{where}:1").rc == 1


def test_a_bill_of_materials_is_attached_and_found(ours: Command, running: DebianRegistry, tmp_path: Path) -> None:
    """By the tag of the specification's fall-back: this registry has no list of its own. skopeo gets the same bytes."""
    place = layout.open_destination(name.locate(f"oci:{tmp_path}/layout:it"))
    images.put(place, ONE, "it")
    place.commit()
    place.close()
    ours("copy", f"oci:{tmp_path}/layout:it", "store:mine:1").ok()
    (tmp_path / "one.spdx.json").write_bytes(SPDX)
    where = f"{running.host}/bills:1"
    for wrong, because in (("none", "No such file"), ("layout/oci-layout", "neither SPDX"), ("images", "directory")):
        told = ours("push", "mine:1", where, "--attach-sbom", wrong)
        assert told.rc == 1 and because.lower() in told.err.lower()
    assert ours("image", "tags", f"{running.host}/bills").rc == 1  # nothing was pushed
    for _ in range(2):
        pushed = ours("push", "--json", "mine:1", where, "--attach-sbom", "one.spdx.json").ok()
    bill = json.loads(pushed.out.splitlines()[-1])["result"]["sbom"]
    found = json.loads(ours("image", "referrers", "--json", where).ok().out)
    assert found["subject"] == ONE.digest
    assert [(one["digest"], one["artifactType"]) for one in found["referrers"]] == [(bill, "application/spdx+json")]
    assert "application/spdx+json" in ours("image", "referrers", where).ok().out
    assert f"nothing refers to {ONE.digest}" in ours("image", "referrers", "--type", "x/y", where).ok().out
    raw = registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{running.host}/bills@{bill}")
    document = manifest.read(raw, "", "it")
    assert document.subject == ONE.descriptor and document.config.media_type == media_types.OCI_EMPTY
    ours("copy", f"docker://{running.host}/bills@{bill}", f"oci:{tmp_path}/bill:it").ok()
    (layer,) = document.layers
    assert layer.annotations == {"org.opencontainers.image.title": "one.spdx.json"}
    kept = tmp_path / "bill/blobs/sha256" / layer.digest.partition(":")[2]
    assert kept.read_bytes() == SPDX


def test_what_refers_to_one_image_of_an_index(ours: Command, running: DebianRegistry) -> None:
    there = registry.opened(running.host, "refer/index")
    for one in (ONE, OTHER):
        images.put(there, one)
    there.put_manifest(images.index(ONE, OTHER, platforms=(images.AMD64, images.ARM64)), "1")
    data = manifest.write(
        manifest.described(b"{}", media_types.OCI_EMPTY), [], subject=OTHER.descriptor, artifact_type="x/y"
    )
    there.put_blob(Descriptor(media_types.OCI_EMPTY, digests.of(b"{}"), 2), iter([b"{}"]))
    there.put_manifest(Raw(data, media_types.OCI_MANIFEST, digests.of(data)))
    where = f"{there.reference.name}:1"
    assert json.loads(ours("image", "referrers", "--json", where).ok().out)["referrers"] == []
    found = json.loads(ours("image", "referrers", "--json", "--platform", "linux/arm64", where).ok().out)
    assert found["subject"] == OTHER.digest and [one["digest"] for one in found["referrers"]] == [digests.of(data)]
    assert ours("image", "referrers", f"{there.reference.name}:none").rc == 1


@pytest.mark.parametrize("config", [media_types.OCI_EMPTY, "application/x.mine+json"])
def test_an_artifact_keeps_its_bytes(config: str, ours: Command, running: DebianRegistry, tmp_path: Path) -> None:
    """Registry, layout, archive, store, registry: any media types, a field that we don't know, any white space."""
    there = registry.opened(running.host, "artifact/one")
    data = os.urandom(50_000)
    blob = manifest.described(data, "application/x.model")
    content = {blob.digest: data, digests.of(b"{}"): b"{}"}
    empty = manifest.described(b"{}", config)
    whole = json.loads(manifest.write(empty, [blob], artifact_type="application/x.kind", annotations={"a": "b"}))
    document = json.dumps(whole | {"com.example.more": [1]}, indent=3).encode()
    for one in (blob, empty):
        there.put_blob(one, iter([content[one.digest]]))
    there.put_manifest(Raw(document, media_types.OCI_MANIFEST, digests.of(document)), "1")
    places = (
        f"docker://{there.reference.name}:1",
        f"oci:{tmp_path}/layout:it",
        f"oci-archive:{tmp_path}/it.tar:it",
        "store:kept:1",
        f"docker://{running.host}/artifact/two:1",
    )
    for source, destination in itertools.pairwise(places):
        ours("copy", source, destination).ok()
    shown = registry.skopeo("inspect", "--raw", "--tls-verify=false", places[-1])
    assert shown == document
    again = registry.opened(running.host, "artifact/two:1")
    assert images.fetch(again, blob) == data
    ours("pull", f"{there.reference.name}:1").ok()


@pytest.mark.parametrize("to", ["docker", "oci"])
def test_what_is_attached_is_copied_if_asked_for(
    to: str, ours: Command, running: DebianRegistry, tmp_path: Path
) -> None:
    """A bill of materials, by its subject; a signature of it in turn; and cosign's signature, by its tag."""
    where = filled(running, f"attached/{to}")
    there = registry.opened(running.host, f"attached/{to}")
    signed: list[str] = []

    def artifact(text: bytes, subject: Descriptor | None, called: str = "") -> Descriptor:
        blob = manifest.described(text, "application/vnd.example.text")
        empty = manifest.described(b"{}", media_types.OCI_EMPTY)
        for one, data in ((blob, text), (empty, b"{}")):
            there.put_blob(one, iter([data]))
        data = manifest.write(empty, [blob], subject=subject, artifact_type="application/vnd.example")
        there.put_manifest(Raw(data, media_types.OCI_MANIFEST, digests.of(data)), called)
        signed.append(digests.of(data))
        return manifest.described(data, media_types.OCI_MANIFEST)

    artifact(b"signature of the bill", artifact(b"bill", ONE.descriptor))
    tag = f"{ONE.digest.replace(':', '-')}.sig"
    artifact(b"signature of the image", None, tag)
    target = f"docker://{running.host}/attached/copy" if to == "docker" else f"oci:{tmp_path}/layout"
    told = ours("copy", f"docker://{where}:1", f"{target}:1").ok()
    assert "not copied; --referrers takes them" in told.err
    told = ours("copy", f"docker://{where}:1", f"{target}:2", "--referrers").ok()
    assert "not copied" not in told.err
    if to == "docker":
        new = registry.opened(running.host, "attached/copy")
        assert new.head(tag).digest == signed[2]
        (bill,) = new.referrers(ONE.digest)
        assert bill.digest == signed[0] and [one.digest for one in new.referrers(bill.digest)] == [signed[1]]
        assert images.fetch(new, manifest.described(b"signature of the bill", "x")) == b"signature of the bill"
    else:
        listed = json.loads((tmp_path / "layout/index.json").read_bytes())["manifests"]
        assert {one["digest"] for one in listed} == {ONE.digest, *signed}
        assert images.equal(layout.open_source(name.locate(f"{target}:2")), ONE)
        assert layout.open_source(name.locate(f"{target}:{tag}")).manifest().digest == signed[2]


@pytest.mark.parametrize("words", [("oci:layout:1", "oci:other:1"), ("docker://localhost:1/a", "store:a")])
def test_where_nothing_is_attached(words: tuple[str, str], ours: Command) -> None:
    told = ours("copy", *words, "--referrers")
    assert told.rc == 1 and "from a registry, to a registry or an OCI layout" in told.err
