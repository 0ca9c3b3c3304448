"""A registry that lies about what it sends, or never ends (R1, R2, R3, R7)."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images, registry, registry_faults
from tests.fixtures.registry_faults import Handler, Server
from toolkit.errors import CtkError, Invalid, NotFound, Unreachable, Untrusted, Usage
from toolkit.image import digest as digests
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.registry import client, referrers, tags
from toolkit.image.registry.connection import Limits

ONE = images.image(images.layer({"etc/": b"", "etc/one": b"1" * 5000}))
TWO = images.image(images.layer({"two": b"2"}))
(LAYER,) = ONE.layers
QUICK = Limits(connect_s=2.0, stall_s=0.5, retries=1, back_off_s=0.01)


def serve(handler: Handler) -> None:
    """A registry of one repository, with ONE and TWO in it; their tags are 1 and 2."""
    documents = {"1": ONE, "2": TWO, ONE.raw.digest: ONE, TWO.raw.digest: TWO}
    kind, _, wanted = handler.path.removeprefix("/v2/one/").partition("/")
    blobs = {**ONE.blobs, **TWO.blobs}
    if kind == "manifests" and wanted in documents:
        raw = documents[wanted].raw
        headers = {"Content-Type": raw.media_type, "Docker-Content-Digest": raw.digest}
        handler.reply(200, raw.data, headers)
    elif kind == "blobs" and wanted in blobs:
        handler.reply(200, blobs[wanted])
    else:
        handler.reply(404, b"")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        running.rule("(GET|HEAD) /v2/one/(manifests|blobs)/", serve)
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


@pytest.fixture
def source(server: Server, home: Path) -> client.Registry:
    return registry.opened(server.host, "one:1", plain_http=True, limits=QUICK)


def first(server: Server, pattern: str, answer: registry_faults.Answer) -> None:
    server.rules.insert(0, registry_faults.Rule(pattern, answer, -1))


def fixed(status: int, data: bytes, **headers: str) -> registry_faults.Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(status, data, named)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "md5:" + "a" * 32,
        "sha256:../../../etc/passwd",
        "sha256:" + "a" * 64 + "/../x",
        "sha256:" + "a" * 64 + "?x",
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_r1_a_digest_is_checked_before_a_url_is_made_of_it(
    digest: str, server: Server, source: client.Registry
) -> None:
    hostile = Descriptor("x", digest, 10)
    for attempt in (
        lambda: images.fetch(source, hostile),
        lambda: source.has(hostile),
        lambda: source.put_blob(hostile, iter([b"x"])),
        lambda: source.mount(hostile, "other"),
        lambda: source.manifest(digest),
        lambda: source.referrers(digest),
        lambda: source.delete(digest),
    ):
        with pytest.raises((Usage, Invalid)):
            attempt()
    assert server.asked == []


def test_r2_a_digest_is_answered_with_nothing_else(server: Server, source: client.Registry) -> None:
    lie = fixed(200, TWO.raw.data, Content_Type=TWO.raw.media_type, Docker_Content_Digest=ONE.raw.digest)
    first(server, f"GET .*/manifests/{ONE.raw.digest}", lie)
    with pytest.raises(Untrusted, match=f"its digest is {TWO.raw.digest}, and {ONE.raw.digest} was asked for"):
        source.manifest(ONE.raw.digest)
    pinned = registry.opened(server.host, f"one:2@{ONE.raw.digest}", plain_http=True, limits=QUICK)
    with pytest.raises(Untrusted):
        pinned.manifest()
    assert all("/manifests/2" not in line for line in server.lines())  # the digest decides, not the tag


def test_r2_the_header_that_names_the_digest_is_not_believed(server: Server, source: client.Registry) -> None:
    first(server, "GET .*/manifests/1", fixed(200, ONE.raw.data, Docker_Content_Digest=TWO.raw.digest))
    assert source.manifest().digest == ONE.raw.digest
    # A HEAD has nothing else; what it says is a claim, and no text that is not a digest gets through.
    for claimed in ("sha256:../../x", "sha256:" + "A" * 64, "", "x" * 5000):
        first(server, "HEAD .*/manifests/1", fixed(200, ONE.raw.data, Docker_Content_Digest=claimed))
        found = source.head()
        assert found is not None and found.digest == ONE.raw.digest and found.size_bytes == len(ONE.raw.data)


@pytest.mark.parametrize("wrong", ["longer", "shorter", "states more", "states less"])
def test_r2_a_blob_has_the_size_of_its_descriptor(wrong: str, server: Server, source: client.Registry) -> None:
    """At the first byte too many, and before the first one where the registry states another size."""
    data = ONE.blobs[LAYER.digest]

    def answer(handler: Handler) -> None:
        sent = data + b"x" * 100_000 if "longer" in wrong else data[:-1] if "shorter" in wrong else data
        if wrong.startswith("states"):
            handler.reply(200, data, stated=len(data) + (1 if "more" in wrong else -1))
            return
        handler.send_response(200)  # nothing about its length
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(sent)
        handler.close_connection = True

    first(server, "GET .*/blobs/", answer)
    got = b""
    with pytest.raises(Untrusted, match="its descriptor states"), source.blob(LAYER) as pieces:
        for piece in pieces:
            got += piece
    assert len(got) <= LAYER.size_bytes and (not wrong.startswith("states") or not got)


def test_r2_a_blob_of_another_size_is_not_there(server: Server, source: client.Registry) -> None:
    assert source.has(LAYER)
    assert not source.has(LAYER._replace(size_bytes=LAYER.size_bytes + 1))
    first(server, "HEAD .*/blobs/", registry_faults.status(403))
    with pytest.raises(Unreachable, match="403"):
        source.has(LAYER)
    with Server(address="127.0.0.2").running() as storage:  # signed for GET, it says
        storage.rule("", registry_faults.status(403))
        first(server, "HEAD .*/blobs/", registry_faults.redirect(f"{storage.url}/blob"))
        assert not source.has(LAYER)


def test_r2_what_a_document_says_it_is_and_what_it_came_as_are_one(server: Server, source: client.Registry) -> None:
    first(server, "GET .*/manifests/1", fixed(200, ONE.raw.data, Content_Type=media_types.OCI_INDEX))
    raw = source.manifest()
    with pytest.raises(Invalid, match="mediaType"):
        manifest.read(raw.data, raw.media_type, "it")


def test_r3_the_urls_of_a_descriptor_are_never_fetched(server: Server, source: client.Registry) -> None:
    with Server(address="127.0.0.2").running() as elsewhere:
        foreign = LAYER._replace(urls=(f"{elsewhere.url}/layer",))
        assert images.fetch(source, foreign) == ONE.blobs[LAYER.digest]
        first(server, "GET .*/blobs/", registry_faults.status(404))
        with pytest.raises(NotFound):
            images.fetch(source, foreign)
        assert elsewhere.asked == []


def endless(handler: Handler) -> None:
    """A body without an end, as far as the client takes it."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.owner_server.released.is_set():
        handler.wfile.write(b" " * 65536)


