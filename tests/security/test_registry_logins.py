"""A registry, or whoever it leads to, that is after the login (R4 to R6)."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images, registry, registry_faults
from tests.fixtures.registry_faults import Handler, Server
from toolkit.errors import CtkError, Unreachable, Untrusted
from toolkit.events import Event, Note
from toolkit.fetch import heads
from toolkit.image import digest as digests
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.registry import client, login, origins
from toolkit.image.registry.connection import Limits

ONE = images.image(images.layer({"etc/": b"", "etc/one": b"1" * 5000}))
(LAYER,) = ONE.layers
DATA = ONE.blobs[LAYER.digest]
QUICK = Limits(connect_s=2.0, stall_s=2.0, retries=1, back_off_s=0.01)
SECRET = "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registry.certificates(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Path) -> Iterator[Path]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(keys / "authority.pem"))
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another host; it has the blob, and takes one."""
    with Server(address="127.0.0.2").running() as running:
        running.rule("GET .*/blob", lambda handler: handler.reply(200, DATA))
        running.rule("(PUT|PATCH|POST)", lambda handler: (handler.take(), handler.reply(201, b""))[-1])
        running.rule("token", lambda handler: (handler.take(), handler.reply(200, b'{"token": "elsewheres"}'))[-1])
        yield running


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


def basic(answer: registry_faults.Answer) -> registry_faults.Answer:
    """`answer` for who logs in as `me`, else a basic challenge."""

    def guard(handler: Handler) -> None:
        if handler.headers.get("Authorization") == SECRET:
            answer(handler)
        else:
            handler.take()
            handler.reply(401, b"", {"WWW-Authenticate": 'Basic realm="it"'})

    return guard


def bearer(realm: str, **more: str) -> registry_faults.Answer:
    """A challenge that names a realm."""
    header = ",".join([f'Bearer realm="{realm}"', 'service="tests"', *(f'{k}="{v}"' for k, v in more.items())])
    return lambda handler: (handler.take(), handler.reply(401, b"", {"WWW-Authenticate": header}))[-1]


def opened(server: Server, **named: Any) -> client.Registry:
    me = {"username": "me", "password": "secret"}
    plain = None if server.scheme == "https" else True
    return registry.opened(server.host, "one:1", plain_http=plain, limits=QUICK, **{**me, **named})


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_r5_a_redirect_to_another_host_carries_no_login(code: int, server: Server, elsewhere: Server) -> None:
    server.rule("blobs", basic(registry_faults.redirect(f"{elsewhere.url}/blob?signed=1", code)))
    assert images.fetch(opened(server), LAYER, 100) == DATA[100:]
    assert server.asked[-1].authorization == SECRET
    (asked,) = elsewhere.asked
    assert asked.line == "GET /blob?signed=1" and not asked.authorization and asked.headers["Range"] == "bytes=100-"
    assert asked.headers["Host"] == elsewhere.host


def test_r5_nor_does_one_to_another_port_or_scheme(server: Server, keys: Path) -> None:
    for tls in (None, keys):
        with Server(tls=tls).running() as other:
            other.rule("blob", lambda handler: handler.reply(200, DATA))
            server.rules.clear()
            server.rule("blobs", basic(registry_faults.redirect(f"{other.url}/blob")))
            assert images.fetch(opened(server), LAYER) == DATA
            (asked,) = other.asked
            assert not asked.authorization


def test_r5_within_the_registry_it_goes_with_it_and_not_back_by_others(server: Server, elsewhere: Server) -> None:
    server.rule("/v2/one/blobs", basic(registry_faults.redirect("/moved/blob")))
    server.rule("/moved/blob", basic(registry_faults.redirect(f"{elsewhere.url}/around")))
    elsewhere.rules.clear()
    elsewhere.rule("/around", registry_faults.redirect(f"{server.url}/back"))
    server.rule("/back", lambda handler: handler.reply(200, DATA))
    assert images.fetch(opened(server), LAYER) == DATA
    assert [(one.line, bool(one.authorization)) for one in server.asked[1:]] == [
        (f"GET /v2/one/blobs/{LAYER.digest}", True),
        ("GET /moved/blob", True),
        ("GET /back", True),  # the registry's own again
    ]
    assert not elsewhere.asked[0].authorization


