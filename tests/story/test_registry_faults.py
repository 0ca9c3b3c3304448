"""A registry and a network that fail now and then: what can go on goes on, and the rest is told in plain words."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry, registry_faults
from tests.fixtures.registry import DebianRegistry
from tests.fixtures.registry_faults import Handler, Server
from toolkit.errors import Interrupted, NotFound, Unreachable, Untrusted
from toolkit.events import Event, Note
from toolkit.image import digest as digests
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.registry import client, upload
from toolkit.image.registry.connection import Limits

ONE = images.image(images.layer({"etc/": b"", "etc/one": hashlib.sha512(b"x").digest() * 9000}), codec="")
(LAYER,) = ONE.layers
WHOLE = ONE.blobs[LAYER.digest]
QUICK = Limits(connect_s=2.0, stall_s=0.5, retries=2, back_off_s=0.01)
_NO_CHUNKS = upload._NO_CHUNKS
BLOB, MANIFEST = "GET .*/blobs/", "GET .*/manifests/"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("behind")) as running:
        there = registry.opened(running.host, "one:1", plain_http=True)
        images.put(there, ONE, "1")
        there.close()
        yield running


@pytest.fixture
def server(behind: DebianRegistry) -> Iterator[Server]:
    with Server(behind.host).running() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def source(server: Server, home: Path, events: list[Event]) -> client.Registry:
    return registry.opened(server.host, "one:1", plain_http=True, limits=QUICK, emit=events.append)


@pytest.mark.parametrize("code", [500, 502, 503, 504, 429, 408])
def test_what_may_pass_is_tried_again(code: int, server: Server, source: client.Registry) -> None:
    for pattern in (BLOB, MANIFEST):
        server.rule(pattern, registry_faults.status(code), times=2)
    assert images.equal(source, ONE)
    server.rule(MANIFEST, registry_faults.status(code, "too much"))
    before = len(server.asked)
    with pytest.raises(Unreachable, match=rf"says {code} .*too much"):
        source.manifest()
    assert len(server.asked) - before == 3


def test_a_registry_is_waited_for_as_long_as_it_says_within_bounds(
    server: Server, source: client.Registry, events: list[Event]
) -> None:
    server.rule(MANIFEST, registry_faults.status(429, Retry_After="1"), times=1)
    began = time.monotonic()
    assert source.manifest().digest == ONE.raw.digest
    assert 1 <= time.monotonic() - began < 5
    server.rule(MANIFEST, registry_faults.status(429, Retry_After="3"), times=1)
    assert source.manifest().digest == ONE.raw.digest
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.warning and "429" in note.text and "wait 3 s" in note.text
    server.rule(MANIFEST, registry_faults.status(503, Retry_After="3600"))
    began = time.monotonic()
    with pytest.raises(Unreachable, match="503"):
        source.manifest()
    assert time.monotonic() - began < 1


def test_a_limit_on_pulls_is_told_with_who_we_were(server: Server, events: list[Event]) -> None:
    """images.md 6.2: 429 although logged in, because the request was anonymous."""
    headers = {"ratelimit_limit": "100;w=21600", "ratelimit_remaining": "0;w=21600", "Retry_After": "7200"}
    server.rule("GET", registry_faults.status(429, "too fast", "TOOMANYREQUESTS", **headers))
    for named, who, hint in (({}, "anonymous", "ctk login"), ({"username": "me", "password": "x"}, "'me'", "mirror")):
        source = registry.opened(server.host, "one:1", plain_http=True, limits=QUICK, **named)
        with pytest.raises(Unreachable) as caught:
            source.manifest()
        text = str(caught.value)
        assert f"we asked as {who}, 0 of 100 pulls left in 6 h, it asks us to wait 7200 s" in text, text
        assert "TOOMANYREQUESTS: too fast" in text and hint in caught.value.hint
        source.close()


def test_few_pulls_left_are_told_once(server: Server, source: client.Registry, events: list[Event]) -> None:
    changed = registry_faults.changed(
        bytes, ratelimit_limit="100;w=21600", ratelimit_remaining="3;w=21600", Warning='299 - "going away \x1b[31m"'
    )
    server.rule(MANIFEST, changed)
    for _ in range(3):
        source.manifest()
    texts = [event.text for event in events if isinstance(event, Note)]
    assert len(texts) == 2 and "3 of 100 pulls left in 6 h, as anonymous" in texts[0]
    assert "going away \\x1b[31m" in texts[1]


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
def test_an_aborted_blob_goes_on_where_it_was(how: str, server: Server, source: client.Registry) -> None:
    server.rule(BLOB + LAYER.digest, registry_faults.half(how), times=2)
    assert images.fetch(source, LAYER) == WHOLE
    ranges = [one.headers.get("Range", "") for one in server.asked]
    half = len(WHOLE) // 2
    if how == "reset":  # what had arrived, but was not read yet, is lost with it
        starts = [int(one.removeprefix("bytes=").removesuffix("-")) for one in ranges[1:]]
        assert len(starts) == 2 and 0 < starts[0] < starts[1] < len(WHOLE)
    else:
        assert ranges == ["", f"bytes={half}-", f"bytes={half + (len(WHOLE) - half) // 2}-"]
    server.asked.clear()
    server.rule(BLOB + LAYER.digest, registry_faults.half(how), times=1)
    assert images.fetch(source, LAYER, 1000) == WHOLE[1000:]
    assert server.asked[0].headers["Range"] == "bytes=1000-"


def test_a_registry_without_ranges_sends_it_all_again(server: Server, source: client.Registry) -> None:
    server.rule(BLOB, registry_faults.half("reset"), times=1)
    server.rule(BLOB, registry_faults.no_ranges)
    assert images.fetch(source, LAYER) == WHOLE
    assert images.fetch(source, LAYER, 70_000) == WHOLE[70_000:]


def test_a_blob_that_never_comes_is_told_with_how_to_go_on(server: Server, source: client.Registry) -> None:
    server.rule(BLOB, registry_faults.half("reset", 0.001))
    with pytest.raises(Unreachable, match=r"aborted after .* bytes.*tried") as caught:
        images.fetch(source, LAYER)
    assert f"pull {LAYER.digest} of {server.host}/one" in str(caught.value) and "resumes" in caught.value.hint


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
def test_an_aborted_manifest_is_asked_for_again(how: str, server: Server, source: client.Registry) -> None:
    server.rule(MANIFEST, registry_faults.half(how), times=1)
    assert source.manifest().data == ONE.raw.data


def test_one_connection_is_enough(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a challenge, a HEAD and the chunks of an upload, whose answers nobody reads."""
    monkeypatch.setattr(upload, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 100_000)
    challenge = registry_faults.status(401, WWW_Authenticate='Basic realm="x"')
    server.rule("HEAD .*/manifests/", challenge, times=1)
    source = registry.opened(server.host, "one:1", plain_http=True, limits=QUICK, username="me", password="x")
    assert source.head() is not None and images.equal(source, ONE)
    other = Descriptor("x", digests.of(WHOLE + b"x"), len(WHOLE) + 1)
    assert not source.has(other)
    source.put_blob(other, iter([*(WHOLE[at : at + 50_000] for at in range(0, len(WHOLE), 50_000)), b"x"]))
    assert source.has(other) and len(server.lines("PATCH")) > 2
    source.put_manifest(ONE.raw, "2")
    assert server.connections == 1


