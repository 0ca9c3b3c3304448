"""Fetching from a server that misbehaves, and a cache that others may have touched."""

import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.server import FileServer
from toolkit.errors import CtkError, Interrupted, NotFound, Unreachable, Untrusted, Usage
from toolkit.fetch import transfer
from toolkit.fetch.cache import Cache
from toolkit.fetch.http import Client
from toolkit.fetch.permanent_errors import has_network

DATA = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "www"
    (folder / "pool").mkdir(parents=True)
    (folder / "pool/a+b~1_amd64.deb").write_bytes(DATA)
    (folder / "secret").write_bytes(b"secret")
    with FileServer(folder).running() as running:
        yield running


@pytest.fixture
def client() -> Iterator[Client]:
    found = Client(stall_s=0.5, connect_s=1.0, retries=2, back_off_s=0.01)
    yield found
    found.close()


@pytest.fixture
def url(server: FileServer) -> str:
    return server.url + "/pool/a+b~1_amd64.deb"


def test_a_file_arrives_over_one_kept_connection(server: FileServer, client: Client, url: str) -> None:
    for _ in range(5):
        assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA
    assert server.connections == 1
    assert server.asked() == ["/pool/a+b~1_amd64.deb"] * 5
    headers = server.requests[0][2]
    assert headers["Accept-Encoding"] == "identity" and headers["User-Agent"].startswith("ctk/")


def test_files_and_plain_paths_are_mirrors_too(server: FileServer, client: Client) -> None:
    path = server.folder / "pool/a+b~1_amd64.deb"
    for where in (str(path), f"file://{path}", f"file://{path}".replace("+", "%2B"), f"copy:{path}"):
        assert client.read(where, limit=len(DATA), exact=len(DATA)) == DATA
    with pytest.raises(NotFound):
        client.read(str(path) + "x", limit=10)
    with pytest.raises(Untrusted):
        client.read(str(path), limit=10)
    with pytest.raises(Unreachable):
        client.read(str(path.parent), limit=1 << 20)


@pytest.mark.parametrize("bad", ["ftp://x/y", "rsync://x/y", "x/y", "gopher:1", "file://elsewhere/etc/passwd"])
def test_other_schemes_are_refused(bad: str, client: Client) -> None:
    with pytest.raises(Usage):
        client.read(bad, limit=10)


def test_not_there_is_not_found_and_asked_once(server: FileServer, client: Client) -> None:
    with pytest.raises(NotFound, match="404"):
        client.read(server.url + "/missing", limit=10)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["short", "oversize"])
def test_another_size_than_promised_is_refused_before_reading(
    fault: str, server: FileServer, client: Client, url: str
) -> None:
    server.misbehave("pool", fault)
    chunks = 0

    def consume(parts: Iterator[bytes]) -> None:
        nonlocal chunks
        for _ in parts:
            chunks += 1

    with pytest.raises(Untrusted, match="signed index states"):
        client.receive(url, consume, limit=len(DATA), exact=len(DATA))
    assert chunks == 0


def test_an_endless_file_is_cut_off_at_its_limit(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "endless")
    done = 0

    def consume(parts: Iterator[bytes]) -> None:
        nonlocal done
        for part in parts:
            done += len(part)

    for exact in (None, len(DATA)):
        done = 0
        with pytest.raises(Untrusted):
            client.receive(url, consume, limit=len(DATA), exact=exact)
        assert done <= len(DATA)
    server.behave()


def test_a_broken_transfer_begins_anew(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "truncate", times=1)
    server.misbehave("pool", "status", code=503, times=1)
    assert client.read(url, limit=len(DATA)) == DATA
    assert len(server.requests) == 3


def test_a_broken_transfer_goes_on_where_it_was(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "truncate", times=1)
    server.misbehave("pool", "status", code=503, times=1)
    server.misbehave("pool", "stall", times=1)
    assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA
    ranges = [headers.get("Range", "") for _, _, headers in server.requests]
    half, rest = len(DATA) // 2, len(DATA) - len(DATA) // 2
    assert ranges == ["", f"bytes={half}-", f"bytes={half}-", f"bytes={half + rest // 2}-"]
    server.behave()