@pytest.mark.parametrize(
    ("location", "because"),
    [
        ("http://{here}/blob", "from https to http"),
        ("ftp://127.0.0.2/x", "not an http address"),
        ("file:///etc/passwd", "not an http address"),
        ("https://169.254.169.254/latest/meta-data", "only this machine's network"),
        ("https://[fe80::1]/x", "only this machine's network"),
        ("https://[::ffff:169.254.169.254]/x", "only this machine's network"),
        ("https://metadata.google.internal/x", "only this machine's network"),
        ("https://me:secret@127.0.0.2/x", "a login in it"),
        ("https://127.0.0.2:99999999/x", "not a URL"),
        ("https://[::1/x", "not a URL"),
        ("mailto:x@example.com", "not an http address"),
    ],
)
def test_r5_where_a_redirect_must_not_lead(location: str, because: str, keys: Path, elsewhere: Server) -> None:
    with Server(tls=keys).running() as secure:
        secure.rule("blobs", basic(registry_faults.redirect(location.replace("{here}", elsewhere.host))))
        with pytest.raises(Untrusted, match=because):
            images.fetch(opened(secure), LAYER)
    assert elsewhere.asked == []


def test_r5_a_registry_elsewhere_does_not_lead_to_this_machine() -> None:
    for there in ("https://127.0.0.1:2375/x", "https://localhost/x", "https://[::1]/", "https://a.localhost/"):
        with pytest.raises(Untrusted, match="this machine"):
            origins.target("https://registry.example/v2/", there, "pull it")
    assert origins.target("https://localhost/v2/", "https://127.0.0.1:8/x", "pull it") == "https://127.0.0.1:8/x"


