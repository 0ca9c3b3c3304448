"""A mirror's name and password: shown to the mirror, and to nobody else."""

import base64
import dataclasses
import http.server
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.server import FileServer
from tests.unit.test_supply import World
from toolkit.bootstrap.compat import engine_debootstrap, tarball_write
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.install.apt_files import sources_list
from toolkit.bootstrap.plan import download_only
from toolkit.bootstrap.plan.plan_build import solve
from toolkit.bootstrap.resolve import lockfile
from toolkit.deb.sources_list import parse_line
from toolkit.errors import CtkError, Malformed, Unreachable, Usage
from toolkit.events import Event, Note, as_json, silent
from toolkit.fetch.http import Client
from toolkit.fetch.logins import Logins, bare

SECRET = "s3cr:t@w"
WRITTEN = "s3cr:t%40w"


class Guarded(FileServer):
    """Answers those alone who log in as `me`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        wanted = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        handler = self._server.RequestHandlerClass
        answer = handler.do_GET  # type: ignore[attr-defined]

        def do_get(this: http.server.BaseHTTPRequestHandler) -> None:
            if this.headers.get("Authorization") == wanted:
                answer(this)
                return
            this.send_response(401)
            this.send_header("WWW-Authenticate", 'Basic realm="members"')
            this.send_header("Content-Length", "0")
            this.end_headers()

        handler.do_GET = do_get  # type: ignore[attr-defined]


class Told(World):
    """The world of packages behind a login; `mirror` has it."""

    @property
    def mirror(self) -> str:
        return self.server.url.replace("http://", f"http://me:{WRITTEN}@") + "/debian"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    for name in ("CTK_MIRROR", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with Guarded(tmp_path / "served").running() as server:
        yield Told(tmp_path, server)


def secret_in(text: str) -> bool:
    return SECRET in text or WRITTEN in text or "s3cr" in text or "me:" in text


def check(world: Told, lock: Lock, events: list[Event], folder: Path) -> None:
    """Nobody may read it: not in the lock, the list of sources, the events, the cache or the files."""
    told = json.dumps([as_json(event) for event in events])
    assert not secret_in(told) and not secret_in(json.dumps(dataclasses.asdict(lock)))
    assert sources_list(lock) == f"deb {world.server.url}/debian bookworm main\n"
    for file in folder.rglob("*"):
        assert not file.is_file() or b"s3cr" not in file.read_bytes(), file
    (note,) = [event for event in events if isinstance(event, Note) and "auth.conf.d" in event.text]
    assert note.warning and f"machine {world.server.url}/debian login NAME password PASSWORD" in note.text


@pytest.mark.parametrize("how", ["mirror", "environment", "second"])
def test_it_is_in_nothing_that_a_build_leaves_or_says(
    how: str, world: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    request = world.request(mirror=world.mirror, lock=str(tmp_path / "root.lock"))
    if how == "environment":
        monkeypatch.setenv("CTK_MIRROR", world.mirror)
        request = dataclasses.replace(request, mirror="")
    if how == "second":
        request = dataclasses.replace(request, mirror="http://127.0.0.1:9/debian", mirrors=(world.mirror,))
    lock = download_only.download_only(request, events.append)
    assert world.server.asked("/pool/")
    check(world, lock, events, tmp_path)


def test_a_lock_is_built_from_a_mirror_with_a_login(
    world: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.lock"
    solve(world.request(mirror=world.mirror, lock=str(path)), silent)
    events: list[Event] = []
    lock = download_only.download_only(world.request(mirror=world.mirror, locked=str(path)), events.append)
    check(world, lock, events, tmp_path)
    # One in a lock that somebody wrote goes no further.
    path.write_text(path.read_text().replace("http://", f"http://me:{WRITTEN}@"))
    again = lockfile.read(str(path), world.request(mirror=""))
    assert again == lock
    path.unlink()


def test_a_tarball_does_not_hold_it(world: Told, tmp_path: Path) -> None:
    events: list[Event] = []
    lock = tarball_write.make(world.request(mirror=world.mirror), str(tmp_path / "debs.tgz"), events.append)
    check(world, lock, events, tmp_path)
    own = solve(world.request(mirror=world.mirror, unpack_tarball=str(tmp_path / "debs.tgz")), silent)
    assert own == lock


def test_a_source_of_its_own(world: Told, tmp_path: Path) -> None:
    line = f"deb [trusted=yes] {world.mirror} bookworm main"
    events: list[Event] = []
    lock = solve(world.request(mirror=world.mirror, sources=(line,)), events.append)
    assert sources_list(lock).count(f"{world.server.url}/debian") == 2
    assert not secret_in(json.dumps([as_json(event) for event in events]) + sources_list(lock))
    with pytest.raises(Malformed) as caught:
        parse_line(f"deb {world.mirror}", what="--source")
    assert not secret_in(str(caught.value)) and "127.0.0.1" in str(caught.value)


def test_errors_do_not_tell_it(world: Told) -> None:
    world.server.misbehave("/InRelease", "status", code=403)
    with pytest.raises(CtkError) as caught:
        solve(world.request(mirror=world.mirror), silent)
    assert not secret_in(f"{caught.value} {caught.value.hint}")
    wrong = world.mirror.replace("me:", "you:")
    with pytest.raises(Unreachable, match="401") as refused:
        solve(world.request(mirror=wrong), silent)
    assert "http://NAME:PASSWORD@HOST" in refused.value.hint and not secret_in(str(refused.value))
    for mirror in ("ftp://me:s3cr@127.0.0.1/debian", "http://me:s3cr@127.0.0.1:9/debian"):
        with pytest.raises(CtkError) as other:
            solve(world.request(mirror=mirror), silent)
        assert not secret_in(f"{other.value} {other.value.hint}")


@pytest.mark.root
def test_debootstrap_would_write_it_down_so_it_gets_none(world: Told) -> None:
    asked = Request("bookworm", "x", mirror=world.mirror, engine="debootstrap")
    with pytest.raises(Usage, match="into the tree and its log") as caught:
        engine_debootstrap.check(asked)
    assert not secret_in(str(caught.value))


def test_another_server_is_not_told(world: Told, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("x")
    with FileServer(tmp_path / "other").running() as other:
        client = Client(retries=0)
        client.logins.take(world.mirror)
        assert client.read(other.url.replace("127.0.0.1", "localhost") + "/file", limit=9) == b"x"
        world.server.misbehave("/away", "redirect", location=other.url.replace("127.0.0.1", "localhost") + "/file")
        assert client.read(world.server.url + "/debian/away", limit=9) == b"x"
        client.close()
        assert [headers.get("Authorization") for _, _, headers in other.requests] == [None, None]


def test_the_nearest_login_counts() -> None:
    logins = Logins()
    assert (
        logins.take("http://plain.example/x") == "http://plain.example/x"
        and logins.of("http://plain.example/x") is None
    )
    assert logins.take("https://a:b%3Ac@h.example:8080/one/") == "https://h.example:8080/one/"
    logins.take("https://d@h.example:8080/one/two")
    assert logins.of("https://h.example:8080/one/file") == ("a", "b:c")
    assert logins.of("https://h.example:8080/one/two/file") == ("d", "")
    assert logins.of("https://h.example:8080/one-security/file") is not None
    assert logins.of("http://h.example:8080/one/file") is None and logins.of("https://h.example/one/file") is None
    assert bare("http://a:b@c@h/x@y") == "http://h/x@y" and bare("/srv/a@b") == "/srv/a@b"
