"""`ctk doctor --for images`: registries that are named, or that there are logins for, are asked whether they answer."""

import base64
import json
from pathlib import Path

from tests.fixtures import registry
from tests.fixtures.command import Command
from tests.fixtures.registry import PASSWORD, USER


def told(ctk: Command, *words: str, rc: int = 0) -> list[tuple[str, str]]:
    """(state, what) of the findings about registries."""
    done = ctk("doctor", "--for", "images", "--json", *words)
    assert done.rc == rc and PASSWORD not in done.out + done.err
    return [(one["state"], one["what"]) for one in json.loads(done.out) if one["topic"] == "registry"]


def test_registries_are_asked_without_a_login(ctk: Command, tmp_path: Path) -> None:
    auth = tmp_path / "auth.json"
    ctk.environment["REGISTRY_AUTH_FILE"] = str(auth)
    secret = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    with registry.running(tmp_path / "open") as one, registry.running(tmp_path / "closed", logins=True) as two:
        auth.write_text(json.dumps({"auths": {f"{two.host}/team": secret, two.host: secret}}))
        assert told(ctk, one.host) == [("ok", f"{one.host} answers at http://{one.host}")]
        # Those that there are logins for, each once; the log of docker-registry has the name of who was let in.
        assert told(ctk) == [("ok", f"{two.host} answers at http://{two.host}, and wants a login")]
        assert told(ctk, "--offline", one.host) == []
        assert USER not in "".join(two.log)
        gone = one.host
    ((state, what),) = told(ctk, gone, rc=1)
    assert (state, what) == ("bad", f"{gone}: connection refused")
    wrong = ctk("doctor", "--for", "run", gone)
    assert wrong.rc != 0 and "ctk doctor --for images REGISTRY" in wrong.err