def test_r5_a_name_that_leads_to_the_metadata_service_is_not_connected_to(
    server: Server, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the name was: the address that the connection has is looked at. 127.0.0.2 plays it here."""
    monkeypatch.setattr(heads, "is_of_this_network", lambda address: address == "127.0.0.2")
    server.rule("blobs", registry_faults.redirect(f"{elsewhere.url}/blob"))
    server.rule("manifests", bearer(f"{elsewhere.url}/token"))
    with pytest.raises(Unreachable, match="only this machine's network can reach"):
        images.fetch(opened(server), LAYER)
    with pytest.raises(CtkError, match="only this machine's network can reach"):
        opened(server, username="").manifest()
    assert elsewhere.asked == []


def test_r5_redirects_in_a_circle_end(server: Server, elsewhere: Server) -> None:
    server.rule("blobs", registry_faults.redirect("{path}"))
    with pytest.raises(Unreachable, match="too many redirects"):
        images.fetch(opened(server), LAYER)
    assert len(server.asked) <= 8


def test_r5_an_upload_is_not_redirected_to_another_host(server: Server, elsewhere: Server) -> None:
    """CVE-2018-18074's other half: a 307 sends the body again, wherever."""
    data = b"secret content"
    wanted = Descriptor("x", digests.of(data), len(data))
    server.rule("POST", registry_faults.redirect(f"{elsewhere.url}/up"), times=1)
    with pytest.raises(Untrusted, match=rf"redirects the upload to '{elsewhere.host}'"):
        opened(server).put_blob(wanted, iter([data]))
    server.rule("POST", lambda handler: handler.reply(202, b"", {"Location": "/session"}))
    server.rule("PUT", registry_faults.redirect(f"{elsewhere.url}/up"))
    with pytest.raises(Untrusted, match="redirects the upload"):
        opened(server).put_blob(wanted, iter([data]))
    assert elsewhere.asked == []


def test_r5_an_upload_that_begins_on_another_host_goes_there_without_the_login(
    server: Server, elsewhere: Server
) -> None:
    """The specification lets a registry have its uploads elsewhere; what signs them is in the URL."""
    data = b"content"
    wanted = Descriptor("x", digests.of(data), len(data))
    place = {"Location": f"{elsewhere.url}/up?signed=1"}
    server.rule("POST", basic(lambda handler: handler.reply(202, b"", place)))
    opened(server).put_blob(wanted, iter([data]))
    (asked,) = elsewhere.asked
    assert (
        asked.body == data and not asked.authorization and asked.query == {"signed": ["1"], "digest": [wanted.digest]}
    )


@pytest.mark.parametrize(
    ("realm", "because"),
    [
        ("http://127.0.0.2:{port}/token", "from https to http"),
        ("http://169.254.169.254/token", "from https to http"),
        ("https://169.254.169.254/token", "only this machine's network"),
        ("https://[fd00:ec2::254]/token", "only this machine's network"),
        ("https://u:p@127.0.0.2/token", "a login in it"),
        ("/token", "not an http address"),
        ("token", "not an http address"),
        ("https://[/token", "not a URL"),
        ("gopher://127.0.0.2/", "not an http address"),
    ],
)
def test_r4_where_a_realm_must_not_be(realm: str, because: str, keys: Path, elsewhere: Server) -> None:
    with Server(tls=keys).running() as secure:
        secure.rule("manifests", bearer(realm.replace("{port}", elsewhere.host.rpartition(":")[2])))
        for named in ({}, {"username": ""}):
            with pytest.raises(Untrusted, match=because):
                opened(secure, **named).manifest()
    assert elsewhere.asked == []


def test_r4_a_realm_over_http_is_on_this_machine_or_the_registrys_own_host() -> None:
    from toolkit.image.registry.token import check_realm

    check_realm("http://127.0.0.1:5001/token", "http://localhost:5000", "x")
    check_realm("http://registry.example:5001/token", "http://registry.example:5000", "x")
    check_realm("https://auth.example/token", "http://registry.example", "x")
    for realm in ("http://auth.example/token", "http://example/token", "http://10.0.0.1/"):
        with pytest.raises(Untrusted, match="not https"):
            check_realm(realm, "http://registry.example", "x")


@pytest.mark.parametrize(
    ("host", "realm", "related"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("ghcr.io", "ghcr.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.gitlab.example.co.uk", "gitlab.example.co.uk", True),
        ("registry.digitalocean.com", "api.digitalocean.com", True),
        ("gitlab.com", "registry.gitlab.com", False),
        ("ghcr.io", "evil.io", False),
        ("ghcr.io", "io", False),
        ("a.co.uk", "b.co.uk", False),
        ("a.co.uk", "co.uk", False),
        ("a.com", "b.com", False),
        ("registry.example.com", "registry.example.com.evil.net", False),
        ("registry.example.com", "evilexample.com", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("1.0.0.1", "0.0.1", False),
        ("a.b.c.example.com", "x.example.com", False),
        ("localhost", "localhost", True),
    ],
)
def test_r4_whose_realm_may_have_the_login(host: str, realm: str, related: bool) -> None:
    assert origins.are_related(host, realm) == related


def test_r4_a_strange_realm_gets_no_login_unless_it_was_given_one(
    server: Server, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both are this machine in the tests; to the rule they are strangers here.
    monkeypatch.setattr("toolkit.image.registry.token.addresses.is_loopback", lambda host: host == "127.0.0.1")
    monkeypatch.setattr("toolkit.image.registry.token.check_realm", lambda realm, base, doing: None)
    server.rule("manifests", bearer(f"{elsewhere.url}/token"))
    with pytest.raises(Untrusted, match=r"wants the login of 'me' at 127\.0\.0\.2, which is not a host of") as caught:
        opened(server).manifest()
    assert "ctk login 127.0.0.2" in caught.value.hint and elsewhere.asked == []
    login.save("127.0.0.2", "other", "theirs")
    with pytest.raises(Unreachable, match="401"):
        opened(server).manifest()
    assert base64.b64decode(elsewhere.asked[0].authorization.removeprefix("Basic ")) == b"other:theirs"
    assert [one.authorization for one in server.asked][-1] == "Bearer elsewheres"


def test_r4_a_token_is_for_our_repository_whatever_the_registry_suggests(server: Server) -> None:
    server.rule("token", lambda handler: handler.reply(200, b'{"access_token": "t"}'))
    server.rule("manifests", bearer(f"{server.url}/token", scope="repository:others/secret:pull,push registry:x:*"))
    with pytest.raises(Unreachable, match="401"):
        opened(server).manifest()
    assert [one.query["scope"] for one in server.asked if "token" in one.line] == [["repository:one:pull"]] * 2
    assert all("secret" not in line for line in server.lines("/token"))


def test_r4_a_realm_does_not_redirect_the_login(server: Server, elsewhere: Server) -> None:
    server.rule("token", registry_faults.redirect(f"{elsewhere.url}/token"))
    server.rule("manifests", bearer(f"{server.url}/token"))
    with pytest.raises(Unreachable, match="307"):
        opened(server).manifest()
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"token": 1}',
        b'{"token": ""}',
        b'{"token": "a\\r\\nX: y"}',
        b'{"token": "a b"}',
        b'{"token": "\\u00e4"}',
        b'{"token": "' + b"x" * 70_000 + b'"}',
        b"[" * 100_000,
    ],
)
def test_r4_a_token_that_is_none(body: bytes, server: Server) -> None:
    server.rule("token", lambda handler: handler.reply(200, body))
    server.rule("manifests", bearer(f"{server.url}/token"))
    with pytest.raises(Unreachable, match="get a token for"):
        opened(server).manifest()
    assert len(server.lines("manifests")) == 1


