"""Tokens: Debian's registry checks those that our token server signs, and skopeo gets in by the same door."""

import base64
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import images, registry, registry_faults
from tests.fixtures.command import tool
from tests.fixtures.registry import DebianRegistry
from tests.fixtures.registry_faults import Server, Tokens
from toolkit.errors import NotFound, Unreachable
from toolkit.image.registry import client, login, token
from toolkit.image.registry.connection import Limits

ONE = images.image(images.layer({"etc/": b"", "etc/one": b"1" * 5000}))
QUICK = Limits(connect_s=2.0, stall_s=5.0, retries=1, back_off_s=0.01)


class Town:
    """A registry with a token server beside it."""

    def __init__(self, running: DebianRegistry, tokens: Tokens, server: Server) -> None:
        self.host = running.host
        self.registry = running
        self.tokens = tokens
        self.server = server

    def open(self, called: str, **named: Any) -> client.Registry:
        return registry.opened(self.host, called, limits=QUICK, **named)

    def scopes(self) -> list[str]:
        """What was asked for, in order."""
        return [" ".join(one.query.get("scope", [])) for one in self.server.asked]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    keys = registry.certificates(tmp_path_factory.mktemp("keys") / "keys")
    tokens = Tokens(keys, users={"somebody": "pass:w@rd"}, identity={"identity": "somebody"})
    with Server().running() as server:
        server.rule("(GET|POST) /token", tokens.answer)
        where = (f"{server.url}/token", keys / "authority.pem")
        with registry.running(tmp_path_factory.mktemp("registry"), token=where) as running:
            yield Town(running, tokens, server)


@pytest.fixture(autouse=True)
def fresh(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    town.server.asked.clear()
    town.tokens.access = lambda who, repository, actions: actions if who else [one for one in actions if one == "pull"]
    town.tokens.lasts_s = 300
    town.tokens.anonymous = True
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


def test_a_push_and_a_pull_with_one_token_each(town: Town) -> None:
    there = town.open("team/one:1", username="somebody", password="pass:w@rd")
    images.put(there, ONE, "1")
    assert town.scopes() == ["repository:team/one:pull,push"]
    (asked,) = town.server.asked
    assert asked.query["service"] == ["tests"] and asked.query["account"] == ["somebody"]
    assert base64.b64decode(asked.authorization.removeprefix("Basic ")) == b"somebody:pass:w@rd"
    there = town.open("team/one:1")
    assert images.equal(there, ONE)
    assert town.scopes()[1:] == ["repository:team/one:pull"] and not town.server.asked[1].authorization
    registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{town.host}/team/one:1")
    assert town.scopes()[2:] == ["repository:team/one:pull"]


def test_a_token_server_with_tls_at_another_port(tmp_path: Path, fresh: Path) -> None:
    """The registry's own authority signs for it, too, and is known for the registry only."""
    keys = registry.certificates(tmp_path / "keys")
    tokens = Tokens(keys, users={"somebody": "pass:w@rd"})
    with Server(tls=keys).running() as server:
        server.rule("GET /token", tokens.answer)
        where = (f"{server.url}/token", keys / "authority.pem")
        with registry.running(tmp_path / "registry", tls=keys, token=where) as running:
            registry.trust(running, fresh)
            there = registry.opened(running.host, "one:1", limits=QUICK, username="somebody", password="pass:w@rd")
            images.put(there, ONE, "1")
            assert images.equal(there, ONE) and server.lines("GET /token")
            login.save(running.host, "somebody", "pass:w@rd")
            shown = registry.skopeo("inspect", "--raw", f"docker://{running.host}/one:1")
            assert shown == ONE.raw.data


def test_what_we_may_not_do_is_told_apart_from_what_is_not_there(town: Town) -> None:
    there = town.open("team/two:1")
    with pytest.raises(Unreachable, match=r"401 Unauthorized .*UNAUTHORIZED.* we asked as anonymous") as anonymous:
        images.put(there, ONE, "1")
    assert f"ctk login {town.host}" in anonymous.value.hint
    town.tokens.access = lambda who, repository, actions: ["pull"]
    there = town.open("team/two:1", username="somebody", password="pass:w@rd")
    with pytest.raises(Unreachable, match="we asked as 'somebody'"):
        images.put(there, ONE, "1")
    there = town.open("team/two:1", username="somebody", password="wrong")
    with pytest.raises(Unreachable, match=r"the login of 'somebody' was refused: 127.0.0.1 says 401") as wrong:
        there.manifest()
    assert "replaces the login" in wrong.value.hint
    town.tokens.anonymous = False
    with pytest.raises(Unreachable, match=r"get a token for .* 401 .* we asked as anonymous"):
        town.open("team/two:1").manifest()


def test_a_token_that_ends_is_renewed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    there = town.open("team/three:1", username="somebody", password="pass:w@rd")
    images.put(there, ONE, "1")
    for _ in range(2):
        assert images.equal(there, ONE)
    assert town.scopes() == ["repository:team/three:pull,push", "repository:team/three:pull"]
    # By the clock, before it is refused.
    monkeypatch.setattr(token.time, "monotonic", lambda: 10.0**9)
    assert images.equal(there, ONE)
    assert town.scopes()[2:] == ["repository:team/three:pull"]
    monkeypatch.undo()
    # And when it is refused before that.
    town.tokens.lasts_s = -100  # docker-registry allows for clocks that differ by a minute
    again = town.open("team/three:1", username="somebody", password="pass:w@rd")
    with pytest.raises(Unreachable, match="401"):
        again.manifest()
    town.tokens.lasts_s = 300
    assert images.equal(again, ONE)


def test_a_token_server_that_fails_is_asked_again(town: Town) -> None:
    town.server.rules.insert(0, registry_faults.Rule("/token", registry_faults.status(503), 1))
    with pytest.raises(NotFound, match="404"):
        town.open("team/none:1").manifest()
    assert len(town.server.asked) == 2
    town.server.rules.insert(0, registry_faults.Rule("/token", registry_faults.status(503), 2))
    with pytest.raises(Unreachable, match=r"the token server 127\.0\.0\.1 says 503 .*tried 2 times"):
        town.open("team/none:1").manifest()


def test_an_identity_token_is_exchanged(town: Town, fresh: Path) -> None:
    """What docker keeps for those who log in by a browser, or whose helper says <token>."""
    folder = fresh / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"auths": {{"{town.host}": {{"auth": "", "identitytoken": "identity"}}}}}}')
    there = town.open("team/four:1")
    images.put(there, ONE, "1")
    (asked,) = town.server.asked
    assert asked.line == "POST /token" and b"refresh_token=identity" in asked.body
    assert b"scope=repository%3Ateam%2Ffour%3Apull%2Cpush" in asked.body and b"grant_type=refresh_token" in asked.body


