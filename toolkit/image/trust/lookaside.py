"""Where signatures are kept: beside the registry, on a web server or in a folder (containers-registries.d(5)).

The signature N of an image is BASE/REPOSITORY@ALGORITHM=HEX/signature-N, and the first N that is missing ends the list.
Which BASE belongs to a repository is said by the files in ~/.config/containers/registries.d if there is such a folder,
else by those in /etc/containers/registries.d; without an entry it is a folder of this user.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote as percent
from urllib.parse import unquote, urlsplit

from toolkit.errors import CtkError, HostLacks, Invalid, NotFound, Unreachable, Usage, reason
from toolkit.fetch.http import Client
from toolkit.fetch.signed_message import LIMIT_BYTES
from toolkit.image import digest as digests
from toolkit.image.name import Reference
from toolkit.kernel import atomic, reading

_MOST = 128  # signatures of an image
_LIMIT_BYTES = 1 << 20  # of a settings file
_READ, _WRITE = ("lookaside", "sigstore"), ("lookaside-staging", "sigstore-staging")  # today's name, and the old one


class Bases(NamedTuple):
    """URLs of the folders (http, https or file): where signatures are read, and written; "" for nowhere."""

    read: str = ""
    write: str = ""


class Found(NamedTuple):
    """A signature as it came, and where from. Nothing of it is verified."""

    place: str
    data: bytes


def bases(reference: Reference) -> Bases:
    """Where the signatures of this repository are. Raises Invalid, HostLacks (PyYAML is missing), CtkError."""
    sections, default = _settings()
    parts = reference.name.split("/")
    names = [str(reference), *("/".join(parts[:count]) for count in range(len(parts), 0, -1))]
    section = next((sections[name] for name in names if name in sections), default)
    if section is None:
        folder = "/var/lib/containers/sigstore"
        if os.geteuid() != 0:
            folder = os.path.expanduser("~/.local/share/containers/sigstore")
        return Bases(f"file://{percent(folder)}", f"file://{percent(folder)}")
    read = next((section[key] for key in _READ if key in section), "")
    return Bases(read, next((section[key] for key in _WRITE if key in section), read))


def read(reference: Reference, digest: str) -> Iterator[Found]:
    """The signatures of an image. Raises what `bases` raises, Unreachable, Untrusted (longer than signatures are)."""
    base = bases(reference).read
    if not base:
        return
    client = Client(retries=1)
    try:
        for number in range(1, _MOST + 1):
            place = f"{base.rstrip('/')}/{_path(reference, digest)}/signature-{number}"
            try:
                data = client.read(place, limit=LIMIT_BYTES, fresh=True)
            except NotFound:
                return
            except Unreachable as error:
                hint = "check the network, and the lookaside of registries.d; without its signatures it is not taken"
                raise Unreachable(f"read the signature {place}", because=error.because, hint=hint) from None
            yield Found(place, data)
    finally:
        client.close()


def check_writable(reference: Reference) -> None:
    """Raise Usage if there is no folder that signatures of this repository can be written to."""
    _folder(reference)


def write(reference: Reference, digest: str, signature: bytes) -> str:
    """Add a signature to those of an image; its path. Raises Usage, CtkError."""
    folder = os.path.join(_folder(reference), _path(reference, digest))
    try:
        os.makedirs(folder, exist_ok=True)
        for number in range(1, _MOST + 1):
            path = f"{folder}/signature-{number}"
            if os.path.exists(path):
                continue
            try:
                atomic.create(path, signature, mode=0o644)
            except FileExistsError:
                continue  # another signer was faster
            return path
    except OSError as error:
        raise CtkError(f"write a signature to {folder!r}", because=reason(error)) from None
    raise CtkError(f"write a signature to {folder!r}", because=f"it has {_MOST} already")


def _folder(reference: Reference) -> str:
    base = bases(reference).write
    parts = urlsplit(base)
    if parts.scheme != "file" or not parts.path.startswith("/"):
        because = f"registries.d has {base!r} for it, and only file:///… can be written to"
        hint = "lookaside-staging names a folder, whose content you publish"
        raise Usage(f"sign {reference.familiar}", because=because, hint=hint)
    return unquote(parts.path)


def _path(reference: Reference, digest: str) -> str:
    """The registry's host is not in it, so one lookaside for two registries has them mixed, as with skopeo."""
    algorithm, encoded = digests.split(digest)
    return f"{reference.repository}@{algorithm}={encoded}"


def _settings() -> tuple[dict[str, dict[str, str]], dict[str, str] | None]:
    """The sections of all files by scope, and the one for all else. Raises Invalid, HostLacks, CtkError."""
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    folder = next(
        (one for one in (f"{own}/containers/registries.d", "/etc/containers/registries.d") if os.path.isdir(one)), ""
    )
    try:
        paths = [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".yaml")] if folder else []
    except OSError as error:
        raise CtkError(f"read {folder!r}", because=reason(error)) from None
    sections: dict[str, dict[str, str]] = {}
    default: dict[str, str] | None = None
    for path in paths:
        whole = _mapping(_yaml(path), path, "")
        if "default-docker" in whole:
            if default is not None:
                raise Invalid("default-docker", "another file has it, too", document=path)
            default = _section(whole["default-docker"], path, "default-docker")
        for scope, section in _mapping(whole.get("docker"), path, "docker").items():
            if scope in sections:
                raise Invalid(f"docker.{scope}", "another file has it, too", document=path)
            sections[scope] = _section(section, path, f"docker.{scope}")
    return sections, default


def _yaml(path: str) -> Any:
    try:
        text = reading.text(path, limit_bytes=_LIMIT_BYTES)
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        return None
    try:
        import yaml
    except ImportError:
        hint = "install ctk with the extra `trust` (PyYAML)"
        raise HostLacks(
            f"read {path!r}, which says where signatures are", because="no YAML reader", hint=hint
        ) from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Invalid("", f"it is not YAML: {str(error).splitlines()[0]}", document=path) from None


def _mapping(value: Any, path: str, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Invalid(where, "must be a mapping", document=path)
    return value


def _section(value: Any, path: str, where: str) -> dict[str, str]:
    found = {}
    for key, url in _mapping(value, path, where).items():
        if key not in (*_READ, *_WRITE):
            continue  # use-sigstore-attachments
        if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https", "file"):
            raise Invalid(f"{where}.{key}", "must be a URL with http, https or file", document=path)
        found[key] = url
    return found
