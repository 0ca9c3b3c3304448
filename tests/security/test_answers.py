"""The heads of a server's answers are bounded in time and in size, as the bodies are (b4)."""

import contextlib
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit.errors import Unreachable, Untrusted
from toolkit.fetch.http import Client

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[int]]]:
    """A server that reads a request and lets `answer` do what it likes; its URL, and its connections so far."""
    connections: list[int] = []

    def talk(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.recv(65536)
            answer(peer)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    connections.append(peer.fileno())
                    threading.Thread(target=talk, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/file", connections
        listening.shutdown(socket.SHUT_RDWR)


def drips(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.sendall(b"X")
        time.sleep(0.05)


def drips_lines(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        peer.sendall(b"X-%d: y\r\n" % number)
        time.sleep(0.05)


def drips_interim_answers(peer: socket.socket) -> None:
    while True:
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)


def floods(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.sendall(b"X-A: " + b"b" * 60_000 + b"\r\n")


def floods_interim_answers(peer: socket.socket) -> None:
    while True:
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("answer", [drips, drips_lines, drips_interim_answers, floods, floods_interim_answers])
def test_b4_a_head_without_end_is_left_soon(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    client = Client(stall_s=0.6, back_off_s=0.01)
    began = time.monotonic()
    with serving(answer) as (url, connections), pytest.raises(Unreachable, match="its headers did not end within"):
        client.read(url, limit=1000)
    assert len(connections) == 2 and time.monotonic() - began < 8
    client.close()


@pytest.mark.timeout(30)
def test_b4_a_head_in_pieces_and_a_slow_body_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(peer: socket.socket) -> None:
        for part in (b"HTTP/1.1 100 Continue\r\n\r\nHTT", b"P/1.1 200 OK\r\nContent-Le", b"ngth: 6\r\n\r\nab"):
            peer.sendall(part)
            time.sleep(0.15)
        for part in (b"c", b"d", b"e", b"f"):  # longer than the head may take, never silent for so long
            time.sleep(0.4)
            peer.sendall(part)

    monkeypatch.setenv("no_proxy", "*")
    client = Client(stall_s=1.0, back_off_s=0.01)
    with serving(answer) as (url, connections):
        assert client.read(url, limit=1000) == b"abcdef" and len(connections) == 1
    client.close()


def test_b4_a_proxys_head_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(floods_interim_answers) as (url, _):
        monkeypatch.setenv("http_proxy", url.removesuffix("/file"))
        client = Client(stall_s=0.6, back_off_s=0.01)
        with pytest.raises(Unreachable, match="its headers did not end within"):
            client.read("http://archive.example/file", limit=1000)
        client.close()


def test_b4_what_was_to_come_as_it_is_does_not_come_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes a second that mean gigabytes; and what we hash and measure is never what a server encoded."""

    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx")

    monkeypatch.setenv("no_proxy", "*")
    client = Client(stall_s=1.0, back_off_s=0.01)
    with serving(answer) as (url, connections):
        with pytest.raises(Unreachable, match="compressed"):
            client.read(url, limit=1000)
        assert client.read(url + ".gz", limit=1000) == b"xx" and len(connections) == 2
    client.close()


def redirects(location: bytes, *headers: bytes, body: "Callable[[socket.socket], None] | None" = None) -> Answer:
    def answer(peer: socket.socket) -> None:
        lines = [b"HTTP/1.1 302 Found", b"Location: " + location, *headers, b"", b""]
        peer.sendall(b"\r\n".join(lines))
        if body is not None:
            body(peer)

    return answer


def zeros_without_end(peer: socket.socket) -> None:
    while True:
        peer.sendall(bytes(1 << 20))


def zeros_packed(peer: socket.socket) -> None:
    """A gigabyte of nothing in a megabyte."""
    machine = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(1 << 10):
        peer.sendall(machine.compress(bytes(1 << 20)))
    peer.sendall(machine.flush())


def dripping(peer: socket.socket) -> None:
    while True:
        peer.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("body", [zeros_without_end, zeros_packed, dripping])
def test_b4_nobody_reads_what_a_redirect_says_beside_where_it_leads(
    body: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests reads the whole body of a redirect, and unpacks it, though nobody wants it."""
    monkeypatch.setenv("no_proxy", "*")

    def here(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    Path("/proc/self/clear_refs").write_text("5")  # the most memory that was used begins anew (proc(5))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(here) as (where, _), contextlib.closing(Client(stall_s=0.6, back_off_s=0.01)) as client:
        packed = (b"Content-Encoding: gzip",) if body is zeros_packed else ()
        with serving(redirects(where.encode(), *packed, body=body)) as (url, connections):
            assert client.read(url, limit=1000) == b"hi"
    assert len(connections) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_b4_a_redirect_with_a_short_body_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")

    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 4\r\n\r\ngone")
        assert b"GET /there" in peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with serving(answer) as (url, connections), contextlib.closing(Client(retries=0)) as client:
        assert client.read(url, limit=1000) == b"hi"
    assert len(connections) == 1


@pytest.mark.parametrize(
    "location",
    [
        b"http://[::1",
        b"//\xff\xfe/",
        b"http://u:p@\x1b[31m/",
        b"http://xn--\xff.example/",
        b"http://" + b"\xc3\xa4" * 70,
    ],
)
def test_b4_a_redirect_to_what_is_no_address_is_an_error_of_ours(
    location: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with (
        serving(redirects(location, b"Content-Length: 0")) as (url, _),
        contextlib.closing(Client(retries=0)) as client,
        pytest.raises(Untrusted, match="redirected to something other than http"),
    ):
        client.read(url, limit=1000)


@pytest.mark.parametrize("stated", ["²", "9" * 5000, "-5", "5, 5"])
def test_b4_a_length_that_is_no_number_is_none(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")

    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + stated.encode("latin-1") + b"\r\n\r\nwhole")

    with serving(answer) as (url, _), contextlib.closing(Client(retries=0)) as client:
        assert client.read(url, limit=1000) == b"whole"
