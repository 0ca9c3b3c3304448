"""The documents of an image: what the specification allows is read, and what could be read in two ways is refused.

image-spec's JSON schemas accept MANIFEST, INDEX and IMAGE. What their own tests refuse is refused here too, but for
what `test_what_the_schemas_are_stricter_about` has.
"""

import copy
import json
import random
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures import images
from toolkit.errors import CtkError, Invalid, NotFound, Usage
from toolkit.image import digest as digests
from toolkit.image.document import config, descriptor, fields, manifest, media_types, platform
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw
from toolkit.image.layout import index_json, manifest_json
from toolkit.image.transfer import tree

HEX = "ab" * 32
LAYER: dict[str, Any] = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": f"sha256:{HEX}", "size": 5}
CONFIG: dict[str, Any] = {"mediaType": media_types.OCI_CONFIG, "digest": f"sha256:{HEX}", "size": 7}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": media_types.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [LAYER, {**LAYER, "mediaType": media_types.OCI_LAYER_ZSTD}],
    "subject": {"mediaType": media_types.OCI_MANIFEST, "digest": "sha512:" + HEX * 2, "size": 0},
    "annotations": {"a": "b"},
}
ENTRY: dict[str, Any] = {
    "mediaType": media_types.OCI_MANIFEST,
    "digest": f"sha256:{HEX}",
    "size": 7143,
    "platform": {"architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1", "os.features": ["x"]},
    "urls": ["https://example.com/x"],
    "annotations": {"org.opencontainers.image.ref.name": "1.0"},
}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [ENTRY]}
IMAGE: dict[str, Any] = {
    "created": "2026-01-31T10:00:00Z",
    "author": "somebody",
    "architecture": "arm",
    "variant": "v7",
    "os": "linux",
    "os.version": "1",
    "os.features": ["x"],
    "config": {
        "User": "web:33",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["PATH=/bin"],
        "Entrypoint": ["/bin/entry"],
        "Cmd": ["serve"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Labels": {"k": "v"},
        "StopSignal": "SIGQUIT",
        "Memory": 5,
        "Healthcheck": {"Test": ["NONE"]},
    },
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
    "history": [{"created": "2026-01-31T10:00:00Z", "created_by": "FROM", "comment": "x", "empty_layer": True}],
}


def read(whole: Any, media_type: str = "") -> Manifest | Index:
    return manifest.read(json.dumps(whole).encode(), media_type, "the document")


def changed(whole: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`whole` with another value at `path` (a.b.0.c); `...` takes it away."""
    found = copy.deepcopy(whole)
    *above, last = path.split("/")
    at: Any = found
    for word in above:
        at = at[int(word)] if isinstance(at, list) else at[word]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return found


def test_a_manifest() -> None:
    found = read(MANIFEST)
    assert isinstance(found, Manifest) and found.is_image
    assert found.config.as_json() == CONFIG and [layer.as_json() for layer in found.layers] == MANIFEST["layers"]
    assert found.subject is not None and found.subject.as_json() == MANIFEST["subject"]
    assert found.size_bytes == len(json.dumps(MANIFEST)) + 7 + 5 + 5
    assert manifest.layer_codecs(found, "x") == ["gzip", "zstd"]
    again = manifest.write(found.config, found.layers, annotations=found.annotations, subject=found.subject)
    assert json.loads(again) == MANIFEST and read(json.loads(again)) == found._replace(
        raw=json.dumps(json.loads(again)).encode()
    )


def test_an_index() -> None:
    found = read(INDEX)
    assert isinstance(found, Index)
    (one,) = found.manifests
    assert (one.platform, one.name, one.urls) == (Platform("linux", "arm", "v7"), "1.0", ("https://example.com/x",))
    again = json.loads(manifest.write_index([one]))["manifests"][0]
    assert again == {**ENTRY, "platform": {"architecture": "arm", "os": "linux", "variant": "v7"}}


def test_a_configuration() -> None:
    found = config.read(json.dumps(IMAGE).encode(), "it")
    assert found.platform == Platform("linux", "arm", "v7") and found.diff_ids == (f"sha256:{HEX}",)
    run = found.run
    assert (run.user, run.env, run.entrypoint, run.cmd) == ("web:33", ("PATH=/bin",), ("/bin/entry",), ("serve",))
    assert (run.exposed_ports, run.volumes, run.labels) == (("80/tcp",), ("/data",), {"k": "v"})
    assert (run.working_dir, run.stop_signal, found.os_features) == ("/srv", "SIGQUIT", ("x",))
    assert found.history[0].empty_layer and found.history[0].created_by == "FROM"
    assert config.read(b"{}", "it").run == config.Run()
    nulls = {"config": None, "rootfs": None, "history": None, "os.features": None}
    assert config.read(json.dumps(nulls).encode(), "it").run == config.Run(), "Go writes null for what is empty"


def test_docker_s_own_media_types() -> None:
    whole = {**MANIFEST, "mediaType": media_types.DOCKER_MANIFEST}
    found = read(whole, media_types.DOCKER_MANIFEST + "; charset=utf-8")
    assert isinstance(found, Manifest) and found.media_type == media_types.DOCKER_MANIFEST
    assert isinstance(read({**INDEX, "mediaType": media_types.DOCKER_LIST}), Index)
    without = changed(MANIFEST, "mediaType", ...)
    assert read(without).media_type == read(without, "application/json").media_type == media_types.OCI_MANIFEST
    assert read(changed(INDEX, "mediaType", ...), "text/plain").media_type == media_types.OCI_INDEX


REFUSED: list[tuple[dict[str, Any], str, Any, str]] = [
    # CVE-2021-41190: a document that is a manifest to one reader and an index to another.
    (MANIFEST, "manifests", [], "is an index's"),
    (INDEX, "layers", [], "is a manifest's"),
    (INDEX, "config", CONFIG, "is a manifest's"),
    (MANIFEST, "mediaType", media_types.OCI_INDEX, "is a manifest's"),
    (INDEX, "mediaType", media_types.OCI_MANIFEST, "is an index's"),
    (MANIFEST, "mediaType", "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
    (MANIFEST, "mediaType", "application/x-other", "neither a manifest nor an index"),
    (MANIFEST, "mediaType", 7, "must be a text"),
    # Go reads a field in any case, and with the two letters beyond ASCII that fold into it.
    (MANIFEST, "Layers", [], "is written 'layers'"),
    (MANIFEST, "layer\u017f", [], "is written 'layers'"),
    (MANIFEST, "MEDIATYPE", "x", "is written 'mediaType'"),
    (MANIFEST, "Manifests", [], "is written 'manifests'"),
    (MANIFEST, "config/Digest", f"sha256:{HEX}", "is written 'digest'"),
    (MANIFEST, "layers/0/Size", 1, "is written 'size'"),
    (INDEX, "manifests/0/Platform", {}, "is written 'platform'"),
    (INDEX, "manifests/0/platform/OS", "linux", "is written 'os'"),
    (MANIFEST, "schemaVersion", 1, "must be 2"),
    (MANIFEST, "schemaVersion", "2", "must be a number"),
    (MANIFEST, "schemaVersion", 2.0, "must be a number"),
    (MANIFEST, "schemaVersion", True, "must be a number"),
    (MANIFEST, "schemaVersion", ..., "is missing"),
    (MANIFEST, "config", ..., "is missing"),
    (MANIFEST, "config", [], "must be an object"),
    (MANIFEST, "config", None, "is missing"),
    (MANIFEST, "layers", ..., "is missing"),
    (MANIFEST, "layers", {}, "must be a list"),
    (MANIFEST, "layers", [7], "must be an object"),
    (MANIFEST, "layers", [LAYER] * 1001, "1000 is the limit"),
    (MANIFEST, "annotations", {"a": 1}, "an object of texts"),
    (MANIFEST, "annotations", ["a"], "an object of texts"),
    (MANIFEST, "subject", "x", "must be an object"),
    (MANIFEST, "subject", {}, "is missing"),
    (MANIFEST, "artifactType", 7, "must be a text"),
    (INDEX, "manifests", ..., "is missing"),
    (INDEX, "manifests", 7, "must be a list"),
    (INDEX, "manifests", [ENTRY] * 10_001, "10000 is the limit"),
    (INDEX, "manifests/0/platform", "linux", "must be an object"),
    (INDEX, "manifests/0/platform/architecture", 7, "must be a text"),
    (INDEX, "manifests/0/annotations", {"a": None, "b": 7}, "an object of texts"),
    (INDEX, "manifests/0/urls", "https://x", "a list of texts"),
    *(
        (MANIFEST, f"{where}/digest", wrong, said)
        for where in ("config", "layers/1", "subject")
        for wrong, said in (
            (..., "is missing"),
            ("", "is missing"),
            (7, "must be a text"),
            (f"sha256:{HEX.upper()}", "is not a digest"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "is not a digest"),
            ("sha256:../../../../etc/passwd", "is not a digest"),
            (f"sha256:{HEX}\n", "is not a digest"),
            (f"sha512:{HEX}", "is not a digest"),
        )
    ),
    *(
        (MANIFEST, f"{where}/size", wrong, said)
        for where in ("config", "layers/1", "subject")
        for wrong, said in (
            (..., "is missing"),
            ("5", "must be a number"),
            (-1, "is not a size"),
            (1 << 63, "is not a size"),
            (5.5, "must be a number"),
            (True, "must be a number"),
        )
    ),
    *(
        (whole, path, wrong, "is not a media type")
        for whole, path in (
            (MANIFEST, "config/mediaType"),
            (MANIFEST, "layers/0/artifactType"),
            (MANIFEST, "artifactType"),
            (INDEX, "manifests/0/mediaType"),
        )
        for wrong in (
            "invalid",
            "a/",
            "/a",
            "a/b/c",
            ".a/b",
            "a/.b",
            "a/b; c=d",
            "a/b\r\nX: y",
            "a/" + "b" * 128,
            "é/x",
        )
    ),
    (MANIFEST, "layers/0/mediaType", ..., "is missing"),
    (MANIFEST, "config/mediaType", 7, "must be a text"),
]


@pytest.mark.parametrize(("whole", "path", "value", "said"), REFUSED, ids=lambda value: repr(value)[:40])
def test_manifests_that_are_refused(whole: dict[str, Any], path: str, value: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said) as info:
        read(changed(whole, path, value))
    assert "the document" in str(info.value)


def test_what_the_schemas_are_stricter_about() -> None:
    """An image without layers is docker's FROM scratch; a platform without a machine is written where there is none."""
    empty = read(changed(MANIFEST, "layers", []))
    assert isinstance(empty, Manifest) and empty.layers == ()
    index = read(changed(INDEX, "manifests/0/platform", {"os": "linux", "architecture": ""}))
    assert isinstance(index, Index) and index.manifests[0].platform is None
    bare = config.read(json.dumps(changed(IMAGE, "config/Env", ["A"])).encode(), "it")
    assert bare.run.env == ("A",)


def test_what_came_under_another_media_type() -> None:
    for whole, said in ((MANIFEST, media_types.OCI_INDEX), (INDEX, media_types.OCI_MANIFEST), (MANIFEST, "text/html")):
        with pytest.raises(Invalid, match="the document came as"):
            read(whole, said)
    with pytest.raises(Invalid, match="is an index's"):
        read(changed(INDEX, "mediaType", ...), media_types.OCI_MANIFEST)
    with pytest.raises(Invalid, match="is a manifest's"):
        read(changed(MANIFEST, "mediaType", ...), media_types.OCI_INDEX)


@pytest.mark.parametrize("text", [
    "", "null", "[]", "7", '"x"', "{", "{}{}", "\ufeff{}", "{'a': 1}", '{"a": NaN}', "[" * 100_000,
    '{"a":' * 50_000, "\x00", '{"a": "\x01"}',
], ids=lambda text: repr(text)[:20])  # fmt: skip
def test_what_is_not_an_object_in_json(text: str) -> None:
    readers: list[Callable[[bytes], object]] = [
        lambda data: manifest.read(data, "", "it"),
        lambda data: config.read(data, "it"),
        lambda data: index_json.read(data, "it"),
    ]
    for reader in readers:
        with pytest.raises(Invalid):
            reader(text.encode())
        with pytest.raises(Invalid, match="not UTF-8"):
            reader(b'{"a": "\xff"}')
        with pytest.raises(Invalid, match="is the limit"):
            reader(b" " * (fields.LIMIT_BYTES + 1))


CONFIGS: list[tuple[str, Any, str]] = [
    ("rootfs/diff_ids/0", f"sha256:{HEX.upper()}", "is not a digest"),
    ("rootfs/diff_ids/0", "sha256:../x", "is not a digest"),
    ("rootfs/diff_ids", "x", "a list of texts"),
    ("rootfs/diff_ids", [7], "a list of texts"),
    ("rootfs/Diff_Ids", [], "is written 'diff_ids'"),
    ("rootfs/type", "layer", "must be 'layers'"),
    ("rootfs", [], "must be an object"),
    ("Rootfs", {}, "is written 'rootfs'"),
    ("config", [], "must be an object"),
    ("config/entrypoint", ["/evil"], "is written 'Entrypoint'"),
    ("config/Env", "A=b", "a list of texts"),
    ("config/Env", {"A": "b"}, "a list of texts"),
    ("config/Env", ["A=b\0C=d"], "NUL byte"),
    ("config/Cmd", "sh", "a list of texts"),
    ("config/Entrypoint", [["sh"]], "a list of texts"),
    ("config/ExposedPorts", [80], "must be an object"),
    ("config/Volumes", ["/data"], "must be an object"),
    ("config/Labels", {"a": 1}, "an object of texts"),
    ("config/WorkingDir", 1, "must be a text"),
    ("config/StopSignal", 9, "must be a text"),
    ("config/User", 0, "must be a text"),
    # CVE-2024-40635: beyond int32 it became root.
    ("config/User", "2147483648", "beyond the ids"),
    ("config/User", "4294967296:0", "beyond the ids"),
    ("config/User", "0:2147483648", "beyond the ids"),
    ("config/User", "9" * 5000, "beyond the ids"),
    ("config/User", "\uff15", "beyond the ids"),
    ("history", {}, "must be a list"),
    ("history/0", "x", "must be an object"),
    ("history/0/empty_layer", "true", "true or false"),
    ("history", [{}] * 10_001, "10000 is the limit"),
    ("os", 7, "must be a text"),
    ("architecture", ["amd64"], "must be a text"),
    ("os.features", "x", "a list of texts"),
    ("created", 0, "must be a text"),
]


@pytest.mark.parametrize(("path", "value", "said"), CONFIGS, ids=lambda value: repr(value)[:30])
def test_configurations_that_are_refused(path: str, value: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        config.read(json.dumps(changed(IMAGE, path, value)).encode(), "it")


def test_the_largest_user_that_there_is() -> None:
    whole = changed(IMAGE, "config/User", "2147483647:2147483647")
    assert config.read(json.dumps(whole).encode(), "it").run.user == "2147483647:2147483647"


@pytest.mark.parametrize("layers", [0, 2])
def test_as_many_diff_ids_as_layers(layers: int) -> None:
    found = config.read(json.dumps(IMAGE).encode(), "it")
    config.check_layers(found, 1, "it")
    with pytest.raises(Invalid, match=f"has 1 entries, and the manifest has {layers} layers"):
        config.check_layers(found, layers, "it")


def test_chain_ids() -> None:
    """config.md, "Layer ChainID": the first is its diff id, the others hash what is below and their own."""
    one, two, three = (digests.of(text) for text in (b"1", b"2", b"3"))
    both = digests.of(f"{one} {two}".encode())
    assert config.chain_ids((one, two, three)) == [one, both, digests.of(f"{both} {three}".encode())]
    assert config.chain_ids(()) == []


@pytest.mark.parametrize(
    "wrong", ["application/x-other", media_types.OCI_MANIFEST, "application/vnd.oci.empty.v1+json"]
)
def test_layers_of_other_kinds(wrong: str) -> None:
    found = read(changed(MANIFEST, "layers/1/mediaType", wrong))
    assert isinstance(found, Manifest)
    with pytest.raises(Invalid, match=r"is not a layer") as info:
        manifest.layer_codecs(found, "it")
    assert info.value.path == "layers[1].mediaType" and info.value.hint == ""
    artifact = read(changed(changed(MANIFEST, "config/mediaType", "x/y"), "layers/0/mediaType", wrong))
    assert isinstance(artifact, Manifest) and not artifact.is_image
    with pytest.raises(Invalid) as hinted:
        manifest.layer_codecs(artifact, "it")
    assert "artifact" in hinted.value.hint


# Which of the second is taken on the first.
PLATFORMS: list[tuple[str, list[str], str]] = [
    ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
    ("linux/amd64", ["linux/amd64/v2", "linux/amd64"], "linux/amd64"),
    ("linux/amd64", ["linux/amd64/v2"], ""),
    ("linux/amd64", ["linux/amd64/v1"], "linux/amd64/v1"),
    ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
    ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
    ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
    ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
    ("linux/arm/v7", ["linux/arm/v8", "linux/arm/v5"], "linux/arm/v5"),
    ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
    ("linux/arm", ["linux/arm/v7"], "linux/arm/v7"),
    ("linux/arm/v6", ["linux/arm/v7", "linux/arm"], ""),
    ("linux/arm/v5", ["linux/arm/v6"], ""),
    ("linux/arm/v7", ["linux/arm64"], ""),
    ("linux/arm64/v9", ["linux/arm64"], "linux/arm64"),
    ("linux/arm64", ["linux/arm64/v9"], ""),
    ("linux/arm/v7", ["linux/arm/v" + "9" * 5000, "linux/arm/v\u00b2"], ""),
    ("linux/amd64/v900", ["linux/amd64"], "linux/amd64"),
    ("linux/386", ["linux/amd64"], ""),
    ("linux/s390x", ["linux/s390x", "linux/s390x"], "linux/s390x"),
    ("linux/amd64", ["windows/amd64", "unknown/unknown"], ""),
    ("linux/amd64", [], ""),
    ("linux/ppc64le/power9", ["linux/ppc64le/power8", "linux/ppc64le/power9"], "linux/ppc64le/power9"),
]


@pytest.mark.parametrize(("wanted", "offered", "taken"), PLATFORMS, ids=str)
def test_which_platform_is_taken(wanted: str, offered: list[str], taken: str) -> None:
    entries = [
        manifest.described(text.encode(), media_types.OCI_MANIFEST, platform=Platform(*text.split("/")))
        for text in offered
    ]
    index = read(json.loads(manifest.write_index(entries)))
    assert isinstance(index, Index)
    if taken:
        assert str(manifest.choose(index, platform.parse(wanted), "it").platform) == taken
        return
    with pytest.raises(NotFound, match=f"there is none for {wanted}") as info:
        manifest.choose(index, platform.parse(wanted), "it")
    for one in offered:
        assert (one in info.value.because) == ("unknown" not in one)


def test_entries_that_state_no_platform() -> None:
    one, two = (manifest.described(text, media_types.OCI_MANIFEST) for text in (b"1", b"2"))
    nested = manifest.described(b"3", media_types.OCI_INDEX)
    other = manifest.described(b"4", "application/x-other")
    wanted = Platform("linux", "amd64")

    def chosen(*entries: descriptor.Descriptor) -> str:
        index = read(json.loads(manifest.write_index(list(entries))))
        assert isinstance(index, Index)
        return manifest.choose(index, wanted, "it").digest

    assert chosen(one) == chosen(other, one) == one.digest
    assert chosen(one, two, nested) == nested.digest
    for entries in ((one, two), (), (other,)):
        with pytest.raises(NotFound):
            chosen(*entries)


@pytest.mark.parametrize(("text", "found"), [
    ("linux/amd64", "linux/amd64"), ("amd64", "linux/amd64"), ("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"),
    ("armhf", "linux/arm/v7"), ("armel", "linux/arm/v6"), ("linux/arm/v6", "linux/arm/v6"), ("i386", "linux/386"),
    ("Linux/AMD64 ", "linux/amd64"), ("freebsd/amd64", "freebsd/amd64"), ("linux/armhf/v8", "linux/arm/v8"),
])  # fmt: skip
def test_platforms_that_people_type(text: str, found: str) -> None:
    assert str(platform.parse(text)) == found


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "//"])
def test_platforms_that_are_none(text: str) -> None:
    with pytest.raises(Usage, match="is not OS/ARCHITECTURE"):
        platform.parse(text)


class Memory:
    """A source of documents that are in memory, which names them by digest."""

    def __init__(self, *documents: bytes) -> None:
        self.held = {digests.of(data): data for data in documents}
        self.top = digests.of(documents[-1])

    def manifest(self, wanted: str = "") -> Raw:
        return Raw(self.held[wanted or self.top], "", wanted or self.top)

    @contextmanager
    def blob(self, one: descriptor.Descriptor, start: int = 0) -> Any:
        yield iter([self.held[one.digest][start:]])

    def close(self) -> None:
        pass


def nested(depth: int) -> Memory:
    """An index in an index in … a manifest."""
    documents = [images.image().raw.data]
    kind = media_types.OCI_MANIFEST
    for _ in range(depth):
        documents.append(manifest.write_index([manifest.described(documents[-1], kind)]))
        kind = media_types.OCI_INDEX
    return Memory(*documents)


@pytest.mark.parametrize("depth", range(7))
def test_how_deep_indexes_may_be(depth: int) -> None:
    expected: Any = nullcontext() if depth <= 4 else pytest.raises(Invalid, match="nested more than 4 deep")
    with expected:
        assert tree.whole(nested(depth)).documents[0][0].data == images.image().raw.data
    with expected:
        assert tree.one(nested(depth), "", Platform("linux", "amd64")).top.data == images.image().raw.data


def test_the_configuration_of_an_image() -> None:
    one = images.image(images.layer({"x": b""}), author="somebody")
    found = read(json.loads(one.raw.data))
    assert isinstance(found, Manifest)
    data = one.blobs[one.config.digest]
    assert tree.configuration(Memory(data), found).author == "somebody"
    for wrong, said in (
        (found._replace(layers=()), "has 1 entries, and the manifest has 0 layers"),
        (found._replace(config=found.config._replace(media_type=media_types.OCI_EMPTY)), "it is an artifact"),
        (found._replace(config=found.config._replace(size_bytes=1 << 40)), "is the limit"),
        (found._replace(config=found.config._replace(size_bytes=len(data) - 1)), "announced"),
    ):
        with pytest.raises(CtkError, match=said):
            tree.configuration(Memory(data), wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def mutated(whole: Any, chance: random.Random, odd: list[Any]) -> Any:
    """Something in it is another thing, is missing, comes twice or is called otherwise."""
    found = copy.deepcopy(whole)
    holders: list[Any] = []

    def collect(value: Any) -> None:
        if isinstance(value, (dict, list)) and value:
            holders.append(value)
            for inner in value.values() if isinstance(value, dict) else value:
                collect(inner)

    collect(found)
    for _ in range(chance.randint(1, 3)):
        holder = chance.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            continue
        key = chance.choice(keys)
        what = chance.randrange(5)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[chance.choice([str(key).upper(), str(key) + "\u017f", "mediaType", "manifests", ""])] = holder.pop(
                key
            )
        elif what == 2 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = chance.choice(odd)
    return found


@settings(max_examples=2 * settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(), JSON)
def test_a_changed_document_is_read_or_refused(seed: int, value: Any) -> None:
    """Whatever a stranger has made of it: no other exception than ours, and what is accepted can be used."""
    chance = random.Random(seed)
    odd = [
        value,
        None,
        [],
        {},
        "",
        0,
        -1,
        1 << 64,
        1e308,
        True,
        "\ud800",
        "x" * 300,
        "9" * 5000,
        "v" + "9" * 5000,
        [[]],
        {"a": {}},
        f"sha256:{HEX}",
    ]
    docker = [{"Config": "x", "RepoTags": ["a:1"], "Layers": ["y"]}]
    for whole in (MANIFEST, INDEX, IMAGE, docker):
        data = json.dumps(mutated(whole, chance, odd)).encode(errors="surrogatepass")
        for reader in (read_and_use, use_config, use_index, use_docker):
            try:
                reader(data)
            except CtkError as error:
                assert str(error)


def read_and_use(data: bytes) -> None:
    found = manifest.read(data, "", "it")
    if isinstance(found, Manifest):
        assert manifest.write(found.config, found.layers, annotations=found.annotations)
        manifest.layer_codecs(found, "it")
    else:
        manifest.choose(found, Platform("linux", "amd64"), "it")


def use_config(data: bytes) -> None:
    found = config.read(data, "it")
    config.check_layers(found, 1, "it")
    assert len(config.chain_ids(found.diff_ids)) == 1


def use_index(data: bytes) -> None:
    entries = index_json.read(data, "it")
    assert index_json.read(index_json.write(entries, data), "it") == entries
    new = index_json.entry_of(manifest.described(b"{}", media_types.OCI_MANIFEST), "debian:12")
    more = index_json.added(entries, new)
    assert index_json.choose(more, "debian:12", "it") == [new]
    index_json.one_image(more)
    index_json.choose(entries, "", "it")


def use_docker(data: bytes) -> None:
    found = manifest_json.read(data, "it")
    assert manifest_json.read(manifest_json.write(found), "it") == found
    manifest_json.choose(found, "a", "it")


@pytest.mark.parametrize(
    "read",
    [
        lambda data: manifest.read(data, media_types.OCI_MANIFEST, "it"),
        lambda data: manifest.read(data, media_types.OCI_INDEX, "it"),
        lambda data: config.read(data, "it"),
        lambda data: index_json.read(data, "it"),
        lambda data: manifest_json.read(data, "it"),
    ],
)
def test_a_key_that_is_there_twice(read: Callable[[bytes], object]) -> None:
    """Some take the first, Go takes the last, or a mixture of both if they are objects (RFC 8259, 4)."""
    with pytest.raises(Invalid, match="'layers' is there twice"):
        read(b'{"schemaVersion": 2, "x": [{"layers": [], "layers": []}]}')
