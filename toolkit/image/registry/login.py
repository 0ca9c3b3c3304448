"""Logins for registries: the files and helper programs in which docker and podman keep them.

Source: containers-auth.json(5); docker's config.json (`auths`, `credsStore`, `credHelpers`) and the protocol of
docker-credential-helpers: a program docker-credential-NAME reads a server from stdin and writes JSON. Places, in
order: $REGISTRY_AUTH_FILE alone if it is set; else podman's auth.json (in $XDG_RUNTIME_DIR, then in ~/.config) and
docker's config.json ($DOCKER_CONFIG, or ~/.docker).

A helper that is missing or fails gives no login (CVE-2021-41092); this is a warning, and public images still work.
"""

import base64
import binascii
import fcntl
import json
import os
import re
import shutil
import subprocess
from typing import Any, NamedTuple

from toolkit.errors import Invalid, Usage, reason
from toolkit.events import Emit, Note
from toolkit.image.name import DEFAULT_REGISTRY
from toolkit.kernel import atomic, reading
from toolkit.text import one_line

_LIMIT_BYTES = 1 << 20
_HELPER_S = 60.0  # a helper may ask the user to unlock a key ring
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"  # docker: the secret is an identity token, not a password
_NOT_FOUND = "credentials not found"
_DOCKER_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_SERVER = "https://index.docker.io/v1/"  # what docker calls its registry in its own files


class Login(NamedTuple):
    """A name and a password, or an identity token that token servers exchange.

    `where` is the file or helper, and `entry` what it has it under.
    """

    name: str
    password: str
    identity_token: str = ""
    where: str = ""
    entry: str = ""


class Kept(NamedTuple):
    """That there may be a login, not what it is: for a registry or a path in it, in a file, or with a helper.

    `registry` is "" for a helper that is asked for all. `helper` is its program, "" if the file itself has the login.
    """

    registry: str
    path: str
    helper: str = ""


def kept() -> list[Kept]:
    """The logins in all the files, in the order in which they are read. No helper is asked. Raises Invalid, Usage."""
    found = []
    for path in files():
        whole = _read(path) or {}
        helpers = [(_key(key), name) for key, name in whole.get("credHelpers", {}).items()]
        if whole.get("credsStore"):
            helpers.append(("", whole["credsStore"]))
        found += [
            Kept(registry, path, f"docker-credential-{_helper(name, path)}") for registry, name in helpers if name
        ]
        for key, entry in whole.get("auths", {}).items():
            if _decode(entry, key, path) is not None:
                found.append(Kept(_key(key), path))
    return found


def find(host: str, repository: str, emit: Emit) -> Login | None:
    """The login for the repository: that of the longest path in the first file that has one. Raises Invalid, Usage."""
    for path in files():
        whole = _read(path)
        if whole is None:
            continue
        found = _from_helpers(whole, host, path, emit) or _from_auths(whole, host, repository, path)
        if found is not None:
            return found
    return None


def files() -> list[str]:
    """The files that may hold logins, in the order in which they are read."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [named]
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    docker = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return [own_file(), f"{config}/containers/auth.json", f"{docker}/config.json"]


def own_file() -> str:
    """The file that `save` writes: podman's."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json"


def save(host: str, name: str, password: str) -> str:
    """Keep a login for a registry, or for a path in it (HOST/PATH). Returns the file's name.

    The file is readable by its owner only, and everything else in it is kept. Raises Invalid (not such a file; it is
    left unchanged), Usage, OSError.
    """
    if not name or ":" in name:
        raise Usage(f"log in to {host}", because="a name must not be empty or contain a colon")
    auth = base64.b64encode(f"{name}:{password}".encode()).decode()

    def change(whole: dict[str, Any]) -> bool:
        auths = whole.setdefault("auths", {})
        for key in [one for one in auths if _key(one) == _key(host)]:
            del auths[key]
        auths[_key(host)] = {"auth": auth}
        return True

    path = own_file()
    _rewrite(path, change)
    return path


def forget(host: str) -> bool:
    """Remove a login that `save` or podman wrote. Returns whether there was one. Raises Invalid, OSError."""

    def change(whole: dict[str, Any]) -> bool:
        auths = whole.get("auths", {})
        keys = [one for one in auths if _key(one) == _key(host)]
        for key in keys:
            del auths[key]
        return bool(keys)

    return os.path.exists(own_file()) and _rewrite(own_file(), change)


