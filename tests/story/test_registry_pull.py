"""Images out of Debian's registry: byte for byte what skopeo put in and reads, with and without logins and TLS."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import tool
from tests.fixtures.registry import PASSWORD, USER, DebianRegistry
from tests.fixtures.waiting import until
from toolkit.errors import NotFound, Unreachable, Untrusted, Usage
from toolkit.events import Event, Note
from toolkit.image import layout, name
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.registry import client, login

ONE = images.image(images.layer({"etc/": b"", "etc/one": b"1" * 200_000}))
TWO = images.image(images.layer({"two": b"2"}), images.layer({"three": b"3"}), author="somebody")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """Open to everybody, over http."""
    with registry.running(tmp_path_factory.mktemp("plain")) as running:
        put(running, ONE, "tests/one:1.0", tmp_path_factory.mktemp("one"))
        put(running, TWO, "two:latest", tmp_path_factory.mktemp("two"))
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    """With TLS, and for one user."""
    tls = registry.certificates(tmp_path_factory.mktemp("certificates") / "tls")
    with registry.running(tmp_path_factory.mktemp("guarded"), logins=True, tls=tls) as running:
        creds = f"--dest-creds={USER}:{PASSWORD}"
        put(running, ONE, "tests/one:1.0", tmp_path_factory.mktemp("one"), creds)
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without any settings."""
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


def put(where: DebianRegistry, one: images.Image, called: str, folder: Path, *more: str) -> None:
    destination = layout.open_destination(name.locate(f"oci:{folder}/layout:it"))
    images.put(destination, one, "it")
    destination.commit()
    destination.close()
    registry.skopeo(
        "copy", "--dest-tls-verify=false", *more, f"oci:{folder}/layout:it", f"docker://{where.host}/{called}"
    )


def opened(where: DebianRegistry, called: str, **named: Any) -> client.Registry:
    return registry.opened(where.host, called, **named)


def test_an_image_comes_as_skopeo_put_it_there(plain: DebianRegistry) -> None:
    source = opened(plain, "tests/one:1.0")
    assert images.equal(source, ONE) and images.equal(source, ONE, ONE.raw.digest)
    assert source.manifest().digest == ONE.raw.digest and source.manifest().media_type == ONE.raw.media_type
    shown = registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{plain.host}/tests/one:1.0")
    assert source.manifest().data == shown
    assert str(source) == f"docker://{plain.host}/tests/one:1.0"


def test_a_blob_from_an_offset(plain: DebianRegistry) -> None:
    source = opened(plain, "tests/one:1.0")
    (blob,) = ONE.layers
    whole = ONE.blobs[blob.digest]
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert images.fetch(source, blob, start) == whole[start:]


def test_what_a_tag_is_now_costs_one_request(plain: DebianRegistry) -> None:
    source = opened(plain, "tests/one:1.0", plain_http=True)
    before = len([line for line in plain.log if "http.request.method" in line])
    assert source.head() == Descriptor(ONE.raw.media_type, ONE.raw.digest, len(ONE.raw.data))
    # The registry writes its log when it has answered.
    asked = until(lambda: [line for line in plain.log if "http.request.method" in line][before:], "the request's line")
    assert len(asked) == 1 and "http.request.method=HEAD" in asked[0]
    assert source.head("nothing") is None


def test_what_is_not_there_is_told_so(plain: DebianRegistry) -> None:
    source = opened(plain, "tests/one:2.0")
    with pytest.raises(NotFound, match=r"says 404 Not Found \(MANIFEST_UNKNOWN: manifest unknown\)") as caught:
        source.manifest()
    assert f"pull {plain.host}/tests/one:2.0" in str(caught.value)
    assert caught.value.hint == "the tags there are: 1.0"
    with pytest.raises(NotFound, match="MANIFEST_UNKNOWN") as unknown:
        opened(plain, "tests/none:1").manifest()
    assert f"a private repository needs `ctk login {plain.host}`" in unknown.value.hint
    with pytest.raises(NotFound, match="BLOB_UNKNOWN"):
        images.fetch(source, Descriptor("x", TWO.layers[0].digest, 10))


@pytest.mark.parametrize("wanted", ["../../x", "a/b", "sha256:123", "a?b", "-x", "a b", "x" * 129])
def test_nothing_but_a_tag_or_a_digest_becomes_part_of_a_url(wanted: str, plain: DebianRegistry) -> None:
    source = opened(plain, "tests/one:1.0")
    with pytest.raises(Usage, match="neither a tag nor a digest"):
        source.manifest(wanted)
    with pytest.raises(Usage, match="not a digest"):
        images.fetch(source, Descriptor("x", wanted, 1))


def test_tls_needs_the_authority_and_the_login(guarded: DebianRegistry, home: Path) -> None:
    with pytest.raises(Untrusted, match="certificate verify failed") as distrusted:
        opened(guarded, "tests/one:1.0").manifest()
    assert f"/etc/containers/certs.d/{guarded.host}/ca.crt" in distrusted.value.hint
    registry.trust(guarded, home)
    with pytest.raises(Unreachable, match=r"401 Unauthorized .*; we asked as anonymous") as anonymous:
        opened(guarded, "tests/one:1.0").manifest()
    assert f"`ctk login {guarded.host}`" in anonymous.value.hint
    with pytest.raises(Unreachable, match="we asked as 'somebody'") as wrong:
        opened(guarded, "tests/one:1.0", username=USER, password="wrong").manifest()
    assert "replaces the login" in wrong.value.hint
    assert images.equal(opened(guarded, "tests/one:1.0", username=USER, password=PASSWORD), ONE)
    login.save(guarded.host, USER, PASSWORD)
    assert images.equal(opened(guarded, "tests/one:1.0"), ONE)