def test_a_server_without_ranges_sends_it_all_again(server: FileServer, client: Client, url: str) -> None:
    server.ranges = False
    server.misbehave("pool", "truncate", times=1)
    assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FileServer]:
    """A second mirror of the same."""
    folder = tmp_path / "other"
    (folder / "pool").mkdir(parents=True)
    (folder / "pool/a+b~1_amd64.deb").write_bytes(DATA)
    with FileServer(folder).running() as running:
        yield running


@pytest.mark.parametrize(
    ("fault", "keywords"),
    [
        ("truncate", {}),
        ("close", {}),
        ("stall", {}),
        ("status", {"code": 500}),
        ("status", {"code": 404}),
        ("short", {}),
        ("oversize", {}),
    ],
)
def test_another_mirror_has_it(
    fault: str, keywords: dict[str, int], server: FileServer, other: FileServer, client: Client, url: str
) -> None:
    client.mirrors.add((server.url, other.url))
    server.misbehave("pool", fault, **keywords)
    began = time.monotonic()
    assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA
    assert time.monotonic() - began < 4
    # The next file is asked for where there was no trouble.
    count = len(server.requests)
    assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA
    assert len(server.requests) == count
    server.behave()


def test_a_slow_mirror_is_left_for_another(
    server: FileServer, other: FileServer, client: Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE_S", 0.3)
    client.mirrors.add((server.url, other.url))
    server.misbehave("pool", "slow", bytes_per_s=20_000)
    assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA
    (first,) = other.requests
    assert int(first[2]["Range"].removeprefix("bytes=").removesuffix("-")) > 0
    # All are slow: then it takes its time.
    other.misbehave("pool", "slow", bytes_per_s=len(DATA))
    assert client.read(url, limit=len(DATA), exact=len(DATA)) == DATA


def test_b4_pieces_of_two_mirrors_are_hashed_as_one(
    server: FileServer, other: FileServer, client: Client, url: str, tmp_path: Path
) -> None:
    client.mirrors.add((server.url, other.url))
    server.misbehave("pool", "truncate")
    other.misbehave("pool", "replace", data=b"\0" * len(DATA))
    cache = Cache(str(tmp_path / "cache"))
    digest = hashlib.sha256(DATA).hexdigest()

    def store(chunks: Iterator[bytes]) -> int:
        return cache.store(chunks, digest, len(DATA), doing="check it")

    with pytest.raises(Untrusted):
        client.receive(url, store, limit=len(DATA), exact=len(DATA))
    server.faults.clear()
    os.close(client.receive(url, store, limit=len(DATA), exact=len(DATA)))


@pytest.mark.parametrize(
    ("fault", "keywords", "reason"),
    [
        ("close", {}, "connection"),
        ("stall", {}, "timed out"),
        ("status", {"code": 500}, "500"),
        ("status", {"code": 429}, "429"),
    ],
)
def test_what_stays_broken_is_unreachable_within_seconds(
    fault: str, keywords: dict[str, int], reason: str, server: FileServer, client: Client, url: str
) -> None:
    server.misbehave("pool", fault, **keywords)
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        client.read(url, limit=len(DATA))
    assert reason in caught.value.because.lower() and "tried 3 times" in caught.value.because
    assert "0x" not in caught.value.because
    assert len(server.requests) == 3
    assert time.monotonic() - began < 10
    server.behave()


def test_forbidden_is_told_at_once(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "status", code=403)
    with pytest.raises(Unreachable, match="403") as caught:
        client.read(url, limit=len(DATA))
    assert url in str(caught.value)
    assert len(server.requests) == 2  # the second with %2B for the + in its name


def test_what_a_wrong_address_gets_is_told_with_what_to_look_at(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "status", code=400)
    with pytest.raises(Unreachable, match="400") as caught:
        client.read(url, limit=len(DATA))
    assert "most end in /debian or /ubuntu" in caught.value.hint.lower()


@pytest.mark.parametrize("code", [403, 404])
def test_a_plus_is_asked_for_as_object_stores_have_it_where_it_is_not_there(
    code: int, server: FileServer, client: Client, url: str
) -> None:
    server.misbehave(r"\+", "status", code=code)
    assert client.read(url, limit=len(DATA)) == DATA
    asked = len(server.requests)
    # From then on that server is asked so at once; with a promised size, too.
    assert client.receive(url, b"".join, limit=len(DATA), exact=len(DATA)) == DATA
    assert [path.rpartition("/")[2] for path in server.asked()[asked:]] == ["a%2Bb~1_amd64.deb"]


def test_caches_on_the_way_are_asked_to_look_for_what_changes(server: FileServer, client: Client, url: str) -> None:
    client.read(url, limit=len(DATA))
    client.read(url, limit=len(DATA), fresh=True)
    client.receive(url, b"".join, limit=len(DATA), exact=len(DATA), fresh=True)
    assert [headers.get("Cache-Control") for _, _, headers in server.requests] == [None, "max-age=0", "max-age=0"]


def test_nobody_listens_there(client: Client) -> None:
    with pytest.raises(Unreachable, match=r"x: connection refused \(tried 2 times\)") as caught:
        client.read("http://127.0.0.1:9/x", limit=10)
    assert "--mirror" in caught.value.hint
    with pytest.raises(Unreachable, match=r"x: connection refused \(tried 2 times\)"):
        client.read("http://127.0.0.1:9/x", limit=10, exact=10)


def test_a_mirror_that_answered_before_may_be_starting_anew(server: FileServer, client: Client, url: str) -> None:
    client.read(url, limit=len(DATA))
    with pytest.raises(Unreachable, match=r"x: connection refused \(tried 3 times\)"):
        client.read("http://127.0.0.1:9/x", limit=10)


@pytest.mark.parametrize(
    ("error", "network", "tries"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), True, 2),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), False, 2),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True, 3),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), False, 2),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), True, 3),
    ],
)
def test_what_seconds_do_not_cure_is_tried_once_more(
    error: OSError, network: bool, tries: int, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("socket.getaddrinfo", fail)
    monkeypatch.setattr("toolkit.fetch.permanent_errors.has_network", lambda: network)
    with pytest.raises(Unreachable, match=f"(?i){error.strerror} \\(tried {tries} times\\)"):
        client.read("http://mirror.invalid/x", limit=10)


_FOUR = "Iface\tDestination\tGateway\n"
_SIX = "{:032x} {} {:032x} 00 {:032x} 00000100 00000001 00000000 00000001 {:>8}\n"
_HERE = _SIX.format(1, "80", 0, 0, "lo") + "fe80" + _SIX.format(0, "40", 0, 0, "eth0")[4:]


@pytest.mark.parametrize(
    ("four", "six", "network"),
    [
        (_FOUR, "", False),
        (_FOUR, _HERE, False),
        (_FOUR + "eth0\t00000000\t010200C0\n", _HERE, True),
        (_FOUR, _HERE + _SIX.format(0, "00", 0, 0xFE80 << 112, "eth0"), True),
        ("", "", True),  # no /proc that tells
    ],
)
def test_a_network_is_a_route_that_leads_out(
    four: str, six: str, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"/proc/net/route": four, "/proc/net/ipv6_route": six}
    monkeypatch.setattr("toolkit.fetch.permanent_errors.read", told.__getitem__)
    assert has_network() is network


def test_b4_redirects_lead_to_http_only(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "redirect", location="/secret", times=1)
    assert client.read(url, limit=len(DATA)) == b"secret"
    for location in (f"file://{server.folder}/secret", "ftp://127.0.0.1/x", "gopher://x"):
        server.misbehave("pool", "redirect", location=location, times=1)
        with pytest.raises((Untrusted, Unreachable)):
            client.read(url, limit=len(DATA))
    server.misbehave("pool", "redirect", location="/pool/again")
    with pytest.raises(Unreachable, match="too many redirects"):
        client.read(url, limit=len(DATA))


def test_b4_a_redirects_line_breaks_are_no_header(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "redirect", location="/secret%0aContent-Length: 1", times=2)
    with pytest.raises((NotFound, Unreachable)):
        client.read(url, limit=len(DATA))


def test_a_cancelled_client_stops(server: FileServer, client: Client, url: str) -> None:
    server.misbehave("pool", "slow", bytes_per_s=20_000)
    threading.Timer(0.3, client.cancel).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        client.read(url, limit=len(DATA))
    assert time.monotonic() - began < 5


def test_a_proxy_of_the_environment_is_used(
    server: FileServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(NotFound):
        client.read("http://archive.example/pool/x", limit=10)
    assert server.requests[0][1] == "http://archive.example/pool/x"


# The cache


def read(fd: int) -> bytes:
    try:
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read()
    finally:
        os.close(fd)


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    assert cache.open(DIGEST, len(DATA)) is None
    assert read(cache.store([DATA[:100], DATA[100:]], DIGEST, len(DATA), doing="x")) == DATA
    fd = cache.open(DIGEST, len(DATA))
    assert fd is not None and read(fd) == DATA
    assert os.stat(tmp_path / "cache/files").st_mode & 0o777 == 0o700


@pytest.mark.parametrize("chunks", [[DATA[:-1]], [DATA, b"x"], [DATA[:-1], b"x"], []])
def test_a_wrong_hash_or_size_is_never_kept(chunks: list[bytes], tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    with pytest.raises(Untrusted, match="signed index states"):
        cache.store(chunks, DIGEST, len(DATA), doing="check x")
    assert cache.open(DIGEST, len(DATA)) is None
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_an_interrupted_transfer_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))

    def chunks() -> Iterator[bytes]:
        yield DATA[:1000]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.store(chunks(), DIGEST, len(DATA), doing="x")
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_b13_a_cached_file_is_hashed_again_when_used(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    os.close(cache.store([DATA], DIGEST, len(DATA), doing="x"))
    path = Path(cache.path(DIGEST))
    path.write_bytes(DATA[:-1] + b"x")
    assert cache.open(DIGEST, len(DATA)) is None
    assert not path.exists()
    # Exchanged after it was opened: the descriptor still is the checked file.
    fd = cache.store([DATA], DIGEST, len(DATA), doing="x")
    (tmp_path / "other").write_bytes(b"evil")
    os.rename(tmp_path / "other", path)
    assert read(fd) == DATA


def test_b13_a_symbolic_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    os.close(cache.store([DATA], DIGEST, len(DATA), doing="x"))
    path = Path(cache.path(DIGEST))
    (tmp_path / "elsewhere").write_bytes(DATA)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.open(DIGEST, len(DATA)) is None


def test_b13_a_cache_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    os.chmod(tmp_path / "files", 0o777)
    with pytest.raises(CtkError, match="other users can write"):
        Cache(str(tmp_path)).store([DATA], DIGEST, len(DATA), doing="x")


def test_two_builds_share_a_cache(tmp_path: Path) -> None:
    """Both fetch the same file at once; each gets a whole one, and one is kept."""
    barrier = threading.Barrier(4)
    found: list[bytes] = []

    def build() -> None:
        cache = Cache(str(tmp_path))

        def chunks() -> Iterator[bytes]:
            for at in range(0, len(DATA), 50_000):
                barrier.wait(10)
                yield DATA[at : at + 50_000]

        found.append(read(cache.store(chunks(), DIGEST, len(DATA), doing="x")))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 4
    assert [path.name for path in (tmp_path / "files").rglob("*") if path.is_file()] == [DIGEST]


def test_left_overs_of_killed_builds_go_away(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir(mode=0o700)
    old, new = tmp_path / "files/tmp.1.x", tmp_path / "files/tmp.2.y"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.close(Cache(str(tmp_path)).store([DATA], DIGEST, len(DATA), doing="x"))
    assert not old.exists() and new.exists()


def test_a_note_is_kept_with_its_file_and_never_torn(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.note(DIGEST, "offsets", b"early")  # no such folder yet: no error, and nothing kept
    assert cache.noted(DIGEST, "offsets") is None
    os.close(cache.store([DATA], DIGEST, len(DATA), doing="x"))
    cache.note(DIGEST, "offsets", b"worked out")
    assert cache.noted(DIGEST, "offsets") == b"worked out" and cache.noted(DIGEST, "other") is None
    path = Path(cache.path(DIGEST) + ".offsets")
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.noted(DIGEST, "offsets") is None
