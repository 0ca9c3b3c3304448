"""`ctk pull --explain`: what a pull has done, step by step, each with the shell lines that do the same.

It is told by the pull itself (events.Traced: toolkit/image/registry/trace.py and image/transfer/lay_out.py), so that
nothing is shown that was not done. The lines, one after the other, are a script for sh with curl, jq, tar and
coreutils. A secret is in none of them: a line shows where it comes from.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from toolkit.explain.pull import curl
from toolkit.image.document import media_types
from toolkit.image.registry.trace import TOKEN
from toolkit.text import quote

_SUMS = {"sha256": "sha256sum", "sha512": "sha512sum"}
PACKED = {
    media_types.GZIP: (".tar.gz", "gzip"),
    media_types.ZSTD: (".tar.zst", "zstd"),
    media_types.PLAIN: (".tar", ""),
}
_BLOB = re.compile(r"/blobs/([a-z0-9]+:[0-9a-f]+)$")
_OPAQUE_XATTR = {"overlay": "trusted.overlay.opaque", "userxattr": "user.overlay.opaque"}
_REDIRECTS = (301, 302, 303, 307, 308)

Fact = tuple[str, dict[str, Any]]
"""The kind and the facts of a Traced."""


class Step(NamedTuple):
    """What was done, in a sentence; the HTTP of it (`>` sent, `<` came); shell lines that do the same."""

    sentence: str
    http: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()

    @property
    def comments(self) -> tuple[str, ...]:
        """What is shown below the sentence."""
        return self.http

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {"what": self.sentence, "http": list(self.http), "shell": list(self.shell)}


def steps(told: Iterable[Fact]) -> list[Step]:
    """The steps of a pull. Blobs come side by side; here, what concerns one stands together. Pure."""
    return list(_Story(_together(list(told))).steps())


def _together(told: list[Fact]) -> list[Fact]:
    """The same, with everything about a blob behind the first thing about it."""
    order: dict[str, list[Fact]] = {}
    for at, (kind, facts) in enumerate(told):
        order.setdefault(_about(kind, facts) or str(at), []).append((kind, facts))
    return [fact for facts in order.values() for fact in facts]


def _about(kind: str, facts: dict[str, Any]) -> str:
    if kind in ("blob", "layer"):
        return str(facts["digest"])
    found = re.search(r"^pull ([a-z0-9]+:[0-9a-f]+) of ", facts.get("doing", "")) if kind == "request" else None
    return found[1] if found else ""


class _Story:
    def __init__(self, told: list[Fact]) -> None:
        self._told = told
        self._logins: list[dict[str, Any]] = []
        self._login_now: dict[str, Any] | None = None
        self._shown: set[str] = set()  # URLs whose lines were written
        self._redirected = False
        self._documents = {facts["wanted"]: facts["digest"] for kind, facts in told if kind == "document"}
        self._files = {facts["digest"]: _file(kind, facts) for kind, facts in told if kind in ("blob", "layer")}

    def steps(self) -> Iterator[Step]:
        yield Step("Work in a new folder.", shell=('cd "$(mktemp -d)"',))
        for kind, facts in self._told:
            if kind == "login":
                self._logins.append(facts)
            elif kind == "request":
                yield from self._login(facts)
                yield self._request(facts)
            elif kind == "document":
                yield _document(facts)
            elif kind in ("blob", "layer"):
                if not any(url.endswith(f"/blobs/{facts['digest']}") for url in self._shown):
                    yield Step(f"The store has {facts['digest']} already: it is only laid out.")
                    continue
                yield from _blob(kind, facts, self._files[facts["digest"]])
            elif kind == "kept":
                yield Step(f"The store has {facts['digest']} already, so it is not asked for.")
            elif kind == "there":
                yield Step(f"The store has {facts['digest']} whole, so nothing is downloaded.")

    def _login(self, facts: dict[str, Any]) -> Iterator[Step]:
        login = self._used(facts)
        if login is not None and login != self._login_now:
            self._login_now = login
            who = repr(login["name"]) if login["name"] else "an identity token"
            yield Step(f"The login of {who} is in {login['where']}.", shell=(_login_line(login),))

    def _used(self, facts: dict[str, Any]) -> dict[str, Any] | None:
        """The login that a request was sent with: that of its host, else the registry's, which was found first."""
        if facts["authorization"] != "Basic" and not facts["fields"]:
            return None
        fitting = [one for one in self._logins if one["identity"] == bool(facts["fields"])]
        host = urlsplit(facts["url"]).netloc
        return next((one for one in fitting if one["host"] == host), fitting[0] if fitting else None)

    def _request(self, facts: dict[str, Any]) -> Step:
        http = _http(facts)
        doing = facts["doing"][:1].upper() + facts["doing"][1:]
        if facts["error"]:
            scheme = urlsplit(facts["url"]).scheme
            return Step(f"{doing} by {scheme}: {facts['error']}. Another way is tried, if there is one.", http)
        if facts["purpose"] == TOKEN:
            return Step(f"{doing}: {_outcome(facts)}", http, (curl.token(facts),))
        if self._redirected and not urlsplit(facts["url"]).path.startswith("/v2/"):
            self._redirected = facts["status"] in _REDIRECTS
            where = urlsplit(facts["url"]).netloc
            return Step(f"Follow the redirect to {where}. The login stays behind; curl -L does the same.", http)
        self._redirected = facts["status"] in _REDIRECTS
        return Step(f"{doing}: {_outcome(facts)}", http, self._line(facts))

    def _line(self, facts: dict[str, Any]) -> tuple[str, ...]:
        if facts["status"] >= 400 or facts["method"] == "HEAD":
            return (curl.head(facts),)
        if facts["url"] in self._shown:
            return ()  # it went on behind what had come before it broke off
        self._shown.add(facts["url"])
        blob = _BLOB.search(urlsplit(facts["url"]).path)
        wanted = facts["url"].rpartition("/")[2]
        file = self._files.get(blob[1], "") if blob else _json_file(self._documents.get(wanted, ""))
        return (curl.get(facts, file or "answer"),)