def test_r7_a_manifest_ends_at_four_mebibytes(server: Server, source: client.Registry) -> None:
    Path("/proc/self/clear_refs").write_text("5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first(server, "GET .*/manifests/1", endless)
    with pytest.raises(Untrusted, match="longer than 4194304 bytes"):
        source.manifest()
    first(server, "GET .*/manifests/1", fixed(200, b"{}", Content_Length="99999999999"))
    with pytest.raises(Untrusted, match="longer than"):
        source.manifest()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10


def test_r7_the_text_of_an_error_ends(server: Server, source: client.Registry) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(403)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while not handler.owner_server.released.is_set():
            handler.wfile.write(b"[" * 65536)

    first(server, "GET .*/manifests/1", answer)
    with pytest.raises(Unreachable, match="says 403 Forbidden; we asked as anonymous"):
        source.manifest()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"errors": 1}',
        b'{"errors": [1, null, {}, {"code": 1}]}',
        b'{"errors": {"a": 1}}',
        b"[" * 30_000,
        b'{"errors": [{"code": "\\u001b[31mRED", "message": "' + b"x" * 5000 + b'"}]}',
        b"\xff\xfe",
    ],
)
def test_r7_the_text_of_an_error_does_nothing_to_a_terminal(
    body: bytes, server: Server, source: client.Registry
) -> None:
    first(server, "GET .*/manifests/1", fixed(403, body))
    with pytest.raises(Unreachable, match="says 403") as caught:
        source.manifest()
    text = f"{caught.value} {caught.value.hint}"
    assert text.isprintable() and len(text) < 1000


