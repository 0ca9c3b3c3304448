"""cosign's signatures: openssl signs as its specification says, ctk verifies. Debian's skopeo has them switched off."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import Command, Result, tool
from tests.fixtures.registry import DebianRegistry
from toolkit.image import digest as digests
from toolkit.image import name as names
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw
from toolkit.image.registry import client

ONE = images.image(images.layer({"one": b"1"}))
ARM = images.image(images.layer({"arm": b"arm"}), platform=images.ARM64)
INDEX = images.index(ONE, ARM, platforms=(images.AMD64, images.ARM64))
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys `good` and `other`, as .key and .pub."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("good", "other"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{folder}/{name}.key")
        openssl("ec", "-in", f"{folder}/{name}.key", "-pubout", "-out", f"{folder}/{name}.pub")
    return folder


def openssl(*words: str, stdin: bytes = b"") -> bytes:
    return subprocess.run([tool("openssl"), *words], input=stdin, check=True, capture_output=True).stdout


class Place:
    """A user with a store, and a repository in which the image is, unsigned."""

    def __init__(self, ctk: Command, folder: Path, where: str, keys: Path) -> None:
        self._ctk, self.folder, self.where, self.keys = ctk, folder, where, keys
        self.reference = names.parse(where)
        with closing(client.open(self.reference)) as found:
            for one in (ONE, ARM):
                images.put(found, one)
            found.put_manifest(INDEX, self.reference.tag)

    def pull(self, key: str = "good", *, where: str = "", **more: Any) -> Result:
        wanted = {"type": "sigstoreSigned", "keyPath": f"{self.keys}/{key}.pub"} | more
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {self.reference.registry: [wanted]}}}
        (self.folder / "policy.json").write_text(json.dumps(policy))
        return self.ctk("pull", "--policy", str(self.folder / "policy.json"), where or self.where)

    def ctk(self, *words: str) -> Result:
        passed = {key: os.environ[key] for key in ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")}
        return self._ctk(*words, env=passed | {"CTK_IMAGES": f"{self.folder}/images", "COLUMNS": "400"})

    def refused(self, said: str, **more: Any) -> None:
        done = self.pull(**more)
        assert done.rc == 1 and said in done.err, done.err
        assert json.loads(self.ctk("images", "--json").ok().out) == []

    def claim(self, digest: str = INDEX.digest, reference: str = "", kind: str = "") -> bytes:
        critical = {
            "identity": {"docker-reference": reference or self.where},
            "image": {"docker-manifest-digest": digest},
            "type": kind or "cosign container image signature",
        }
        return json.dumps({"critical": critical, "optional": None}).encode()

    def sign(self, payload: bytes, key: str = "good") -> str:
        return base64.b64encode(openssl("dgst", "-sha256", "-sign", f"{self.keys}/{key}.key", stdin=payload)).decode()

    def attach(
        self, *signed: "tuple[bytes, str]", kind: str = PAYLOAD, of: Raw = INDEX, referrer: bool = False
    ) -> None:
        """Put the texts and their signatures into the registry as cosign does."""
        layers = [manifest.described(text, kind, annotations={SIGNATURE: one}) for text, one in signed]
        config = manifest.described(b"{}", media_types.OCI_CONFIG)
        with closing(client.open(self.reference)) as found:
            for blob, text in ((config, b"{}"), *zip(layers, (text for text, _ in signed), strict=True)):
                if not found.has(blob):
                    found.put_blob(blob, iter([text]))
            subject = Descriptor(of.media_type, of.digest, len(of.data)) if referrer else None
            data = manifest.write(config, layers, subject=subject, artifact_type=ARTIFACT if referrer else "")
            raw = Raw(data, media_types.OCI_MANIFEST, digests.of(data))
            found.put_manifest(raw, "" if referrer else of.digest.replace(":", "-") + ".sig")


@pytest.fixture
def place(
    ctk: Command, tmp_path: Path, running: DebianRegistry, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    registry.own_home(tmp_path, monkeypatch)
    yield Place(ctk, tmp_path, f"{running.host}/{tmp_path.name.lower()}/it:1", keys)


@pytest.mark.parametrize("referrer", [False, True], ids=["tag", "referrer"])
def test_a_signed_image_is_taken(place: Place, referrer: bool) -> None:
    place.refused("it has no signature in the registry")
    text = place.claim()
    place.attach((text, place.sign(text)), referrer=referrer)
    place.refused("no key of the policy has signed it", key="other")
    place.pull().ok()
    # It is verified although nothing has to be fetched; and by its digest, and by `copy`.
    assert place.pull("other").rc == 1
    place.pull(where=f"{place.reference.name}@{INDEX.digest}").ok()
    source, policy = f"docker://{place.where}", str(place.folder / "policy.json")
    place.ctk("copy", "--all", "--policy", policy, source, f"oci:{place.folder}/copy:1").ok()
    refused = place.ctk("copy", "--policy", policy, f"oci:{place.folder}/copy:1", f"oci:{place.folder}/again:1")
    assert refused.rc == 1 and "rejects" in refused.err and not (place.folder / "again").exists()


def test_one_image_of_the_index_is_signed(place: Place) -> None:
    text = place.claim(ONE.digest)
    place.attach((text, place.sign(text)), of=ONE.raw)
    place.pull().ok()


def test_the_key_in_the_policy_and_a_name_without_tag(place: Place) -> None:
    """cosign writes the repository alone, so that its policies say matchRepository."""
    text = place.claim(reference=place.reference.name)
    place.attach((text, place.sign(text)))
    place.refused("is for the name")
    rule = {"type": "matchRepository"}
    for name in ("keyPaths", "keyDatas"):
        data = [str(place.keys / "other.pub"), str(place.keys / "good.pub")]
        if name == "keyDatas":
            data = [base64.b64encode(Path(path).read_bytes()).decode() for path in data]
        wanted = {"type": "sigstoreSigned", name: data, "signedIdentity": rule}
        (place.folder / "own.json").write_text(json.dumps({"default": [wanted]}))
        place.ctk("pull", "--policy", str(place.folder / "own.json"), place.where).ok()


def test_signatures_that_do_not_count(place: Place) -> None:
    good, signature = place.claim(), place.sign(place.claim())
    for text, said in (
        (place.claim(ARM.digest), f"is for {ARM.digest}"),
        (place.claim(reference=f"{place.reference.name}:2"), "is for the name"),
        (place.claim(reference=place.reference.name), "is for the name"),
        (place.claim(kind="atomic container signature"), "critical.type"),
        (good.replace(b'"optional"', b'"more"'), "more"),
        (good.replace(b'"type"', b'"type": "x", "type"'), "twice"),
        (b"not JSON", "JSON"),
    ):
        place.attach((text, place.sign(text)))
        place.refused(said)
    for text, one in (
        (good + b" ", signature),
        (good, place.sign(good, "other")),
        (good, ""),
        (good, "?"),
        (good, signature[:-8]),
        (good, "A" * 5000),
    ):
        place.attach((text, one))
        place.refused("no key of the policy has signed it")
    # A second one that is good is enough.
    place.attach((good, place.sign(good, "other")), (good, signature))
    place.pull().ok()


def test_what_is_no_list_of_signatures(place: Place) -> None:
    good, signature = place.claim(), place.sign(place.claim())
    place.attach((good, signature), kind="application/vnd.oci.image.layer.v1.tar")
    place.refused("it has no signature in the registry")
    place.attach((good + b" " * (1 << 16), signature))
    place.refused("65536 is the limit")
    place.attach(*[(good, "")] * 129)
    place.refused("more than 128")
    with closing(client.open(place.reference)) as found:
        found.put_manifest(INDEX, INDEX.digest.replace(":", "-") + ".sig")
    place.refused("must be a manifest")


def test_what_we_sign(place: Place) -> None:
    """openssl verifies it, and so does a policy; another signer's signature stays beside ours."""
    signed = place.reference._replace(tag="2")
    place.ctk("copy", "--all", f"docker://{place.where}", f"store:{signed}").ok()
    openssl(
        "pkcs8",
        "-topk8",
        "-in",
        f"{place.keys}/other.key",
        "-passout",
        "pass:pass word",
        "-out",
        f"{place.folder}/locked",
    )
    (place.folder / "passphrase").write_text("pass word\n")
    locked = ["--sign-by", f"{place.folder}/locked"]
    with closing(client.open(signed)) as found:
        refused = place.ctk("push", "--all-platforms", *locked, str(signed))
        assert refused.rc == 1 and "sign with the key" in refused.err and found.head("2") is None
        place.ctk("push", "--all-platforms", "--sign-by", f"{place.keys}/good.key", str(signed)).ok()
        place.pull(where=str(signed)).ok()
        assert place.pull("other", where=str(signed)).rc == 1
        more = ["--sign-passphrase-file", f"{place.folder}/passphrase"]
        place.ctk("push", "--all-platforms", *locked, *more, str(signed)).ok()
        for one in (INDEX, ONE.raw, ARM.raw):
            raw = found.manifest(one.digest.replace(":", "-") + ".sig")
            document = manifest.read(raw.data, raw.media_type, "it")
            assert isinstance(document, manifest.Manifest) and document.config.media_type == media_types.OCI_CONFIG
            for layer, key in zip(document.layers, ("good", "other"), strict=True):
                assert layer.media_type == PAYLOAD
                text = images.fetch(found, layer)
                said = json.loads(text)["critical"]
                assert said["identity"] == {"docker-reference": str(signed)}
                assert said["image"] == {"docker-manifest-digest": one.digest}
                (place.folder / "signature").write_bytes(base64.b64decode(layer.annotations[SIGNATURE]))
                words = ["-verify", f"{place.keys}/{key}.pub", "-signature", f"{place.folder}/signature"]
                assert b"OK" in openssl("dgst", "-sha256", *words, stdin=text)
    for key in ("good", "other"):
        place.pull(key, where=str(signed)).ok()


def test_a_key_that_can_not_sign_leaves_nothing(place: Place) -> None:
    where, key = f"{place.reference.name}:none", place.folder / "key"
    openssl("genrsa", "-out", f"{place.folder}/rsa", "2048")
    source = ("copy", "--sign-by", str(key), f"docker://{place.where}")
    for text, said in (
        ((place.folder / "rsa").read_bytes(), "ECDSA"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "sign with the key"),
        (
            b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED COSIGN PRIVATE KEY-----\n",
            "genpkey",
        ),
    ):
        key.write_bytes(text)
        done = place.ctk(*source, f"docker://{where}")
        assert done.rc == 1 and said in done.err, done.err
    key.write_bytes((place.keys / "good.key").read_bytes())
    done = place.ctk(*source, f"store:{where}")
    assert done.rc == 1 and "in a registry" in done.err
    with closing(client.open(names.parse(where))) as found:
        assert found.head("none") is None
