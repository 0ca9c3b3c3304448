"""Packages fetched for another time, folders of them, and mirrors that want to know who asks: with the fake archive."""

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Suite
from tests.fixtures.command import tool
from tests.fixtures.server import FileServer
from toolkit.bootstrap.acquire.deb_folder import deb_name
from toolkit.bootstrap.acquire.download import Download
from toolkit.bootstrap.compat import engine_debootstrap
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.plan import download_only
from toolkit.bootstrap.plan.plan_build import solve, solve_open
from toolkit.errors import CtkError, NotFound, Usage
from toolkit.events import Done, Event, silent
from toolkit.fetch.http import Client

NAMES = ("dpkg", "apt", "usr-is-merged")


class World:
    """An archive of three packages, its server, and a cache of its own."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.folder, self.server = folder, server
        self.archive = Archive(folder / "served/debian")
        priorities = {"dpkg": "required", "apt": "important"}
        packages = [
            debs.make(
                {"Package": name, "Version": "1:1.0", "Priority": priorities.get(name, "optional")},
                {f"./usr/share/{name}": name},
            )
            for name in NAMES
        ]
        self.archive.publish(Suite("bookworm", "bookworm", packages={"main": packages}, valid_for_s=7 * 86400.0))

    def request(self, **changes: object) -> Request:
        mirror, keyring = self.server.url + "/debian", str(self.archive.keyring)
        asked = Request("bookworm", "", variant="minbase", architecture="amd64", mirror=mirror, keyring=keyring)
        return replace(asked, **changes)  # type: ignore[arg-type]

    def fetched(self) -> list[str]:
        """The packages asked for since the last call."""
        found = self.server.asked("/pool/")
        self.server.requests.clear()
        return sorted(os.path.basename(path).partition("_")[0] for path in found)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("CTK_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with FileServer(tmp_path / "served").running() as server:
        yield World(tmp_path, server)


def fetch(request: Request) -> Lock:
    """The packages of a request, taken from wherever the request says."""
    solved = solve_open(request, silent)
    try:
        Download(
            solved.client, solved.cache, solved.lock, lambda package, deb: None, silent, folder=solved.folder
        ).run()
    finally:
        solved.client.close()
    return solved.lock


# --- --download-only


def test_download_only_leaves_nothing_to_fetch_but_the_signed_release(world: World, tmp_path: Path) -> None:
    told: list[Event] = []
    lock = str(tmp_path / "root.lock")
    download_only.download_only(world.request(lock=lock), told.append)
    assert world.fetched() == sorted(NAMES)
    (done,) = [event for event in told if isinstance(event, Done)]
    assert done.text.startswith("3 packages of bookworm (minbase, amd64) are in ")
    for one in done.result["packages"]:
        assert Path(one["file"]).stat().st_size == one["size"]
    assert sum(one["size"] for one in done.result["packages"]) == done.result["fetched_bytes"]
    assert done.next_steps == (f"ctk bootstrap bookworm ./bookworm --locked {lock}",)
    json.dumps(done.result)
    fetch(world.request())
    assert world.fetched() == []
    fetch(world.request(locked=lock))
    assert world.server.requests == []  # with the lock not even that


def test_a_lock_is_fetched_from_all_mirrors_that_are_named(world: World, tmp_path: Path) -> None:
    lock = str(tmp_path / "root.lock")
    solve(world.request(lock=lock), silent)
    with FileServer(tmp_path / "empty").running() as empty:
        mirrors = (world.server.url + "/debian",)
        found = fetch(world.request(locked=lock, mirror=empty.url + "/debian", mirrors=mirrors))
        assert empty.asked("/pool/")
    assert world.fetched() == sorted(NAMES)
    assert {one.mirror for one in found.sources} == {empty.url + "/debian"}  # the first is the tree's


def test_a_lock_from_another_mirror_takes_its_pockets_along(world: World, tmp_path: Path) -> None:
    path = tmp_path / "root.lock"
    solve(world.request(lock=str(path)), silent)
    document = json.loads(path.read_text())
    first = document["sources"][0]
    document["sources"] += [first | {"suite": "bookworm-updates"}, first | {"mirror": "http://elsewhere.example/d"}]
    path.write_text(json.dumps(document))
    lock = solve(world.request(locked=str(path), mirror="http://near.example/debian"), silent)
    near = "http://near.example/debian"
    assert [one.mirror for one in lock.sources] == [near, near, "http://elsewhere.example/d"]


@pytest.mark.parametrize(("change", "word"), [({"engine": "debootstrap"}, "native"), ({"suite": "host"}, "nothing")])
def test_download_only_has_no_sense_everywhere(world: World, change: dict[str, str], word: str) -> None:
    with pytest.raises(Usage, match=word):
        download_only.download_only(world.request(**change), silent)


# --- --cache-dir


def test_a_folder_of_debs_is_filled_and_then_taken_from(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "debs"
    folder.mkdir()
    lock = fetch(world.request(cache_dir=str(folder)))
    assert sorted(path.name for path in folder.iterdir()) == sorted(map(deb_name, lock.packages))
    assert (folder / "apt_1%3a1.0_amd64.deb").stat().st_mode & 0o777 == 0o644
    assert world.fetched() == sorted(NAMES)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "another"))
    fetch(world.request(cache_dir=str(folder)))
    assert world.fetched() == []


@pytest.mark.parametrize("spoil", ["same size", "shorter", "a folder's fifo"])
def test_a_folder_is_not_believed(world: World, tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "debs"
    folder.mkdir()
    fetch(world.request(cache_dir=str(folder)))
    world.fetched()
    file = folder / "apt_1%3a1.0_amd64.deb"
    good = file.read_bytes()
    file.unlink()
    if spoil == "same size":
        file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    elif spoil == "shorter":
        file.write_bytes(good[:-1])
    else:
        os.mkfifo(file)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "another"))
    fetch(world.request(cache_dir=str(folder)))
    assert world.fetched() == ["apt"] and file.read_bytes() == good
    assert len(list(folder.iterdir())) == len(NAMES)
    # What ctk's own cache has is put right as well.
    file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    fetch(world.request(cache_dir=str(folder)))
    assert world.fetched() == [] and file.read_bytes() == good


def test_a_folder_that_is_not_there_or_full_is_an_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        fetch(world.request(cache_dir=str(tmp_path / "missing")))
    assert world.server.requests == []
    folder = tmp_path / "debs"
    folder.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", lambda a, b, **at: full() if str(folder) in a else os.replace(a, b, **at))
    with pytest.raises(CtkError, match="no space left on device"):
        fetch(world.request(cache_dir=str(folder)))
    assert list(folder.iterdir()) == []


def test_debootstrap_gets_the_same_words(tmp_path: Path) -> None:
    asked = Request("bookworm", "x", cache_dir=".", certificate="c.pem", private_key="k.pem", engine="debootstrap")
    words = engine_debootstrap._arguments(asked, "amd64", "", halfway=False)
    assert {f"--cache-dir={os.getcwd()}", "--certificate=c.pem", "--private-key=k.pem"} <= set(words)


# --- --certificate, --private-key


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, its key, the key with a passphrase, and both in one file."""
    folder = tmp_path_factory.mktemp("papers")

    def openssl(*words: str) -> None:
        subprocess.run([tool("openssl"), *words], cwd=folder, check=True, capture_output=True)

    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", *subject)
    openssl("pkey", "-in", "key.pem", "-aes256", "-passout", "pass:secret", "-out", "locked.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "other.pem", "-out", "other-cert.pem", *subject)
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return folder


@pytest.fixture
def guarded(tmp_path: Path, papers: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An https server that answers those alone who show the certificate."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www/file").write_text("for members\n")
    server = FileServer(tmp_path / "www")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers / "cert.pem", papers / "key.pem")
    context.load_verify_locations(papers / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    # The handshake in the thread of the connection: who is refused must not end the server.
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True, do_handshake_on_connect=False)
    server._server.handle_error = lambda *_: None  # type: ignore[method-assign]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(papers / "cert.pem"))
    with server.running():
        yield server.url.replace("http:", "https:") + "/file"
    assert not [one for one in threading.enumerate() if one.name == "fetch"]