def listing(count: int, link: str) -> registry_faults.Answer:
    """A page of tags, and where the next one is; {n} in it counts the pages."""
    numbers = iter(range(1, 1 << 30))

    def answer(handler: Handler) -> None:
        number = next(numbers)
        body = json.dumps({"name": "one", "tags": [f"t{number}-{at}" for at in range(count)]}).encode()
        handler.reply(200, body, {"Link": f'<{link.replace("{n}", str(number))}>; rel="next"'})

    return answer


def test_a_list_of_tags_in_pages(server: Server, source: client.Registry) -> None:
    last = fixed(200, b'{"name": "one", "tags": ["last", "bad tag", "../x"]}')
    server.rule("tags/list$", listing(2, "/v2/one/tags/list?last=a&n=2"))
    server.rule("tags/list.last=a", listing(2, "?last=b&n=2"))
    server.rule("tags/list.last=b", last)
    assert source.tags() == ["t1-0", "t1-1", "last"]
    assert server.lines("tags") == [
        "GET /v2/one/tags/list",
        "GET /v2/one/tags/list?last=a&n=2",
        "GET /v2/one/tags/list?last=b&n=2",
    ]


@pytest.mark.parametrize(
    ("link", "because", "most"),
    [
        ("/v2/one/tags/list", "circles", 1),
        ("/v2/one/tags/list?last=x", "circles", 2),
        ("?n={n}", "more than 20 pages", 20),
        ("http://127.0.0.2:1/v2/one/tags/list", "on another server", 1),
        ("file:///etc/passwd", "not an http address", 1),
        ("http://169.254.169.254/latest", "only this machine's network", 1),
    ],
)
def test_r7_a_list_that_goes_on_for_ever_ends(
    link: str, because: str, most: int, server: Server, source: client.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags, "MOST_PAGES", 20)
    server.rule("tags/list", listing(2, link))
    with pytest.raises(Untrusted, match=because):
        source.tags()
    assert len(server.asked) == most


def test_r7_what_refers_to_an_image_has_a_hundred_pages(server: Server, source: client.Registry) -> None:
    """CVE-2024-29902: endless attachments of a hostile registry."""
    numbers = iter(range(1, 1 << 30))

    def answer(handler: Handler) -> None:
        number = next(numbers)
        one = Descriptor(media_types.OCI_MANIFEST, digests.of(b"%d" % number), 10, artifact_type="x/y")
        headers = {"Content-Type": media_types.OCI_INDEX, "Link": f'<?n={number}>; rel="next"'}
        handler.reply(200, manifest.write_index([one]), headers)

    server.rule("/referrers/", answer)
    with pytest.raises(Untrusted, match="more than 100 pages"):
        source.referrers(ONE.raw.digest)
    assert len(server.asked) == referrers.MOST_PAGES == 100


def test_what_refers_to_an_image_by_the_registrys_own_list(server: Server, source: client.Registry) -> None:
    entries = [
        Descriptor(media_types.OCI_MANIFEST, digests.of(b"%d" % at), 10, {"n": str(at)}, artifact_type=f"x/{at % 2}")
        for at in range(4)
    ]
    index = {"Content-Type": media_types.OCI_INDEX}
    server.rule(
        "/referrers/.*next",
        lambda handler: handler.reply(200, manifest.write_index(entries[2:]), index),
    )
    server.rule(
        "/referrers/",
        lambda handler: handler.reply(
            200, manifest.write_index(entries[:2]), {**index, "Link": '</v2/x>; rel="prev", <?next>; rel=next'}
        ),
    )
    assert source.referrers(ONE.raw.digest) == entries
    assert source.referrers(ONE.raw.digest, "x/1") == [entries[1], entries[3]]
    assert "artifactType=x%2F1" in server.lines("referrers")[2]