def test_a_blob_is_mounted_with_leave_to_read_the_other_repository(town: Town) -> None:
    first = town.open("team/five:1", username="somebody", password="pass:w@rd")
    images.put(first, ONE, "1")
    town.server.asked.clear()
    second = town.open("other/six:1", username="somebody", password="pass:w@rd")
    assert second.mount(ONE.layers[0], "team/five") and second.has(ONE.layers[0])
    assert town.scopes()[0] == "repository:other/six:pull,push repository:team/five:pull"
    town.tokens.access = lambda who, repository, actions: actions if repository.startswith("third") else []
    third = town.open("third/seven:1", username="somebody", password="pass:w@rd")
    assert not third.mount(ONE.layers[0], "team/five") and not third.has(ONE.layers[0])


def test_deleting_asks_for_leave_to_delete(town: Town) -> None:
    there = town.open("team/eight:1", username="somebody", password="pass:w@rd")
    images.put(there, ONE, "1")
    there.delete(ONE.raw.digest)
    assert "repository:team/eight:delete" in town.scopes()


def test_the_login_of_the_longest_path_is_taken(town: Town, fresh: Path) -> None:
    town.tokens.users |= {"team": "t", "all": "a"}
    login.save(town.host, "all", "a")
    login.save(f"{town.host}/team/nine", "team", "t")
    for called, who in (("team/nine/x:1", "team"), ("team/nine:1", "team"), ("team/nineteen:1", "all")):
        town.server.asked.clear()
        there = town.open(called)
        images.put(there, ONE, "1")
        assert town.server.asked[0].query["account"] == [who]
        there.close()


def test_a_helper_program_is_asked_for_the_login(town: Town, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = fresh / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-tests"
    helper.write_text(
        "#!/bin/sh\n"
        f'server=$(cat); echo "$1 $server" >>{fresh}/asked\n'
        f"[ \"$server\" = {town.host} ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\n"
        'echo "{\\"ServerURL\\": \\"$server\\", \\"Username\\": \\"somebody\\", \\"Secret\\": \\"pass:w@rd\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    folder = fresh / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"credHelpers": {{"{town.host}": "tests"}}}}')
    there = town.open("team/ten:1")
    images.put(there, ONE, "1")
    assert (fresh / "asked").read_text().startswith(f"get {town.host}\n")
    (folder / "config.json").write_text('{"credsStore": "tests"}')
    assert login.find(town.host, "x", lambda event: None) == login.Login(
        "somebody", "pass:w@rd", "", "docker-credential-tests", town.host
    )
    assert login.find("elsewhere.example", "x", lambda event: None) is None
    shown = subprocess.run(
        [tool("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{town.host}/team/ten:1"],
        capture_output=True,
    )
    assert shown.stdout == ONE.raw.data


def test_threads_share_a_token_and_a_registry(town: Town) -> None:
    """Blobs are pulled side by side: each thread has connections of its own, and none a login of its own."""
    many = images.image(*(images.layer({f"file{number}": os.urandom(200_000)}) for number in range(12)))
    images.put(town.open("team/many:1", username="somebody", password="pass:w@rd"), many, "1")
    town.server.asked.clear()
    there = town.open("team/many:1")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda layer: images.fetch(there, layer), many.layers))
    assert found == [many.blobs[layer.digest] for layer in many.layers]
    # Those that were refused while the first token was on its way may ask once more, and no more than that.
    assert 1 <= len(town.server.asked) <= 8
    town.server.asked.clear()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda layer: images.fetch(there, layer), many.layers))
    assert town.server.asked == []