@pytest.mark.parametrize("names", [("cert.pem", "key.pem"), ("both.pem", "")])
def test_a_mirror_that_asks_is_shown_the_certificate(guarded: str, papers: Path, names: tuple[str, str]) -> None:
    certificate, key = (str(papers / name) if name else "" for name in names)
    client = Client(retries=0, certificate=certificate, private_key=key)
    assert client.read(guarded, limit=100) == b"for members\n"
    client.close()
    stranger = Client(retries=0)
    with pytest.raises(CtkError):
        stranger.read(guarded, limit=100)
    stranger.close()


@pytest.mark.parametrize(
    ("certificate", "key", "word"),
    [
        ("missing.pem", "", "no such file"),
        ("cert.pem", "missing.pem", "no such file"),
        ("cert.pem", "other.pem", "key values mismatch"),
        ("cert.pem", "locked.pem", "passphrase"),
        ("cert.pem", "", "pem"),
        ("", "key.pem", "--certificate"),
    ],
)
def test_papers_that_cannot_be_used_are_told_before_anything_is_asked(
    papers: Path, certificate: str, key: str, word: str
) -> None:
    paths = [str(papers / name) if name else "" for name in (certificate, key)]
    with pytest.raises(Usage) as caught:
        Client(certificate=paths[0], private_key=paths[1])
    assert word in caught.value.because