@pytest.mark.parametrize(
    ("status", "data", "kind"),
    [
        (404, b"", ""),
        (405, b"", ""),
        (200, b"<html>welcome</html>", "text/html"),
        (200, b"{}", "application/json"),
    ],
)
def test_a_registry_without_such_a_list_has_an_index_under_a_tag(
    status: int, data: bytes, kind: str, server: Server, source: client.Registry
) -> None:
    server.rule("/referrers/", lambda handler: handler.reply(status, data, {"Content-Type": kind}))
    assert source.referrers(ONE.raw.digest) == []
    one = Descriptor(media_types.OCI_MANIFEST, digests.of(b"1"), 10, artifact_type="x/y")
    tag = ONE.raw.digest.replace(":", "-")
    first(server, f"/manifests/{tag}", fixed(200, manifest.write_index([one]), Content_Type=media_types.OCI_INDEX))
    assert source.referrers(ONE.raw.digest) == [one]
    # Somebody has given that tag to an image: nothing refers to it, and we don't write over it.
    first(server, f"/manifests/{tag}", fixed(200, ONE.raw.data, Content_Type=ONE.raw.media_type))
    assert source.referrers(ONE.raw.digest) == []
    server.rule("PUT", lambda handler: (handler.take(), handler.reply(201, b""))[-1])
    subject = Descriptor(ONE.raw.media_type, ONE.raw.digest, len(ONE.raw.data))
    document = manifest.write(ONE.config, [], subject=subject, artifact_type="x/y")
    raw = ONE.raw._replace(data=document, digest=digests.of(document))
    with pytest.raises(Invalid, match="is an image"):
        source.put_manifest(raw)
    assert not server.lines(f"PUT .*{tag}")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"tags": 1}', b'{"tags": [1]}', b"[" * 100_000])
def test_a_list_that_is_none(data: bytes, server: Server, source: client.Registry) -> None:
    server.rule("tags/list", fixed(200, data))
    server.rule("/referrers/", fixed(200, data, Content_Type=media_types.OCI_INDEX))
    for ask in (source.tags, lambda: source.referrers(ONE.raw.digest)):
        with pytest.raises(CtkError):
            assert ask() == []
            raise Usage("an empty list is right, too")


def test_the_tags_that_are_near(server: Server, source: client.Registry) -> None:
    for listed, hint in (
        (["bookworm", "trixie", "book\x1b", "1"], "the tags there are: bookworm …"),
        (["a", "b"], "the tags there are: a, b"),
        ([f"t{at}" for at in range(9)], "the tags there are: t0, t1, t2, t3, t4 …"),
        ([], "check the name"),
        (["\x1b[31m"], "check the name"),
        ("bookworm", "check the name"),
    ):
        first(server, "tags/list", fixed(200, json.dumps({"name": "one", "tags": listed}).encode()))
        with pytest.raises(NotFound) as caught:
            source.manifest("bokworm")
        assert caught.value.hint.startswith(hint)
    first(server, "tags/list", endless)
    with pytest.raises(NotFound, match="404"):
        source.manifest("bokworm")


def test_no_tags_are_no_error(server: Server, source: client.Registry) -> None:
    server.rule("tags/list", fixed(200, b'{"name": "one", "tags": null}'))
    assert source.tags() == []


def test_a_head_without_a_size_is_asked_for_whole(server: Server, source: client.Registry) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Docker-Content-Digest", TWO.raw.digest)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True

    first(server, "HEAD", answer)
    found: Any = source.head()
    assert (found.digest, found.size_bytes) == (ONE.raw.digest, len(ONE.raw.data))