def _rewrite(path: str, change: Any) -> bool:
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # two logins at the same time
        whole = _read(path) or {}
        changed: bool = change(whole)
        if changed:
            # A link (to a file in a home that is kept under version control) stays one.
            atomic.replace(os.path.realpath(path), json.dumps(whole, indent="\t").encode() + b"\n", mode=0o600)
        return changed
    finally:
        os.close(fd)


def _read(path: str) -> dict[str, Any] | None:
    """The file's object, whose `auths` and `credHelpers` are objects; None if there is no file."""
    try:
        text = reading.text(path, limit_bytes=_LIMIT_BYTES)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        raise Usage(f"read the logins in {path!r}", because=reason(error)) from None
    if not text.strip():
        return {}  # podman takes an empty file for one without logins
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("", f"not JSON: {error}", document=path) from None
    if not isinstance(whole, dict):
        raise Invalid("", "must be an object", document=path)
    for name in ("auths", "credHelpers"):
        if whole.get(name, ()) is None:
            del whole[name]  # as Go reads it: not there
        if not isinstance(whole.get(name, {}), dict):
            raise Invalid(name, "must be an object", document=path)
    return whole


def _key(text: str) -> str:
    """The HOST[:PORT][/PATH] that a key of `auths` means; docker writes some as URLs, with a path of its own."""
    bare = re.sub(r"^https?://", "", text)
    if bare != text:
        bare = bare.partition("/")[0]
    host, slash, path = bare.rstrip("/").partition("/")
    return (DEFAULT_REGISTRY if host in _DOCKER_NAMES else host) + slash + path


def _from_auths(whole: dict[str, Any], host: str, repository: str, path: str) -> Login | None:
    auths = {_key(key): (key, value) for key, value in whole.get("auths", {}).items()}
    name = f"{host}/{repository}" if repository else host
    while True:
        if name in auths and (found := _decode(auths[name][1], name, path)) is not None:
            return found._replace(entry=auths[name][0])
        shorter, slash, _ = name.rpartition("/")
        if not slash:
            return None
        name = shorter


def _decode(entry: object, name: str, path: str) -> Login | None:
    if not isinstance(entry, dict):
        raise Invalid(f"auths[{name!r}]", "must be an object", document=path)
    auth, identity = entry.get("auth", ""), entry.get("identitytoken", "")
    if not isinstance(auth, str) or not isinstance(identity, str):
        raise Invalid(f"auths[{name!r}]", "its auth and identitytoken must be texts", document=path)
    if not auth and not identity:
        return None  # docker notes there that a helper has it
    try:
        user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Invalid(f"auths[{name!r}].auth", "must be NAME:PASSWORD in base64", document=path) from None
    return Login(user, password.rstrip("\0"), identity, path)


def _from_helpers(whole: dict[str, Any], host: str, path: str, emit: Emit) -> Login | None:
    names = [value for key, value in whole.get("credHelpers", {}).items() if _key(key) == _key(host)]
    for name in [*names[:1], whole.get("credsStore")]:
        if not name:
            continue
        program = f"docker-credential-{_helper(name, path)}"
        servers = (_DOCKER_SERVER, host) if host == DEFAULT_REGISTRY else (host, f"https://{host}")
        for server in servers:
            found, goes_on = _ask(program, server, path, emit)
            if found is not None:
                return found
            if not goes_on:
                break
    return None


def _helper(name: object, path: str) -> str:
    if not isinstance(name, str) or _HELPER.fullmatch(name) is None:
        raise Invalid("credsStore", f"{name!r} is not the name of a credential helper", document=path)
    return name


def _ask(program: str, server: str, path: str, emit: Emit) -> tuple[Login | None, bool]:
    """What a helper knows about a server, and whether it is worth asking about another one."""

    def warn(because: str) -> tuple[None, bool]:
        emit(Note(f"no login for {server} from {program}, which {path} names: {one_line(because)[:300]}", warning=True))
        return None, False

    found = shutil.which(program)
    if found is None:
        return warn("there is no such program; install it, or remove its line from the file")
    try:
        done = subprocess.run([found, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_S)
    except subprocess.TimeoutExpired:
        return warn(f"it did not answer within {_HELPER_S:.0f} s")
    except OSError as error:
        return warn(reason(error))
    out = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        if out.startswith(_NOT_FOUND):
            return None, True
        return warn(out or done.stderr.decode(errors="replace").strip() or f"exit {done.returncode}")
    try:
        answer = json.loads(out)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return warn("its answer is not a JSON object with Username and Secret")
    if not isinstance(user, str) or not isinstance(secret, str):
        return warn("its Username and Secret must be texts")
    if user == _TOKEN_USER:
        return Login("", "", secret, program, server), False
    return (Login(user, secret, "", program, server) if user else None), True
