"""The heads of a server's answers are bounded in time and in size, as the bodies are (b4)."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from toolkit.errors import Unreachable
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
