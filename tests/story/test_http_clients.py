"""Both ways that a request can go, over our own connections and by requests, keep the same contract."""

import gc
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import registry, registry_faults
from tests.fixtures.command import tool
from tests.fixtures.registry_faults import Handler, Server
from toolkit.errors import Usage
from toolkit.fetch import direct, session
from toolkit.fetch.response import Headers, discard
from toolkit.fetch.session import Bounds, Sessions
from toolkit.fetch.tls import Distrusted, NotSecure, Tls
from toolkit.fetch.transfer import Broken

BIG = bytes(range(256)) * 20_000


@pytest.fixture(params=["direct", "requests"])
def sessions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    if request.param == "requests":
        monkeypatch.setattr(session, "takes", lambda url: False)
    made = Sessions(connect_s=5.0, stall_s=5.0, cookies=False, direct=True)
    yield made
    assert (made._by_requests is None) == (request.param == "direct")
    made.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


def body(sessions: Sessions, server: Server, path: str = "/", method: str = "GET", **named: object) -> bytes:
    with sessions.ask(method, server.url + path, "test", headers={}, follow=False, **named) as response:  # type: ignore[arg-type]
        assert response.url == server.url + path and response.method == method
        return b"".join(sessions.stream(response, "test", Bounds(1 << 30)))


def chunked(*pieces: bytes) -> registry_faults.Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in (*pieces, b""):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    return answer


def test_a_connection_is_kept_after_every_kind_of_body(sessions: Sessions, server: Server) -> None:
    server.rule("GET /chunked", chunked(b"one", BIG, b"two"))
    server.rule("GET /empty", lambda handler: handler.reply(200, b""))
    server.rule("GET /big", lambda handler: handler.reply(200, BIG))
    server.rule("GET /moved", registry_faults.redirect("/elsewhere"))
    server.rule("PUT", lambda handler: (handler.take(), handler.reply(201, b""))[-1])
    for _ in range(2):
        assert body(sessions, server, "/chunked") == b"one" + BIG + b"two"
        assert body(sessions, server, "/empty") == b""
        assert body(sessions, server, "/big?x=%2F&y=(1)") == BIG
        assert body(sessions, server, "/moved") == b""
        discard(sessions.ask("HEAD", server.url, "test", headers={}, follow=False))
        assert body(sessions, server, "/", "PUT", body=BIG) == b""
    assert server.connections == 1
    assert server.asked[-1].body == BIG
    sent = {name.lower(): value for name, value in server.asked[0].headers.items()}
    assert sent["accept-encoding"] == "identity" and sent["host"] == server.host and sent["accept"] == "*/*"
    assert sent["user-agent"].startswith("ctk/") and "content-length" not in sent


def test_two_bodies_at_once_have_a_connection_each(sessions: Sessions, server: Server) -> None:
    server.rule("GET", lambda handler: handler.reply(200, BIG))
    with sessions.ask("GET", server.url, "test", headers={}, follow=False) as response:
        pieces = sessions.stream(response, "test", Bounds(1 << 30))
        begun = next(pieces)
        assert body(sessions, server) == BIG
        assert begun + b"".join(pieces) == BIG
    assert server.connections == 2


def test_a_connection_whose_body_nobody_read_is_not_used_again(sessions: Sessions, server: Server) -> None:
    server.rule("GET", lambda handler: handler.reply(200, BIG))
    sessions.ask("GET", server.url, "test", headers={}, follow=False).close()
    assert body(sessions, server) == BIG
    assert server.connections == 2


def test_a_connection_that_the_server_has_closed_is_replaced(sessions: Sessions, server: Server) -> None:
    def once(handler: Handler) -> None:
        handler.reply(200, b"x")  # it does not say that it will close
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    closed = threading.Event()
    server.rule("GET", once)
    for _ in range(3):
        closed.clear()
        assert body(sessions, server) == b"x"
        assert closed.wait(5)
    assert server.connections == 3


def test_an_answer_before_the_end_of_an_upload_is_read(sessions: Sessions, server: Server) -> None:
    """413, say; the rest is not waited for. What is left unread would reset the connection, so it is read first."""

    def early(handler: Handler) -> None:
        handler.reply(413, b"too large", {"Connection": "close"})
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_WR)
        handler.take()

    server.rule("PUT", early)
    assert body(sessions, server, "/", "PUT", body=BIG) == b"too large"