def test_any_certificate_will_do_for_who_says_so(guarded: DebianRegistry, home: Path) -> None:
    (home / "registries.conf").write_text(f'[[registry]]\nlocation = "{guarded.host}"\ninsecure = true\n')
    assert images.equal(opened(guarded, "tests/one:1.0", username=USER, password=PASSWORD), ONE)
    assert any("http.response.status=200" in line for line in guarded.log)


def test_a_certificate_of_ours_that_cannot_be_used_is_named(guarded: DebianRegistry, home: Path) -> None:
    registry.trust(guarded, home)
    folder = home / ".config/containers/certs.d" / guarded.host
    (folder / "client.cert").write_text("nothing")
    with pytest.raises(Usage, match=r"client\.cert"):
        opened(guarded, "tests/one:1.0").manifest()
    (folder / "client.cert").unlink()
    (folder / "ca.crt").write_text("nothing")
    with pytest.raises(Usage, match=r"certificate authority .*ca\.crt"):
        opened(guarded, "tests/one:1.0").manifest()


def test_podman_and_skopeo_read_the_login_that_we_save(guarded: DebianRegistry, home: Path) -> None:
    registry.trust(guarded, home)
    path = login.save(guarded.host, USER, PASSWORD)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    shown = registry.skopeo("inspect", "--raw", f"docker://{guarded.host}/tests/one:1.0")
    assert shown == ONE.raw.data
    assert login.forget(guarded.host) and not login.forget(guarded.host)
    done = subprocess.run(
        [tool("skopeo"), "inspect", "--raw", f"docker://{guarded.host}/tests/one:1.0"], capture_output=True
    )
    assert done.returncode != 0 and b"authentication required" in done.stderr


def test_we_read_the_login_that_skopeo_saves(guarded: DebianRegistry, home: Path) -> None:
    registry.trust(guarded, home)
    (home / "run").mkdir()
    registry.skopeo("login", "-u", USER, "-p", PASSWORD, guarded.host)
    assert images.equal(opened(guarded, "tests/one:1.0"), ONE)
    registry.skopeo("logout", guarded.host)
    with pytest.raises(Unreachable, match="anonymous"):
        opened(guarded, "tests/one:1.0").manifest()


def test_a_login_is_checked(guarded: DebianRegistry, home: Path) -> None:
    registry.trust(guarded, home)
    assert opened(guarded, "any", username=USER, password=PASSWORD).check_login()
    with pytest.raises(Unreachable, match=r"log in to .* 401 .*'somebody'"):
        opened(guarded, "any", username=USER, password="wrong").check_login()
    with pytest.raises(Unreachable) as caught:
        opened(guarded, "any", username="nobody", password="wrong").check_login()
    assert "check the name and the password" in caught.value.hint


def test_a_server_without_tls_is_told_and_asked_only_if_it_may(
    plain: DebianRegistry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that means this machine is not known to be this machine.
    monkeypatch.setattr(client.hosts.addresses, "is_loopback", lambda host: False)
    with pytest.raises(Unreachable, match="does not speak https there") as caught:
        opened(plain, "tests/one:1.0").manifest()
    assert "--plain-http" in caught.value.hint and "registries.conf" in caught.value.hint
    assert images.equal(opened(plain, "tests/one:1.0", plain_http=True), ONE)
    settings = home / "registries.conf"
    settings.write_text(f'[[registry]]\nlocation = "{plain.host}"\ninsecure = true\n')
    assert images.equal(opened(plain, "tests/one:1.0"), ONE)


def test_http_where_https_is_spoken(guarded: DebianRegistry) -> None:
    with pytest.raises(Usage, match="speaks https") as caught:
        opened(guarded, "tests/one:1.0", plain_http=True).manifest()
    assert "--plain-http" in caught.value.hint


def test_a_mirror_is_read_first_and_the_registry_has_the_rest(plain: DebianRegistry, home: Path) -> None:
    settings = home / "registries.conf"
    settings.write_text(
        f'[[registry]]\nprefix = "registry.example/team"\nlocation = "{plain.host}/nowhere"\n'
        f'[[registry.mirror]]\nlocation = "{plain.host}/tests"\n'
        '[[registry]]\nprefix = "blocked.example"\nblocked = true\n'
    )
    source = client.open(name.parse("registry.example/team/one:1.0"))
    assert images.equal(source, ONE)
    with pytest.raises(NotFound, match="404"):
        source.manifest("2.0")
    with pytest.raises(Untrusted, match=r"registries\.conf' blocks 'blocked\.example'"):
        client.open(name.parse("blocked.example/x"))


def test_a_missing_helper_means_no_login_and_is_told(plain: DebianRegistry, home: Path) -> None:
    """CVE-2021-41092: the login went to the default registry instead."""
    folder = home / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text('{"credsStore": "desktop", "auths": {"https://index.docker.io/v1/": {}}}')
    events: list[Event] = []
    assert images.equal(opened(plain, "tests/one:1.0", emit=events.append), ONE)
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.warning and "docker-credential-desktop" in note.text and "config.json" in note.text
