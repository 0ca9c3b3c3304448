"""Signatures of images with skopeo on the other side: what it signs we verify, what we sign it verifies."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fixtures import gpg, images, registry
from tests.fixtures.command import Command, Result, tool
from tests.fixtures.gpg import Gpg
from tests.fixtures.registry import DebianRegistry
from toolkit.image import layout, name

pytestmark = pytest.mark.root

ONE = images.image(images.layer({"one": b"1"}))
ARM = images.image(images.layer({"arm": b"arm"}), platform=images.ARM64)
INDEX = images.index(ONE, ARM, platforms=(images.AMD64, images.ARM64))


class Keys(NamedTuple):
    theirs: Gpg
    good: str
    other: str
    folder: Path

    def file(self, key: str) -> str:
        """The certificate's file."""
        return str(self.theirs.public(key, self.folder / f"{key}.gpg"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    with gpg.home() as found:
        yield Keys(found, found.key("good"), found.key("other"), tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A layout with INDEX as `it`, and ONE alone as `one`."""
    folder = tmp_path_factory.mktemp("source")
    destination = layout.open_destination(name.locate(f"oci:{folder}/layout:it"))
    for one in (ONE, ARM):
        images.put(destination, one)
    destination.put_manifest(INDEX, "it")
    destination.put_manifest(ONE.raw, "one")
    destination.commit()
    destination.close()
    return f"oci:{folder}/layout"


class Place:
    """A user with a store, and a folder of signatures that a registries.d names; ctk and skopeo both follow that."""

    def __init__(self, ctk: Command, folder: Path, host: str, keys: Keys) -> None:
        self._ctk, self.folder, self.host, self.keys = ctk, folder, host, keys
        self.signatures = folder / "signatures"
        self.registries = folder / "home/.config/containers/registries.d"
        self.registries.mkdir(parents=True)
        self.lookaside(f"file://{self.signatures}")
        self.environment = {
            key: os.environ[key] for key in ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")
        } | {"CTK_IMAGES": str(folder / "images"), "GNUPGHOME": str(keys.theirs.home), "COLUMNS": "400"}

    def lookaside(self, url: str) -> None:
        text = f"docker:\n  # of the tests\n  {self.host}:\n    lookaside: {url}\n"
        (self.registries / "tests.yaml").write_text(text)

    def ctk(self, *words: str) -> Result:
        return self._ctk(*words, env=self.environment, cwd=self.folder)

    def skopeo(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [tool("skopeo"), f"--registries.d={self.registries}", *words]
        return subprocess.run(argv, capture_output=True, text=True, env=os.environ | self.environment)

    def policy(self, key: str, **more: Any) -> str:
        """The path of a policy that wants this key for all of the registry, and rejects what is elsewhere."""
        wanted = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": self.keys.file(key), **more}
        path = self.folder / "policy.json"
        text = {"default": [{"type": "reject"}], "transports": {"docker": {self.host: [wanted]}}}
        path.write_text(json.dumps(text))
        return str(path)

    def is_there(self, reference: str) -> bool:
        return any(one["name"] == reference for one in json.loads(self.ctk("images", "--json").ok().out))


@pytest.fixture
def place(ctk: Command, tmp_path: Path, running: DebianRegistry, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Place:
    registry.own_home(tmp_path, monkeypatch)
    return Place(ctk, tmp_path, running.host, keys)


def by_skopeo(place: Place, source: str, where: str, *words: str) -> None:
    """Push it with skopeo, signed by the good key."""
    policy = ["--insecure-policy", "copy", "--dest-tls-verify=false", "--sign-by", place.keys.good]
    done = place.skopeo(*policy, *words, source, f"docker://{where}")
    assert done.returncode == 0, done.stderr


def test_what_skopeo_signs_is_taken(place: Place, source: str) -> None:
    where = f"{place.host}/by/skopeo:1"
    by_skopeo(place, f"{source}:one", where)
    assert [path.name for path in place.signatures.rglob("signature-*")] == ["signature-1"]
    for key, taken in ((place.keys.other, False), (place.keys.good, True)):
        done = place.ctk("pull", "--policy", place.policy(key), where)
        assert (done.rc == 0) is taken and place.is_there(where) is taken, done.err
        if not taken:
            assert place.keys.good[-16:] in done.err and "signature-1" in done.err
    # It is verified although nothing has to be fetched; and by the name, the digest and ctk copy.
    assert place.ctk("pull", "--policy", place.policy(place.keys.other), where).rc == 1
    policy = place.policy(place.keys.good)
    place.ctk("pull", "--policy", policy, f"{place.host}/by/skopeo@{ONE.digest}").ok()
    place.ctk("copy", "--policy", policy, f"docker://{where}", f"oci:{place.folder}/copy:1").ok()
    refused = place.ctk("copy", "--policy", policy, f"{source}:one", f"oci:{place.folder}/copy:2")
    assert refused.rc == 1 and "rejects" in refused.err and not (place.folder / "copy:2").exists()


@pytest.mark.parametrize("words", [("--all",), ("--multi-arch=system",)])
def test_an_index_that_skopeo_signs(place: Place, source: str, words: "tuple[str, ...]") -> None:
    """With --all it signs the index and all its images; else the only image that it copies."""
    where = f"{place.host}/index{len(words[0])}:1"
    by_skopeo(place, f"{source}:it", where, *words)
    place.ctk("pull", "--policy", place.policy(place.keys.good), where).ok()
    if words == ("--all",):
        place.ctk("pull", "--all-platforms", "--policy", place.policy(place.keys.good), where).ok()
        shutil.rmtree(next(place.signatures.rglob(f"*{ARM.digest[7:]}")))
        place.ctk("pull", "--all-platforms", "--policy", place.policy(place.keys.good), where).ok()
        shutil.rmtree(next(place.signatures.rglob(f"*{INDEX.digest[7:]}")))
        place.ctk("pull", "--policy", place.policy(place.keys.good), where).ok()
        refused = place.ctk("pull", "--all-platforms", "--policy", place.policy(place.keys.good), where)
        assert refused.rc == 1 and ARM.digest in refused.err, "one of the two is not signed"


@pytest.mark.parametrize("way", ["a name of gpg's", "a file", "a file with a passphrase"])
def test_skopeo_takes_what_we_sign(place: Place, source: str, way: str) -> None:
    keys, key = place.keys, place.keys.good
    words = ["--sign-by", key]
    if way == "a file":
        words = ["--sign-by", str(keys.theirs.secret(key, place.folder / "secret"))]
    elif way == "a file with a passphrase":
        key = keys.theirs.key("locked", passphrase="pass word")
        (place.folder / "passphrase").write_text("pass word\n")
        words = ["--sign-by", str(keys.theirs.secret(key, place.folder / "secret", "pass word"))]
        words += ["--sign-passphrase-file", str(place.folder / "passphrase")]
    where = f"{place.host}/by/{len(way)}:1"
    place.ctk("copy", f"{source}:it", f"store:{where}", "--all").ok()
    place.ctk("push", "--all-platforms", *words, where).ok()
    for wanted, rc in ((keys.other, 1), (key, 0)):
        copied = [f"docker://{where}", f"oci:{place.folder}/{rc}:1"]
        policy = f"--policy={place.policy(wanted)}"
        done = place.skopeo(policy, "copy", "--src-tls-verify=false", "--all", "--remove-signatures", *copied)
        assert done.returncode == rc, done.stderr
        assert place.ctk("pull", "--policy", place.policy(wanted), where).rc == rc


def test_a_key_that_cannot_sign_leaves_nothing(place: Place, source: str) -> None:
    where = f"{place.host}/unsigned:1"
    for key, said in (("nobody@example.org", "nobody@example.org"), (place.keys.file(place.keys.good), "sign with")):
        done = place.ctk("copy", "--sign-by", key, f"{source}:one", f"docker://{where}")
        assert done.rc == 1 and said in done.err
    place.lookaside("https://example.org/signatures")
    done = place.ctk("copy", "--sign-by", place.keys.good, f"{source}:one", f"docker://{where}")
    assert done.rc == 1 and "lookaside-staging" in done.err
    done = place.ctk("copy", "--sign-by", place.keys.good, f"{source}:one", f"oci:{place.folder}/here:1")
    assert done.rc == 1 and "registry" in done.err and not (place.folder / "here").exists()
    looked = place.skopeo("inspect", "--tls-verify=false", f"docker://{where}")
    assert looked.returncode != 0 and "unknown" in looked.stderr  # 1 or 2, by its release
    assert not place.signatures.exists()


class Web(http.server.SimpleHTTPRequestHandler):
    """A folder as a web server; with `page` set it answers everything with that."""

    page: "bytes | None" = None

    def do_GET(self) -> None:
        if self.page is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        with contextlib.suppress(OSError):  # nobody reads a page to its end that is too long
            self.wfile.write(self.page)

    def log_message(self, format: str, *arguments: Any) -> None:
        """It says nothing."""


def test_signatures_from_a_web_server(place: Place, source: str) -> None:
    where = f"{place.host}/web:1"
    by_skopeo(place, f"{source}:one", where)
    policy = place.policy(place.keys.good)
    handler = type("Handler", (Web,), {})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(place.signatures))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        place.lookaside(f"http://127.0.0.1:{server.server_port}")
        for page, said in ((b"<html>Not found</html>", "OpenPGP"), (b"", "OpenPGP"), (b"x" * 5_000_000, "65536")):
            handler.page = page
            refused = place.ctk("pull", "--policy", policy, where)
            assert refused.rc == 1 and said in refused.err and not place.is_there(where), refused.err
        handler.page = None
        place.ctk("pull", "--policy", policy, where).ok()
        place.ctk("image", "rm", where).ok()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    refused = place.ctk("pull", "--policy", policy, where)
    assert refused.rc == 1 and "lookaside" in refused.err, "a server that is away is no reason to take it"


def test_without_a_policy_nothing_is_asked_for(place: Place, source: str) -> None:
    where = f"{place.host}/plain:1"
    place.ctk("copy", f"{source}:one", f"docker://{where}").ok()
    place.ctk("pull", where).ok()
    refused = place.ctk("pull", "--policy", place.policy(place.keys.good), where)
    assert refused.rc == 1 and f"file://{place.signatures}" in refused.err, "where was looked is said"
    assert place.ctk("pull", "--policy", str(place.folder / "none.json"), where).rc == 1
    # ctk's own file counts for all commands.
    own = place.folder / "home/.config/ctk"
    own.mkdir()
    shutil.copy(place.policy(place.keys.good), own / "policy.json")
    for words in (
        ("pull", where),
        ("up", "--pull", "always", where, "nobody"),
        ("copy", f"docker://{where}", "store:x"),
    ):
        refused = place.ctk(*words)
        assert refused.rc == 1 and "signature" in refused.err
    (own / "policy.json").write_text("{}")
    assert "policy.json" in place.ctk("pull", where).err


def test_the_signature_of_another_image(place: Place, source: str) -> None:
    """Signatures that are good, but for another digest or another name: skopeo refuses each of them, too."""
    where = f"{place.host}/named:1"
    by_skopeo(place, f"{source}:one", where)
    place.ctk("copy", f"{source}:it", f"docker://{place.host}/named:2", "--all").ok()
    (signed,) = place.signatures.rglob("signature-1")
    claimed = json.loads(place.keys.theirs("--decrypt", str(signed)))
    assert claimed["critical"]["identity"]["docker-reference"] == where

    def refused(said: str, **critical: Any) -> None:
        text = json.dumps({"critical": claimed["critical"] | critical, "optional": {}}).encode()
        signed.write_bytes(place.keys.theirs.sign(text, place.keys.good))
        policy = place.policy(place.keys.good)
        done = place.ctk("pull", "--policy", policy, where)
        assert done.rc == 1 and said in done.err, done.err
        copied = [f"docker://{where}", f"oci:{place.folder}/x:1", "--src-tls-verify=false"]
        assert place.skopeo(f"--policy={policy}", "copy", *copied).returncode == 1

    refused(ARM.digest, image={"docker-manifest-digest": ARM.digest})
    refused("named:2", identity={"docker-reference": f"{place.host}/named:2"})
    refused("/named'", identity={"docker-reference": f"{place.host}/named"})
    refused("not known", more="x")
    refused("type", type="another")
    assert not place.is_there(where)