@pytest.mark.parametrize("by", ["direct", "requests"])
@pytest.mark.parametrize("read", [True, False])
def test_forgotten_clients_leave_no_connection(
    by: str, read: bool, server: Server, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Nobody closed one, or the response that it is busy with: it closes its sockets itself, without a warning."""
    if by == "requests":
        monkeypatch.setattr(session, "takes", lambda url: False)
    server.rule("GET", lambda handler: handler.reply(200, BIG))
    made = Sessions(connect_s=5.0, stall_s=5.0, cookies=False, direct=True)
    made.itself = made  # type: ignore[attr-defined]  # as part of a cycle, which only the collector takes away
    if read:
        assert body(made, server) == BIG
    else:
        made.ask("GET", server.url, "test", headers={}, follow=False)
    del made
    gc.collect()
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]
    assert server.connections == 1


def test_a_field_that_comes_twice_is_one_list(sessions: Sessions, server: Server) -> None:
    def two(handler: Handler) -> None:
        handler.send_response(401)
        for challenge in ('Basic realm="x"', 'Bearer realm="y"'):
            handler.send_header("WWW-Authenticate", challenge)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.rule("GET", two)
    with sessions.ask("GET", server.url, "test", headers={}, follow=False) as response:
        assert response.status_code == 401 and response.reason == "Unauthorized"
        assert response.headers["www-AUTHENTICATE"] == 'Basic realm="x", Bearer realm="y"'
        assert "WWW-Authenticate" in response.headers and "Location" not in response.headers


def test_a_login_and_a_streamed_body(sessions: Sessions, server: Server) -> None:
    class Pieces:
        def __len__(self) -> int:
            return 2 * len(BIG)

        def __iter__(self) -> Iterator[bytes]:
            yield BIG
            yield BIG

    server.rule("POST", lambda handler: (handler.take(), handler.reply(201, b""))[-1])
    body(sessions, server, "/", "POST", body=Pieces(), login=("m\u00e9", "a:b"))
    assert server.asked[0].body == BIG * 2 and server.asked[0].headers["Content-Length"] == str(2 * len(BIG))
    assert server.asked[0].authorization == "Basic bcOpOmE6Yg=="
    server.rule("DELETE", lambda handler: handler.reply(202, b""))
    assert body(sessions, server, "/", "DELETE") == b"" and server.asked[1].headers["Content-Length"] == "0"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = registry.certificates(tmp_path_factory.mktemp("keys") / "keys")
    (made / "folder").mkdir()
    (made / "folder/one.pem").write_bytes((made / "authority.pem").read_bytes())
    subprocess.run([tool("openssl"), "rehash", str(made / "folder")], check=True)
    return made


@pytest.fixture
def secure(keys: Path) -> Iterator[Server]:
    with Server(tls=keys).running() as running:
        running.rule("GET", lambda handler: handler.reply(200, b"secret"))
        yield running


@pytest.mark.parametrize("by", ["direct", "requests"])
@pytest.mark.parametrize("how", ["named", "a file", "a folder", "anybody", "nobody"])
def test_whom_tls_trusts(by: str, how: str, keys: Path, secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "requests":
        monkeypatch.setattr(session, "takes", lambda url: False)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    settings = {"named": Tls((str(keys / "authority.pem"),)), "anybody": Tls(verify=False)}.get(how)
    if how == "a file":
        monkeypatch.setenv("CURL_CA_BUNDLE", str(keys / "authority.pem"))
    elif how == "a folder":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(keys / "folder"))
    made = Sessions(tls=lambda server: settings, cookies=False, direct=True)
    if how == "nobody":
        with pytest.raises(Distrusted, match="certificate verify failed"):
            body(made, secure)
    else:
        assert [body(made, secure) for _ in range(2)] == [b"secret"] * 2
        assert secure.connections == 1
    made.close()


def test_the_name_in_the_certificate_counts(sessions: Sessions, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(keys / "authority.pem"))
    with Server(tls=keys, address="127.0.0.3").running() as other, pytest.raises(Distrusted, match=r"127\.0\.0\.3"):
        body(sessions, other)


def test_a_server_without_tls(sessions: Sessions, server: Server) -> None:
    with pytest.raises(NotSecure):
        sessions.ask("GET", server.url.replace("http:", "https:"), "test", headers={}, follow=False)


def test_authorities_are_read_only_for_a_server_with_tls(
    server: Server, secure: Server, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL takes its time for them, and registries on this machine mostly have none."""
    read: list[str] = []
    load = direct.load_authorities
    monkeypatch.setattr(direct, "load_authorities", lambda context, path: (read.append(path), load(context, path))[-1])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(keys / "authority.pem"))
    made = Sessions(cookies=False, direct=True)
    with pytest.raises(NotSecure):
        made.ask("GET", server.url.replace("http:", "https:"), "test", headers={}, follow=False)
    assert read == []
    threads = [threading.Thread(target=body, args=(made, secure)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert body(made, secure) == b"secret" and read == [str(keys / "authority.pem")]
    made.close()


def test_an_answer_that_overtakes_us_is_verified_all_the_same(
    keys: Path, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be there before anybody could look at it, and is then judged without the machine's authorities."""
    monkeypatch.setattr(direct, "_HANDSHAKE", b"never")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(keys / "authority.pem"))
    made = Sessions(cookies=False, direct=True)
    assert body(made, secure) == b"secret"
    with Server(tls=keys, address="127.0.0.3").running() as other, pytest.raises(Distrusted, match=r"127\.0\.0\.3"):
        body(made, other)
    made.close()


def test_a_server_that_hangs_up_in_the_handshake(sessions: Sessions) -> None:
    """And one that says nothing at all: neither takes longer than the time for a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        hangs_up = threading.Thread(target=lambda: listening.accept()[0].close())
        hangs_up.start()
        with pytest.raises(Broken):
            sessions.ask("GET", url, "test", headers={}, follow=False)
        hangs_up.join()
        silent = Sessions(connect_s=0.3, cookies=False, direct=True)
        began = time.monotonic()
        with pytest.raises(Broken, match="timed out"):
            silent.ask("GET", url, "test", headers={}, follow=False)
        assert 0.2 < time.monotonic() - began < 4
        silent.close()


def test_authorities_that_cannot_be_read(tmp_path: Path, secure: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.pem").write_text("no certificate\n")
    for path, why in ((tmp_path / "missing", "no such file"), (tmp_path / "no.pem", "no certificate or crl found")):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        made = Sessions(cookies=False, direct=True)
        with pytest.raises(Usage, match=f"(?i)use the certificate authority '{path}'.*{why}"):
            body(made, secure)
        made.close()


def test_nobody_listens(sessions: Sessions, server: Server) -> None:
    server.close()
    with pytest.raises(Broken, match=r"^connection refused$") as caught:
        sessions.ask("GET", server.url, "test", headers={}, follow=False)
    assert caught.value.lasting


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://registry.example/v2/a/blobs/uploads/x?_state=a%2Fb==&digest=sha256:0", True),
        ("http://[::1]:5000/v2/", True),
        ("https://registry.example", True),
        ("https://registry.example:443/a~b/(c)!$&'*+,;=@", True),
        ("https://me:pw@registry.example/", False),
        ("https://registry.example/a b", False),
        ("https://registry.example/%zz", False),
        ("https://registry.example/\u00fc", False),
        ("https://r\u00fc.example/", False),
        ("https://registry.example/#x", False),
        ("https://registry.example/a\r\nX: y", False),
        ("http://[fe80::1%25eth0]/", False),
        ("ftp://registry.example/", False),
        ("/v2/", False),
    ],
)
def test_what_goes_over_our_own_connections(url: str, taken: bool) -> None:
    assert direct.takes(url) == taken


@pytest.mark.parametrize(
    ("variables", "named", "alone"),
    [
        ({}, {}, True),
        ({"NO_PROXY": "x"}, {}, True),
        ({"HTTPS_PROXY": ""}, {}, True),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, {}, False),
        ({"all_proxy": "http://127.0.0.1:1"}, {}, False),
        ({}, {"cookies": True}, False),
    ],
)
def test_what_needs_more_goes_by_requests(
    variables: dict[str, str], named: dict[str, bool], alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = Sessions(**{"cookies": False, **named})
    assert made._is_direct("https://registry.example/v2/", False) == alone
    assert not made._is_direct("https://registry.example/v2/", True)


def test_headers() -> None:
    found = Headers([("A-b", "1"), ("C", "2"), ("a-B", "3")])
    assert list(found) == ["A-b", "C"] and len(found) == 2 and found["a-b"] == "1, 3" and found.get("d") is None
