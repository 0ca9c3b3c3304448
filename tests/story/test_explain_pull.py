"""`ctk pull --explain` is a script: sh runs it against the same registry, and gets the same bytes and trees."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry
from tests.fixtures.command import Command, tool
from tests.fixtures.registry import PASSWORD, USER, DebianRegistry
from tests.fixtures.registry_faults import Server, Tokens
from toolkit.image import digest as digests
from toolkit.image.document import media_types
from toolkit.image.registry import login

pytestmark = pytest.mark.root

ONE = images.image(
    images.layer({"etc/": b"", "etc/one": os.urandom(300_000), "etc/gone": b"1", "var/": b"", "var/old": b"1"}),
    images.layer({"etc/": b"", "etc/.wh.gone": b"", "etc/two": b"2", "var/": b"", "var/.wh..wh..opq": b""}),
)
PLAIN = images.image(images.layer({"plain": b"p" * 2000}), codec=media_types.PLAIN)
SECRETS = (PASSWORD, "Bearer ey", "Basic c29t")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield registry.own_home(tmp_path, monkeypatch)
    registry.close_all()


@pytest.fixture
def explain(ctk: Command, home: Path) -> Callable[..., str]:
    """Pull with --explain; what it wrote to standard output."""
    env = {key: os.environ[key] for key in ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")}
    env["CTK_IMAGES"] = str(home.parent / "images")
    return lambda *words, rc=0: told.out if (told := ctk("pull", "--explain", *words, env=env)).rc == rc else told.ok()


@pytest.fixture(params=["open", "basic", "tls and basic", "token", "token and login"])
def place(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[DebianRegistry]:
    """Registries of each kind, with ONE as one:1."""
    if request.param.startswith("token"):
        keys = registry.certificates(tmp_path / "keys")
        tokens = Tokens(keys, users={USER: PASSWORD})
        tokens.anonymous = request.param == "token"
        with Server().running() as server:
            server.rule("(GET|POST) /token", tokens.answer)
            token = (f"{server.url}/token", keys / "authority.pem")
            with registry.running(tmp_path / "registry", token=token) as running:
                filled(running)
                if not tokens.anonymous:
                    login.save(running.host, USER, PASSWORD)
                yield running
        return
    tls = registry.certificates(tmp_path / "keys") if "tls" in request.param else None
    with registry.running(tmp_path / "registry", logins="basic" in request.param, tls=tls) as running:
        if tls:
            registry.trust(running, home)
        filled(running)
        if "basic" in request.param:
            login.save(running.host, USER, PASSWORD)
        yield running


def filled(running: DebianRegistry) -> None:
    images.put(registry.opened(running.host, "one", username=USER, password=PASSWORD), ONE, "1")
    registry.close_all()


def run(script: str, folder: Path) -> Path:
    """Run it with sh, which ends at the first failure; the folder that it worked in."""
    work = folder / "work"
    work.mkdir()
    first, *rest = (line for line in script.splitlines() if line and not line.startswith("#"))
    assert first == 'cd "$(mktemp -d)"'
    environment = {**os.environ, "TMPDIR": str(work), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    words = ["sh", "-euc", "\n".join([first, *rest])]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, script + done.stdout + done.stderr
    (found,) = work.iterdir()
    return found


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything in a folder: mode, owner, device, time, content, and overlayfs's mark."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = os.lstat(path)
        content = path.read_bytes() if path.is_file() else b""
        opaque = [name for name in os.listxattr(path) if name.endswith("opaque")] if path.is_dir() else []
        found[str(path.relative_to(folder))] = (oct(about.st_mode & 0o170000), about.st_rdev, content, opaque)
    return found


def test_sh_gets_the_same_bytes_and_trees(explain: Callable[..., str], place: DebianRegistry, tmp_path: Path) -> None:
    for program in ("curl", "jq"):
        tool(program)
    if shutil.which("setfattr") is None:  # of the package attr, which nothing else here needs
        (tmp_path / "bin").mkdir()
        text = "import os, sys; os.setxattr(sys.argv[5], sys.argv[2], sys.argv[4].encode())"
        (tmp_path / "bin/setfattr").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{text}' \"$@\"\n")
        (tmp_path / "bin/setfattr").chmod(0o755)
    script = explain(f"{place.host}/one:1")
    assert not any(secret in script for secret in SECRETS), script
    work = run(script, tmp_path)
    got = {digests.of(path.read_bytes()) for path in work.iterdir() if path.is_file()}
    assert got >= {ONE.digest, *ONE.blobs, *ONE.diff_ids}
    kept = tmp_path / "images/layers"
    for number, diff_id in enumerate(ONE.diff_ids, 1):
        (ours,) = kept.glob(f"{diff_id.partition(':')[2]}.*")
        assert tree(work / f"layers/{number}") == tree(ours / "tree")
    # Now it is there: one request, and the same digest.
    again = explain(f"{place.host}/one:1")
    assert again.count("#    > HEAD ") >= 1 and "#    > GET /v2/one/blobs/" not in again
    assert f"has {ONE.digest} whole" in again


def test_the_steps_are_the_requests(explain: Callable[..., str], tmp_path: Path) -> None:
    """What the registry has logged is what is shown, in JSON, too; and a plain layer and a redirect are told."""
    with registry.running(tmp_path / "registry") as running, Server(running.host).running() as proxy:
        images.put(registry.opened(running.host, "plain"), PLAIN, "1")
        with Server(address="127.0.0.2").running() as storage:
            (layer,) = PLAIN.layers
            storage.rule("/signed", lambda handler: handler.reply(200, PLAIN.blobs[layer.digest]))
            there = f"{storage.url}/signed?secret=x"
            proxy.rule(f"GET .*/blobs/{layer.digest}", lambda handler: handler.reply(307, b"", {"Location": there}))
            told = json.loads(explain("--json", f"{proxy.host}/plain:1"))
            sent = [line[2:].rpartition(" ")[0] for step in told["steps"] for line in step["http"][:1]]
            asked = [one.line for one in (*proxy.asked, *storage.asked)]
            assert {line.partition("?")[0] for line in sent} == {line.partition("?")[0] for line in asked}
            text = json.dumps(told)
            assert "secret=x" not in text and "curl -fsSL" in text and "The login stays behind" in text
            script = "\n".join(line for step in told["steps"] for line in step["shell"])
            work = run(script, tmp_path)
    assert digests.of((work / f"{layer.digest[7:19]}.tar").read_bytes()) == layer.digest
    assert (work / "layers/1/plain").read_bytes() == b"p" * 2000


def test_what_was_asked_is_shown_when_it_fails(explain: Callable[..., str], tmp_path: Path) -> None:
    with registry.running(tmp_path / "registry", logins=True) as running:
        script = explain(f"{running.host}/one:1", rc=1)
    assert "it wants a login" in script and "< HTTP/1.1 401 Unauthorized" in script
    assert "curl -sS -o /dev/null -D - " in script


def test_r8_what_a_registry_says_becomes_no_command(explain: Callable[..., str], tmp_path: Path) -> None:
    """A realm, a place and a media type are the registry's words."""
    with Server().running() as server:
        evil = f"$(touch {tmp_path}/evil)';touch {tmp_path}/evil;'`touch {tmp_path}/evil`"
        realm = f'Bearer realm="{server.url}/token?{evil}",service="{evil}"'
        server.rule("/token", lambda handler: handler.reply(200, b'{"token": "t"}'))
        server.rule("/v2/", lambda handler: handler.reply(401, b"", {"WWW-Authenticate": realm}))
        script = explain(f"{server.host}/one:1", rc=1)
        assert "touch" in script
        subprocess.run(
            ["sh", "-c", script], capture_output=True, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        assert len(server.lines("/token")) >= 2  # the lines were run
    assert not (tmp_path / "evil").exists()
