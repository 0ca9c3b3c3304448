"""Which servers hold a repository: the registry and the mirrors of registries.conf, and how to talk to each.

Source: containers-registries.conf(5), version 2. Its short-name rules and search lists are not followed: a name means
one image (toolkit/image/name.py). Places: $CONTAINERS_REGISTRIES_CONF, else ~/.config/containers/registries.conf, else
/etc/containers/registries.conf; and the files *.conf in the folders registries.conf.d beside the last two.
"""

import os
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from toolkit.errors import Invalid, Untrusted, Usage, reason
from toolkit.fetch import addresses
from toolkit.image.name import DEFAULT_REGISTRY, Reference
from toolkit.kernel import reading

API_HOSTS = {DEFAULT_REGISTRY: "registry-1.docker.io"}
"""Registries whose API is at another host than their name."""

_LIMIT_BYTES = 1 << 20
ALL, DIGESTS, TAGS = "all", "digest-only", "tag-only"
"""For which references a mirror is asked."""


class Place(NamedTuple):
    """A repository on a server. `host` is HOST[:PORT] as logins and messages name it.

    `plain`: http instead of https; False: never; None: where there is no TLS, on this machine or if it is `lenient`.
    `lenient`: any certificate will do. `serves` says for which references a mirror is asked.
    """

    host: str
    repository: str
    plain: bool | None = None
    lenient: bool = False
    serves: str = ALL

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"

    @property
    def server(self) -> str:
        """HOST[:PORT] of the API."""
        return API_HOSTS.get(self.host, self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine."""
        return addresses.is_loopback(urlsplit(f"//{self.server}").hostname or "")

    @property
    def bases(self) -> tuple[str, ...]:
        """The beginnings of its URLs, in the order in which they are tried."""
        if self.plain:
            return (f"http://{self.server}",)
        if self.plain is None and (self.lenient or self.is_loopback):
            return (f"https://{self.server}", f"http://{self.server}")
        return (f"https://{self.server}",)


class Places(NamedTuple):
    """Where a repository is: `mirrors` are asked first, and only to read."""

    primary: Place
    mirrors: tuple[Place, ...] = ()


def kind_of(wanted: str) -> str:
    """DIGESTS or TAGS."""
    return DIGESTS if ":" in wanted else TAGS


def find(reference: Reference, *, plain_http: bool | None = None) -> Places:
    """The places of the reference's repository. `plain_http` overrides what the files say about the registry itself.

    Raises Untrusted (the registry is blocked), Invalid, Usage.
    """
    entry = _entry(reference.name, _read_all())
    if entry is None:
        return Places(Place(reference.registry, reference.repository, plain=plain_http))
    text = entry.text("prefix") or entry.text("location")
    if entry.flag("blocked"):
        raise Untrusted(f"use {reference.name}", because=f"{entry.path!r} blocks {text!r}")
    primary = _place(entry, reference.name, text)
    if plain_http is not None:
        primary = primary._replace(plain=plain_http)
    digests_only = entry.flag("mirror-by-digest-only")
    mirrors = []
    for one in entry.tables("mirror"):
        serves = one.text("pull-from-mirror") or (DIGESTS if digests_only else ALL)
        if serves not in (ALL, DIGESTS, TAGS):
            raise one.invalid("pull-from-mirror", f"{serves!r} is none of {ALL}, {DIGESTS}, {TAGS}")
        mirrors.append(_place(one, reference.name, text)._replace(serves=serves))
    return Places(primary, tuple(mirrors))


class _Table:
    """A table of a file, whose values are checked to have the types of the manual page."""

    def __init__(self, value: object, path: str, where: str) -> None:
        self.path = path
        self.where = where
        if not isinstance(value, dict):
            raise Invalid(where, "must be a table", document=path)
        self._value: dict[str, Any] = value

    def invalid(self, name: str, because: str) -> Invalid:
        return Invalid(f"{self.where}.{name}", because, document=self.path)

    def text(self, name: str) -> str:
        found = self._value.get(name, "")
        if not isinstance(found, str):
            raise self.invalid(name, "must be a text")
        return found

    def flag(self, name: str) -> bool:
        found = self._value.get(name, False)
        if not isinstance(found, bool):
            raise self.invalid(name, "must be true or false")
        return found

    def tables(self, name: str) -> list["_Table"]:
        found = self._value.get(name, [])
        if not isinstance(found, list):
            raise self.invalid(name, "must be a list of tables")
        return [_Table(one, self.path, f"{self.where}.{name}[{at}]") for at, one in enumerate(found)]


def _place(entry: _Table, name: str, prefix: str) -> Place:
    """Where `name` is according to the entry: its prefix is replaced by its location."""
    location = entry.text("location")
    if not location:
        whole = name
    elif prefix.startswith("*."):
        # A wildcard matches the host only, and the whole host is replaced.
        whole = location.rstrip("/") + "/" + name.partition("/")[2]
    else:
        whole = location.rstrip("/") + name.removeprefix(prefix)
    host, slash, repository = whole.partition("/")
    if not slash or not repository or not host:
        raise entry.invalid("location", f"{location!r} is not HOST[:PORT][/PATH]")
    return Place(host, repository, lenient=entry.flag("insecure"))


def _entry(name: str, entries: list[_Table]) -> _Table | None:
    """The entry with the longest prefix that fits; of equal ones the last file's."""
    best: tuple[int, _Table] | None = None
    for one in entries:
        prefix = one.text("prefix") or one.text("location")
        if _fits(prefix, name) and (best is None or len(prefix) >= best[0]):
            best = len(prefix), one
    return None if best is None else best[1]


def _fits(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):
        return name.partition("/")[0].partition(":")[0].endswith(prefix[1:])
    return bool(prefix) and (name == prefix or name.startswith(prefix.rstrip("/") + "/"))


def _read_all() -> list[_Table]:
    found: list[_Table] = []
    for path in _files():
        found += _read(path)
    return found


def _files() -> list[str]:
    named = os.environ.get("CONTAINERS_REGISTRIES_CONF", "")
    if named:
        if not os.path.exists(named):
            raise Usage(f"read {named!r}, which CONTAINERS_REGISTRIES_CONF names", because="there is no such file")
        return [named]
    own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers")
    system = "/etc/containers"
    mains = [path for folder in (own, system) if os.path.isfile(path := f"{folder}/registries.conf")]
    more = []
    for folder in (f"{system}/registries.conf.d", f"{own}/registries.conf.d"):
        try:
            more += [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".conf")]
        except OSError:
            continue
    return [*mains[:1], *more]


def _read(path: str) -> list[_Table]:
    try:
        text = reading.text(path, limit_bytes=_LIMIT_BYTES)
    except OSError as error:
        raise Usage(f"read {path!r}", because=reason(error)) from None
    import tomllib  # many machines have no such file

    try:
        whole = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid("", f"not TOML: {error}", document=path) from None
    return _Table({"registry": whole.get("registry", [])}, path, "").tables("registry")