def _outcome(facts: dict[str, Any]) -> str:
    status, asked = facts["status"], _header(facts, "www-authenticate").partition(" ")[0].lower()
    if status == 401 and asked == "bearer":
        return "it wants a token, and says where there is one."
    if status == 401 and asked == "basic":
        return "it wants a login."
    if status in _REDIRECTS:
        return f"it is at {_header(facts, 'location')}."
    return f"{status} {facts['reason']}."


def _header(facts: dict[str, Any], wanted: str) -> str:
    return next((value for name, value in facts["answer"].items() if name.lower() == wanted), "")


def _http(facts: dict[str, Any]) -> tuple[str, ...]:
    parts = urlsplit(facts["url"])
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"> {facts['method']} {target} HTTP/1.1", f"> Host: {parts.netloc}"]
    lines += [f"> {name}: {value}" for name, value in facts["headers"].items()]
    if facts["authorization"]:
        lines.append(f"> Authorization: {facts['authorization']} …")
    if facts["status"]:
        lines.append(f"< HTTP/1.1 {facts['status']} {facts['reason']}".rstrip())
        lines += [f"< {name}: {value}" for name, value in facts["answer"].items()]
    return tuple(lines)


def _document(facts: dict[str, Any]) -> Step:
    digest, wanted = facts["digest"], facts["wanted"]
    kind = (
        "an index, which has a manifest for each platform"
        if media_types.bare(facts["mediaType"]) in media_types.INDEXES
        else "a manifest"
    )
    hashed = f"Hash what came: it is {kind}, {digest}"
    sentence = hashed + (
        ", as was asked for." if wanted == digest else ". From here on every byte is held to a digest."
    )
    return Step(sentence, shell=(check(digest, _json_file(digest)),))


def _blob(kind: str, facts: dict[str, Any], file: str) -> Iterator[Step]:
    digest = facts["digest"]
    yield Step(f"Hash its {facts['size']} bytes: {digest}, as the manifest says.", shell=(check(digest, file),))
    if kind == "layer":
        yield from _layer(facts, file)


def _layer(facts: dict[str, Any], file: str) -> Iterator[Step]:
    program = PACKED[media_types.CODECS[facts["mediaType"]]][1]
    tar = file.partition(".")[0] + ".tar"
    unpack = [f"{program} -dc {quote(file)} >{quote(tar)}"] if program else []
    what = "Decompress it and hash the tar" if program else "The tar is not compressed: hash it again"
    told = f"{what}: {facts['diffId']}, which the configuration calls the diff id."
    yield Step(told, shell=(*unpack, check(facts["diffId"], tar)))
    folder = f"layers/{facts['number']}"
    lines = [f"mkdir -p {folder}", f"tar -xpf {quote(tar)} -C {folder} --numeric-owner --xattrs --xattrs-include='*'"]
    yield Step(
        f"Lay out layer {facts['number']}, {facts['members']} members, in a folder of its own.", shell=tuple(lines)
    )
    if facts["whiteouts"]:
        yield _whiteouts(facts, folder)


def _whiteouts(facts: dict[str, Any], folder: str) -> Step:
    """Opaque marks first: they begin with .wh. as well."""
    opaque = f'rm "$f"; setfattr -n {_OPAQUE_XATTR[facts["form"]]} -v y "$(dirname "$f")"'
    white = 'rm "$f"; n=$(basename "$f"); mknod "$(dirname "$f")/${n#.wh.}" c 0 0'
    lines = (
        f"find {folder} -name .wh..wh..opq | while read -r f; do {opaque}; done",
        f"find {folder} -name '.wh.*' | while read -r f; do {white}; done",
    )
    count = facts["whiteouts"]
    told = (
        f"{count} of them {'is a whiteout' if count == 1 else 'are whiteouts'}, which hide what is in the layers below;"
    )
    return Step(f"{told} overlayfs has them as devices 0:0 and as an attribute of folders.", shell=lines)


def check(digest: str, file: str) -> str:
    """The line that looks whether a file has this digest."""
    algorithm, _, encoded = digest.partition(":")
    return f"echo {quote(f'{encoded}  {file}')} | {_SUMS[algorithm]} -c"


def _json_file(digest: str) -> str:
    return f"{_short(digest)}.json" if digest else ""


def _file(kind: str, facts: dict[str, Any]) -> str:
    if kind == "layer":
        return _short(facts["digest"]) + PACKED[media_types.CODECS[facts["mediaType"]]][0]
    codec = media_types.CODECS.get(facts["mediaType"])
    end = "" if codec is None else PACKED[codec][0]
    return _short(facts["digest"]) + (".json" if facts["mediaType"].endswith("+json") else end)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _login_line(login: dict[str, Any]) -> str:
    """A line that sets $login to NAME:PASSWORD, or $identity to an identity token."""
    what = ".identitytoken" if login["identity"] else ".auth"
    if login["where"].startswith("docker-credential-"):
        read = f"printf %s {quote(login['entry'])} | {quote(login['where'])} get"
        query = ".Secret" if login["identity"] else '.Username + ":" + .Secret'
        return f"{'identity' if login['identity'] else 'login'}=$({read} | jq -r {quote(query)})"
    query = f".auths[{json.dumps(login['entry'])}]{what}"
    read = f"jq -r {quote(query)} {quote(login['where'])}"
    return f"identity=$({read})" if login["identity"] else f"login=$({read} | base64 -d)"