def test_a_proxy_is_not_for_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Go's clients, which is what people have set their proxies up for."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server().running() as proxy:
        proxy.rule("", registry_faults.status(418, "from the proxy"))
        for variable in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        source = registry.opened(server.host, "one:1", plain_http=True, limits=QUICK)
        assert images.equal(source, ONE) and proxy.asked == []
        with pytest.raises(Unreachable, match=r"418.*from the proxy"):
            registry.opened("registry.example", "one:1", plain_http=True, limits=QUICK).manifest()
        assert proxy.lines() == ["GET http://registry.example/v2/one/manifests/1"]


def test_nobody_listens(source: client.Registry, server: Server) -> None:
    server.close()
    began = time.monotonic()
    with pytest.raises(Unreachable, match="connection refused") as caught:
        source.manifest()
    assert time.monotonic() - began < 5 and "registry" in caught.value.hint


def test_cancelling_ends_a_stalled_blob(server: Server) -> None:
    cancelled = threading.Event()
    source = registry.opened(
        server.host, "one:1", plain_http=True, cancelled=cancelled, limits=QUICK._replace(stall_s=30.0)
    )
    server.rule(BLOB, registry_faults.status(503, Retry_After="50"))
    threading.Timer(0.3, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        images.fetch(source, LAYER)
    assert time.monotonic() - began < 5


def test_a_small_blob_is_sent_again(server: Server, source: client.Registry) -> None:
    data = b"small" * 1000
    wanted = Descriptor("x", digests.of(data), len(data))
    server.rule("POST .*/uploads/", registry_faults.status(503), times=1)
    server.rule("PUT .*/uploads/", registry_faults.cut_upload(100), times=1)
    server.rule("PUT .*/uploads/", registry_faults.status(500), times=1)
    source.put_blob(wanted, iter([data]))
    assert source.has(wanted) and images.fetch(source, wanted) == data
    assert len(server.lines("PUT .*/uploads/")) == 3
    server.rule("PUT .*/uploads/", registry_faults.cut_upload(100))
    with pytest.raises(Unreachable, match=r"push sha256:.*reset") as caught:
        source.put_blob(wanted, iter([data]))
    assert "sends it again" in caught.value.hint


class Resumable:
    """The uploads of a registry that keeps what it has got, as the specification says and docker-registry does not."""

    def __init__(self, server: Server) -> None:
        self.data = b""
        self.cuts: list[int] = []  # after how many bytes of a PATCH the connection breaks
        self.lost = 0  # answers to a PATCH that do not arrive
        self.short = 0  # bytes of a PATCH that it does not take
        self.least = 0
        self.ends = 0  # answers to the closing PUT that do not arrive; the session is gone then
        self.stored: dict[str, bytes] = {}
        server.rule("POST .*/blobs/uploads/", self.begin)
        server.rule("(PATCH|GET|PUT) /session/", self.session)

    def _where(self) -> dict[str, str]:
        return {"Location": f"/session/{len(self.data)}?state=a%2Fb", "Range": f"0-{max(len(self.data) - 1, 0)}"}

    def begin(self, handler: Handler) -> None:
        self.data = b""
        more = {"OCI-Chunk-Min-Length": str(self.least)} if self.least else {}
        handler.reply(202, b"", {**self._where(), **more})

    def session(self, handler: Handler) -> None:
        assert "state=a%2Fb" in handler.path
        if handler.command == "GET":
            handler.reply(204, b"", self._where())
            return
        if handler.command == "PUT":
            self.data += handler.take()
            digest = handler.request_seen.query["digest"][0]
            assert digests.of(self.data) == digest
            self.stored[digest] = self.data
            if self.ends:
                self.ends -= 1
                first = registry_faults.status(404, "", "BLOB_UPLOAD_UNKNOWN")
                handler.owner_server.rules.insert(0, registry_faults.Rule("PUT /session/", first, -1))
                here = registry_faults.status(200)
                handler.owner_server.rules.insert(0, registry_faults.Rule(f"HEAD .*{digest}", here, -1))
                handler.cut()
                return
            handler.reply(201, b"", {"Location": "/x"})
            return
        match = re.fullmatch(r"(\d+)-(\d+)", handler.headers["Content-Range"])
        assert match
        size = int(handler.headers["Content-Length"])
        assert int(match[2]) - int(match[1]) + 1 == size
        if int(match[1]) != len(self.data):
            handler.take()
            handler.reply(416, b"", self._where())
            return
        if self.cuts:
            self.data += handler.rfile.read(min(self.cuts.pop(0), size))
            handler.cut()
            return
        taken = handler.take()
        self.data += taken[: len(taken) - min(self.short, size // 2)]
        if self.lost:
            self.lost -= 1
            handler.cut()
            return
        handler.reply(202, b"", self._where())


@pytest.mark.parametrize("fault", ["none", "cuts", "lost", "short", "all", "status", "end", "end status"])
def test_a_large_blob_goes_on_where_the_registry_stands(
    fault: str, server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 60_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 60_000)
    there = Resumable(server)
    there.cuts = [0, 1000, 59_999, 5] if fault in ("cuts", "all") else []
    there.lost = 2 if fault in ("lost", "all") else 0
    there.short = 7000 if fault in ("short", "all") else 0
    there.ends = 1 if fault == "end" else 0
    if fault == "end status":
        server.rules.insert(0, registry_faults.Rule("PUT /session/", registry_faults.status(502), 2))
    if fault == "status":
        server.rules.insert(0, registry_faults.Rule("PATCH", registry_faults.status(503), 2))
    source.put_blob(LAYER, iter([WHOLE[at : at + 8192] for at in range(0, len(WHOLE), 8192)]))
    assert there.stored == {LAYER.digest: WHOLE}
    patched = sum(len(one.body) for one in server.asked if one.line.startswith("PATCH"))
    if fault in ("none", "cuts"):
        assert patched <= len(WHOLE)  # what was cut off in the middle is not noted
    assert len(server.lines("POST")) == 1


def test_a_registry_that_wants_larger_chunks_gets_them(
    server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 10_000)
    there = Resumable(server)
    there.least = 100_000
    source.put_blob(LAYER, iter([WHOLE[at : at + 8192] for at in range(0, len(WHOLE), 8192)]))
    sizes = [len(one.body) for one in server.asked if one.line.startswith("PATCH")]
    assert all(size >= 100_000 for size in sizes[:-1]) and there.stored == {LAYER.digest: WHOLE}
    # More than we hold in memory: one request then.
    there.least, there.stored = 1 << 40, {}
    before = len(server.lines("PATCH"))
    source.put_blob(LAYER, iter([WHOLE]))
    assert there.stored == {LAYER.digest: WHOLE} and len(server.lines("PATCH")) == before


@pytest.mark.parametrize("code", [400, 404, 405, 501])
def test_a_registry_without_chunks_gets_one_request(
    code: int, server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 10_000)
    there = Resumable(server)
    server.rules.insert(0, registry_faults.Rule("PATCH", registry_faults.status(code), -1))
    source.put_blob(LAYER, iter([WHOLE[at : at + 8192] for at in range(0, len(WHOLE), 8192)]))
    assert there.stored == {LAYER.digest: WHOLE} and len(server.lines("POST")) == 2


def test_a_session_that_is_gone_is_told(
    server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is the blob taken for one that is there."""
    monkeypatch.setattr(upload, "CHUNK_BYTES", 60_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 60_000)
    there = Resumable(server)
    there.ends = 1
    given = [WHOLE[at : at + 8192] for at in range(0, len(WHOLE), 8192)]
    monkeypatch.setattr(server, "find", _without_head(server))
    with pytest.raises(NotFound, match="BLOB_UPLOAD_UNKNOWN"):
        source.put_blob(LAYER, iter(given))


def _without_head(server: Server) -> "Callable[[str], registry_faults.Answer | None]":
    """The server's rules, but that nothing is there."""
    find = server.find
    return lambda line: registry_faults.status(404) if line.startswith("HEAD") else find(line)


@pytest.mark.parametrize("host", ["europe-docker.pkg.dev", "gcr.io", "eu.gcr.io"])
def test_googles_registries_get_one_request(
    host: str, server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 10_000)
    monkeypatch.setattr(upload, "_NO_CHUNKS", (server.host,))
    assert host.endswith(_NO_CHUNKS) and not "docker.io".endswith(_NO_CHUNKS)
    there = Resumable(server)
    source.put_blob(LAYER, iter([WHOLE]))
    assert there.stored == {LAYER.digest: WHOLE} and not server.lines("PATCH")


def test_a_registry_that_claims_more_than_it_was_sent(
    server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(upload, "CHUNKED_BYTES", 10_000)
    Resumable(server)
    more = registry_faults.status(202, Location="/session/1?state=a%2Fb", Range="0-999999999")
    server.rules.insert(0, registry_faults.Rule("PATCH", more, -1))
    with pytest.raises(Unreachable, match="the registry has 1000000000 bytes"):
        source.put_blob(LAYER, iter([WHOLE]))


def test_a_compressed_answer_is_refused(server: Server, source: client.Registry) -> None:
    server.rule("GET", registry_faults.changed(bytes, Content_Encoding="gzip"))
    with pytest.raises(Untrusted, match="compressed"):
        source.manifest()
    with pytest.raises(Untrusted, match="compressed"):
        images.fetch(source, LAYER)


def test_a_mirror_that_fails_is_left_for_the_registry(
    server: Server, behind: DebianRegistry, home: Path, events: list[Event]
) -> None:
    (home / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{behind.host}"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "{server.host}"\ninsecure = true\n'
    )
    source = registry.opened(behind.host, "one:1", limits=QUICK, emit=events.append)
    server.rule(BLOB, registry_faults.half("reset"), times=1)
    server.rule(BLOB, registry_faults.status(404))
    assert images.fetch(source, LAYER) == WHOLE  # half of it from the mirror
    server.rule(MANIFEST, registry_faults.status(500))
    assert images.equal(source, ONE)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any(f"the mirror {server.host}/one" in text and "500" in text for text in notes)
    asked = len(server.lines("(POST|PUT)"))
    images.put(source, ONE, "pushed")
    assert len(server.lines("(POST|PUT)")) == asked  # a mirror is not written to