def test_r4_a_token_of_nan_seconds_is_a_token_all_the_same(server: Server) -> None:
    server.rule("token", lambda handler: handler.reply(200, b'{"token": "t", "expires_in": NaN}'))
    server.rule("manifests", bearer(f"{server.url}/token"), times=1)
    server.rule("manifests", lambda handler: handler.reply(200, ONE.raw.data, {"Content-Type": ONE.raw.media_type}))
    assert opened(server).manifest().digest == ONE.raw.digest
    assert server.asked[-1].authorization == "Bearer t"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Negotiate",
        "Bearer",
        'Bearer realm=""',
        "Basic" * 9000,
        'Bearer realm="x',
        "\x01",
        'Bearer realm="a",realm="b"',
    ],
)
def test_r4_a_challenge_that_is_none(header: str, server: Server) -> None:
    server.rule("manifests", lambda handler: handler.reply(401, b"", {"WWW-Authenticate": header}))
    with pytest.raises(Unreachable, match="401"):
        opened(server).manifest()
    assert len(server.asked) == 1 and not server.asked[0].authorization


def test_r6_a_login_goes_to_its_own_registry_only(server: Server, home: Path) -> None:
    """CVE-2021-41092: a helper was missing, and the login for another registry was sent to the default one."""
    (home / ".docker").mkdir()
    auth = base64.b64encode(b"me:secret").decode()
    (home / ".docker/config.json").write_text(
        json.dumps(
            {
                "credHelpers": {server.host: "missing"},
                "auths": {"https://index.docker.io/v1/": {"auth": auth}, "registry.example": {"auth": auth}},
            }
        )
    )
    events: list[Event] = []
    server.rule("manifests", basic(lambda handler: handler.reply(200, ONE.raw.data)))
    with pytest.raises(Unreachable, match="we asked as anonymous"):
        opened(server, username="", emit=events.append).manifest()
    assert all(not one.authorization for one in server.asked)
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.warning and "docker-credential-missing" in note.text and server.host in note.text


@pytest.mark.parametrize("helper", ["../../bin/sh", "a/b", "", "x y", "-x", 1, ["a"]])
def test_r6_a_helper_is_a_name_and_no_path(helper: object, server: Server, home: Path) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"credHelpers": {server.host: helper}}))
    if helper == "":
        assert login.find(server.host, "one", lambda event: None) is None
        return
    with pytest.raises(CtkError, match="not the name of a credential helper"):
        opened(server, username="")


def test_cookies_are_not_kept(server: Server, elsewhere: Server) -> None:
    """A cookie would be sent to every port of its host, and so to another registry on it."""
    server.rule("manifests", lambda handler: handler.reply(200, ONE.raw.data, {"Set-Cookie": "a=b; Path=/"}))
    source = opened(server)
    source.manifest()
    source.manifest()
    assert all("Cookie" not in one.headers for one in server.asked)


def test_a_login_is_in_no_message(server: Server) -> None:
    server.rule("manifests", registry_faults.status(500, "boom"))
    with pytest.raises(CtkError) as caught:
        opened(server).manifest()
    assert "secret" not in f"{caught.value} {caught.value.hint} {opened(server)}"
