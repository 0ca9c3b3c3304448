"""policy.json and what a signature claims: every rule of containers-policy.json(5), and what is no policy."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import Invalid, Untrusted
from toolkit.events import Event, Note
from toolkit.image import name as names
from toolkit.image.trust import claim, gate, lookaside, policy
from toolkit.image.trust.identity import Identity

A = "sha256:" + "a" * 64
KEY = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/key"}
COSIGN = {"type": "sigstoreSigned", "keyPath": "/key"}
ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]


def read(**whole: Any) -> policy.Policy:
    return policy.read(json.dumps(whole).encode(), "policy.json")


def kind(found: policy.Policy, place: str) -> str:
    (one,) = found.requirements(names.locate(place, default=names.DOCKER))
    return one.kind


def test_the_narrowest_scope_counts(tmp_path: Path) -> None:
    docker = {
        "": REJECT,
        "example.org": ACCEPT,
        "example.org/team": REJECT,
        "example.org/team/one": ACCEPT,
        "example.org/team/one:bad": REJECT,
        f"example.org/team/one@{A}": REJECT,
        "*.example.org": ACCEPT,
        "docker.io/library/debian": ACCEPT,
    }
    found = read(default=[KEY], transports={"docker": docker, "oci": {str(tmp_path): ACCEPT}, "dir": {"/x": REJECT}})
    for place, wanted in (
        ("example.org/any", "insecureAcceptAnything"),
        ("example.org/team/two", "reject"),
        ("example.org/team/one", "insecureAcceptAnything"),
        ("example.org/team/one:bad", "reject"),
        (f"example.org/team/one@{A}", "reject"),
        (f"example.org/team/one:bad@sha256:{'b' * 64}", "reject"),
        ("example.org/team/one2", "reject"),
        ("example.org:5000/any", "reject"),
        ("a.b.example.org:5000/any", "insecureAcceptAnything"),
        ("notexample.org/any", "reject"),
        ("debian", "insecureAcceptAnything"),
        ("debian2", "reject"),
        (f"oci:{tmp_path}/layout:x", "insecureAcceptAnything"),
        (f"oci:{tmp_path}/../layout:x", "signedBy"),
        (f"docker-archive:{tmp_path}/file", "signedBy"),
    ):
        assert kind(found, place) == wanted, place


@pytest.mark.parametrize(
    ("rule", "image", "signed", "right"),
    [
        ({}, "debian:1", "docker.io/library/debian:1", True),
        ({}, "debian:1", "debian:1", True),
        ({}, "debian", "debian:latest", True),
        ({}, "debian:1", "debian:2", False),
        ({}, "debian:1", "debian", False),
        ({}, "debian:1", "other:1", False),
        ({}, "debian:1", "example.org/library/debian:1", False),
        ({}, f"debian@{A}", "debian:2", True),
        ({}, f"debian@{A}", "debian", False),
        ({}, f"debian:1@{A}", "debian:2", False),
        ({}, f"debian:1@{A}", "debian:1", True),
        ({}, "debian:1", "../debian:1", False),
        ({}, "debian:1", "", False),
        ({"type": "matchExact"}, "debian:1", "debian:1", True),
        ({"type": "matchExact"}, f"debian@{A}", "debian:1", False),
        ({"type": "matchExact"}, f"debian@{A}", f"debian@{A}", True),
        ({"type": "matchRepository"}, "debian:1", "debian:2", True),
        ({"type": "matchRepository"}, "debian:1", "debian", True),
        ({"type": "matchRepository"}, "debian:1", "debian2:1", False),
        ({"type": "exactReference", "dockerReference": "vendor.org/x:1"}, "debian:1", "vendor.org/x:1", True),
        ({"type": "exactReference", "dockerReference": "vendor.org/x:1"}, "debian:1", "debian:1", False),
        ({"type": "exactRepository", "dockerRepository": "vendor.org/x"}, "debian:1", "vendor.org/x:7", True),
        ({"type": "exactRepository", "dockerRepository": "vendor.org/x"}, "debian:1", "vendor.org/y:7", False),
        ({"type": "remapIdentity", "prefix": "m.org/v", "signedPrefix": "v.org"}, "m.org/v/a:1", "v.org/a:1", True),
        ({"type": "remapIdentity", "prefix": "m.org/v", "signedPrefix": "v.org"}, "m.org/v/a:1", "v.org/a:2", False),
        ({"type": "remapIdentity", "prefix": "m.org/v", "signedPrefix": "v.org"}, "m.org/v/a:1", "m.org/v/a:1", False),
        ({"type": "remapIdentity", "prefix": "m.org/v", "signedPrefix": "v.org"}, "m.org/v2/a:1", "v.org2/a:1", False),
        ({"type": "remapIdentity", "prefix": "m.org/v", "signedPrefix": "v.org"}, "m.org/v2/a:1", "m.org/v2/a:1", True),
    ],
)
def test_the_name_of_a_signature(rule: dict[str, str], image: str, signed: str, right: bool) -> None:
    wanted = KEY | ({"signedIdentity": rule} if rule else {})
    (one,) = read(default=[wanted]).default
    assert one.identity.accepts(names.parse(image).tagged(), signed) is right
    assert isinstance(one.identity, Identity)


UNSUPPORTED: list[dict[str, Any]] = [
    {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}},
    {"type": "sigstoreSigned", "fulcio": {}},
    COSIGN | {"rekorPublicKeyPath": "/rekor.pub"},
]

NO_POLICY: list[Any] = [
    {},
    {"default": []},
    {"default": {}},
    {"default": [{}]},
    {"default": ["reject"]},
    {"default": [{"type": "acceptAll"}]},
    {"default": [{"type": "reject", "more": 1}]},
    {"default": REJECT, "transport": {}},
    {"default": REJECT, "transports": {"docker": {"x": []}}},
    {"default": REJECT, "transports": {"dir": {"/x": [{"type": "x"}]}}},
    {"default": [KEY | {"keyType": "X509"}]},
    {"default": [KEY | {"keyData": base64.b64encode(b"x").decode()}]},
    {"default": [KEY | {"keyPath": ""}]},
    {"default": [KEY | {"keyPath": 7}]},
    {"default": [KEY | {"keypath": "/other"}]},
    {"default": [{"type": "signedBy", "keyType": "GPGKeys"}]},
    {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyData": "?"}]},
    {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}]},
    {"default": [KEY | {"signedIdentity": {"type": "any"}}]},
    {"default": [COSIGN | {"keyType": "GPGKeys"}]},
    {"default": [COSIGN | {"keyData": "eA=="}]},
    {"default": [COSIGN | {"signedIdentity": {"type": "any"}}]},
    {"default": [{"type": "sigstoreSigned"}]},
    {"default": [{"type": "sigstoreSigned", "keyDatas": ["eA==", ""]}]},
    {"default": [{"type": "sigstoreSigned", "keyPaths": []}]},
    {"default": [KEY | {"signedIdentity": {"type": "matchExact", "more": "x"}}]},
    {"default": [KEY | {"signedIdentity": {"type": "exactReference", "dockerReference": "debian"}}]},
    {"default": [KEY | {"signedIdentity": {"type": "exactRepository", "dockerRepository": "debian:1"}}]},
    {"default": [KEY | {"signedIdentity": {"type": "exactReference", "dockerReference": "UPPER:1"}}]},
    {"default": [KEY | {"signedIdentity": {"type": "remapIdentity", "prefix": "x"}}]},
]


@pytest.mark.parametrize("whole", NO_POLICY, ids=map(json.dumps, NO_POLICY))
def test_what_is_no_policy(whole: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"policy\.json"):
        read(**whole)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"\xff", b"{" * 100_000, b'{"default": NaN}', b'{"default": [{"type": "reject", "type": "x"}]}'],
)
def test_what_is_no_document(text: bytes) -> None:
    with pytest.raises(Invalid, match=r"policy\.json"):
        policy.read(text, "policy.json")


def critical(**more: Any) -> dict[str, Any]:
    whole = json.loads(claim.write(A, names.parse("debian:1")))
    return {**whole, "critical": whole["critical"] | more}


def test_what_we_claim() -> None:
    found = claim.read(json.dumps(critical()).encode(), "it")
    assert found == (A, "docker.io/library/debian:1")
    new = critical() | {"optional": {"who": "knows", "creator": 1}}
    assert claim.read(json.dumps(new).encode(), "it") == found, "what is optional may be anything"


NO_CLAIM: list[Any] = [
    critical(type="cosign container image signature"),
    critical(type=None),
    critical(more=1),
    critical(image={}),
    critical(image={"docker-manifest-digest": "sha256:short"}),
    critical(image={"docker-manifest-digest": A, "more": 1}),
    critical(identity={}),
    critical(identity={"docker-reference": 1}),
    critical(identity={"docker-reference": "debian:1", "more": 1}),
    critical() | {"more": 1},
    {"critical": critical()["critical"]},
    {"optional": {}},
    {"critical": [], "optional": {}},
]


@pytest.mark.parametrize("whole", NO_CLAIM, ids=range(len(NO_CLAIM)))  # a claim has the time in it
def test_what_is_no_claim(whole: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="it"):
        claim.read(json.dumps(whole).encode(), "it")
    twice = json.dumps(critical()).replace('"type"', '"type": "x", "type"').encode()
    with pytest.raises(Invalid, match="twice"):
        claim.read(twice, "it")


def test_where_signatures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "containers/registries.d"
    folder.mkdir(parents=True)
    assert lookaside.bases(names.parse("debian:1")).read.endswith("/containers/sigstore")
    (folder / "a.yaml").write_text(
        "default-docker: {sigstore: 'https://all.org/', sigstore-staging: 'file:///all'}\n"
        "docker:\n  example.org: {lookaside: 'https://host.org'}\n  example.org/x: {lookaside-staging: 'file:///x'}\n"
    )
    (folder / "b.yaml").write_text("# nothing\n")
    (folder / "c.txt").write_text("not: [yaml")
    for reference, wanted in (
        ("debian:1", ("https://all.org/", "file:///all")),
        ("example.org/y:1", ("https://host.org", "https://host.org")),
        ("example.org/x/z:1", ("", "file:///x")),
        ("example.org/xz:1", ("https://host.org", "https://host.org")),
    ):
        assert lookaside.bases(names.parse(reference)) == wanted
    for text in ("docker: [", "docker: []", "- x", "docker: {a: {lookaside: 'ftp://x'}}", "docker: {a: {sigstore: 1}}"):
        (folder / "b.yaml").write_text(text)
        with pytest.raises(Invalid, match=r"b\.yaml"):
            lookaside.bases(names.parse("debian:1"))
    for text in ("default-docker: {}", "docker: {example.org: {}}"):
        (folder / "b.yaml").write_text(text)
        with pytest.raises(Invalid, match="another file"):
            lookaside.bases(names.parse("debian:1"))


def test_the_policy_of_other_engines_is_told_and_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(policy, "SYSTEM_FILE", str(tmp_path / "system.json"))
    told: list[Event] = []
    place = names.locate("docker://debian:1")

    def system(**whole: Any) -> int:
        """How many warnings there are with this file of theirs."""
        (tmp_path / "system.json").write_text(json.dumps(whole))
        told.clear()
        gate.check(place, None, "", A, [A], told.append)
        return sum(isinstance(one, Note) and one.warning and "system.json" in one.text for one in told)

    assert system(default=ACCEPT) == 0
    assert system(default=REJECT, transports={"docker": {"": ACCEPT}}) == 0
    assert system(default=REJECT) == 1
    assert system(default=[KEY]) == 1
    assert system(default=[{"type": "sigstoreSigned", "keyPath": "/k"}]) == 1
    assert system(nonsense=1) == 1
    # What is not supported is refused where it is asked for.
    for one in UNSUPPORTED:
        (tmp_path / "own.json").write_text(json.dumps({"default": [one]}))
        with pytest.raises(Untrusted, match=one["type"]):
            gate.check(place, None, str(tmp_path / "own.json"), A, [A], told.append)
    gate.check(names.locate("store:debian:1"), None, str(tmp_path / "own.json"), A, [A], told.append)
