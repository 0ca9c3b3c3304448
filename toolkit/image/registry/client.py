"""A repository of a registry as a source and a destination of images (distribution-spec 1.1).

Manifests are limited in size and hashed here; the header Docker-Content-Digest is not believed. Blobs are limited in
size here and hashed by the caller. A descriptor's `urls` are never fetched (CVE-2020-15157). Reads try the mirrors of
registries.conf first; writes go to the registry itself.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from toolkit.errors import CtkError, NotFound, Unreachable, Untrusted, Usage
from toolkit.events import Emit, Note, Traced, silent
from toolkit.fetch.response import discard
from toolkit.fetch.session import Bounds, Sessions
from toolkit.fetch.tls import Tls
from toolkit.fetch.transfer import Broken, Mirrors, Transfer
from toolkit.image import digest as digests
from toolkit.image import name as names
from toolkit.image.document import fields, manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw
from toolkit.image.name import Reference
from toolkit.image.registry import certificates, hosts, origins, referrers, tags
from toolkit.image.registry import login as logins
from toolkit.image.registry import trace as traces
from toolkit.image.registry.connection import Connection, Limits
from toolkit.image.registry.hosts import Place
from toolkit.image.registry.login import Login
from toolkit.image.registry.token import DELETE, PUSH, Authority
from toolkit.image.registry.upload import Upload, mount
from toolkit.text import number

T = TypeVar("T")

ACCEPT = ", ".join((*media_types.INDEXES, *media_types.MANIFESTS))
_STATED_BY = "its descriptor"


class Greeting(NamedTuple):
    """How a registry answers: scheme and host, and whether it lets in who has no login, or the one that we have."""

    base: str
    open: bool


class Registry:
    """One repository, opened by `open`. Usable from any thread."""

    def __init__(
        self,
        reference: Reference,
        primary: Connection,
        mirrors: list[Connection],
        sessions: list[Sessions],
        limits: Limits,
        emit: Emit = silent,
        trace: Emit = silent,
    ) -> None:
        self.reference = reference
        self._primary = primary
        self._mirrors = mirrors
        self._sessions = sessions
        self._limits = limits
        self._emit = emit
        self._trace = trace
        self._cancelled = sessions[0].cancelled

    def __str__(self) -> str:
        return f"docker://{self.reference.familiar}"

    def manifest(self, wanted: str = "") -> Raw:
        """The manifest or index of a tag or digest; "" for what the reference names.

        We compute its digest ourselves. Raises NotFound, Unreachable, Untrusted (wrong digest, too long), Interrupted.
        """
        wanted = self._wanted(wanted)
        doing = f"pull {self._named(wanted)}"

        def get(connection: Connection) -> Raw:
            path = connection.path(f"manifests/{wanted}")
            data, media_type = self._whole(connection, path, doing, {"Accept": ACCEPT})
            found = digests.of(data)
            if digests.is_digest(wanted):
                digests.verify(data, wanted, doing)
                found = wanted
            facts = {"wanted": wanted, "digest": found, "mediaType": media_type, "size": len(data)}
            self._trace(Traced("document", facts))
            return Raw(data, media_type, found)

        try:
            return self._from_first(wanted, get)
        except NotFound as error:
            if not digests.is_digest(wanted):
                error.hint = tags.near(self._primary, wanted, self._listing) or error.hint
            raise

    def head(self, wanted: str = "") -> Descriptor | None:
        """The registry's own description of a tag or digest; None if it does not exist. It costs one HEAD request.

        This is unverified: use it only to decide that nothing has to be fetched. Raises what `manifest` raises.
        """
        wanted = self._wanted(wanted)
        doing = f"look up {self._named(wanted)}"

        def ask(connection: Connection) -> Descriptor | None:
            response = connection.request(
                "HEAD", connection.path(f"manifests/{wanted}"), doing, headers={"Accept": ACCEPT}
            )
            if response.status_code != 200:
                raise connection.failure(response, doing)
            discard(response)
            claimed = response.headers.get("Docker-Content-Digest", "")
            size = number(response.headers.get("Content-Length", ""))
            media_type = media_types.bare(response.headers.get("Content-Type", ""))
            digest = wanted if digests.is_digest(wanted) else claimed
            if size < 0 or not digests.is_digest(digest):
                return None  # an old registry: the document itself has to be read
            return Descriptor(media_type, digest, size)

        try:
            found = self._from_first(wanted, ask)
            if found is None:
                raw = self.manifest(wanted)
                found = Descriptor(media_types.bare(raw.media_type), raw.digest, len(raw.data))
        except NotFound:
            return None
        return found

    def blob(self, descriptor: Descriptor, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a blob from `start` on, as they arrive; an aborted transfer is resumed.

        They are not verified, but never more than `descriptor.size_bytes`. The iterator raises NotFound, Unreachable,
        Untrusted, Interrupted.
        """
        return contextlib.closing(self._blob(descriptor, start))

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is in the repository. Raises CtkError."""
        doing = f"look for {descriptor.digest} in {self._primary.place}"
        path = self._primary.path(f"blobs/{_digest(descriptor)}")
        response = self._primary.request("HEAD", path, doing, actions=PUSH)
        if response.status_code == 200:
            discard(response)
            return number(response.headers.get("Content-Length", "")) in (-1, descriptor.size_bytes)
        failure = self._primary.failure(response, doing)
        # A storage server that we are redirected to may refuse HEAD: then the blob is pushed again.
        if response.status_code == 404 or not origins.same(response.url, self._primary.base):
            return False
        raise failure

    def put_blob(self, descriptor: Descriptor, pieces: Iterator[bytes]) -> None:
        """As endpoint.Destination. An aborted transfer is resumed where that is possible."""
        _digest(descriptor)
        Upload(self._primary, descriptor, self._limits, self._cancelled).put(pieces)

    def mount(self, descriptor: Descriptor, from_repository: str) -> bool:
        """Take a blob from another repository of the same registry; False if the registry does not. Raises CtkError."""
        _digest(descriptor)
        return mount(self._primary, descriptor, from_repository)

    def put_manifest(self, raw: Raw, name: str = "") -> None:
        """As endpoint.Destination; `name` is a tag, a digest or a reference to this repository, "" for no tag.

        A manifest with a `subject` is added to the list of its referrers, if the registry does not do that itself.
        Raises CtkError.
        """
        digests.verify(raw.data, raw.digest, f"push {raw.digest}")
        document = manifest.read(raw.data, raw.media_type, raw.digest)
        wanted = self._tag(name) or raw.digest
        doing = f"push {self._named(wanted)}"
        response = self._primary.request(
            "PUT",
            self._primary.path(f"manifests/{wanted}"),
            doing,
            actions=PUSH,
            headers={"Content-Type": document.media_type},
            body=raw.data,
        )
        if response.status_code not in (200, 201, 202):
            raise self._primary.failure(response, doing)
        discard(response)
        listed = bool(response.headers.get("OCI-Subject"))
        if document.subject is not None and not listed:
            referrers.add(self._primary, raw.data, raw.media_type, raw.digest)

    def commit(self) -> None:
        """As endpoint.Destination. It does nothing: each manifest was stored when it was sent."""

    def tags(self) -> list[str]:
        """The tags of the repository, in the registry's order. Raises NotFound, CtkError."""
        return tags.find(self._primary, self._listing)

    def delete(self, wanted: str) -> None:
        """Delete a manifest by its digest, with all its tags; or one tag. Raises NotFound, CtkError."""
        wanted = self._wanted(wanted)
        doing = f"delete {self._named(wanted)}"
        subject = self._subject(wanted) if digests.is_digest(wanted) else ""
        response = self._primary.request("DELETE", self._primary.path(f"manifests/{wanted}"), doing, actions=DELETE)
        status = response.status_code
        if status not in (200, 202, 204):
            failure = self._primary.failure(response, doing)
            if status in (400, 405) and not digests.is_digest(wanted):
                found = self.head(wanted)
                digest = found.digest if found else "sha256:…"
                failure.hint = (
                    f"this registry deletes manifests only, with all their tags: {self.reference.name}@{digest}"
                )
            elif status in (400, 405):
                failure.hint = "the registry does not allow it; its administrator can (docker-registry: storage.delete)"
            raise failure
        discard(response)
        if subject:
            referrers.remove(self._primary, subject, wanted)

    def referrers(self, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """The manifests whose `subject` has that digest, of one type or of all. Raises CtkError."""
        digests.check(digest, self.reference.name)
        return referrers.find(self._primary, digest, artifact_type)

    def check_login(self) -> bool:
        """Whether the registry takes the login (distribution-spec 1.1, end-1); False if it asks for none at all.

        Raises Unreachable if it refuses.
        """
        doing = f"log in to {self.reference.registry}"
        response = self._primary.request("GET", "/v2/", doing)
        if response.status_code != 200:
            failure = self._primary.failure(response, doing)
            if response.status_code == 401:
                failure.hint = "check the name and the password; some registries want a token instead of the password"
            raise failure
        discard(response)
        return self._primary.challenged

    def greeting(self) -> Greeting:
        """Ask whether there is a registry (distribution-spec 1.1, end-1). Raises CtkError if there is none."""
        doing = f"ask {self.reference.registry}"
        response = self._primary.request("GET", "/v2/", doing)
        if response.status_code not in (200, 401):
            raise self._primary.failure(response, doing)
        discard(response)
        return Greeting(self._primary.base, response.status_code == 200)

    def close(self) -> None:
        """Close all connections."""
        for sessions in self._sessions:
            sessions.close()

    def _subject(self, digest: str) -> str:
        """The digest of a manifest's subject; "" if it has none, or is not to be read."""
        try:
            raw = self.manifest(digest)
            document = manifest.read(raw.data, raw.media_type, digest)
        except CtkError:
            return ""
        return "" if document.subject is None else document.subject.digest

    def _tag(self, name: str) -> str:
        """The tag or digest in what a caller calls an image. Raises Usage."""
        name = name.removeprefix("@")
        if not name or digests.is_digest(name) or names.is_tag(name):
            return name
        reference = names.parse(name)
        if (reference.registry, reference.repository) != (self.reference.registry, self.reference.repository):
            raise Usage(f"push {name!r}", because=f"the repository that is open is {self.reference.name}")
        return reference.wanted

    def _blob(self, descriptor: Descriptor, start: int) -> Generator[bytes, None, None]:
        places = self._places(_digest(descriptor))
        first: CtkError | None = None
        done = start
        for connection in places:
            try:
                for piece in self._transfer(connection, descriptor, done):
                    done += len(piece)
                    yield piece
                return
            except (NotFound, Unreachable, Untrusted) as error:
                first = first or error
        assert first is not None
        raise first

    def _transfer(self, connection: Connection, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        if start >= descriptor.size_bytes > 0:
            return
        doing = f"pull {descriptor.digest} of {connection.place}"

        def read(_: str, done: int, __: int) -> Iterator[bytes]:
            return self._read_blob(connection, descriptor, doing, start + done)

        cancelled, limits = self._cancelled, self._limits
        hint = "check the network; the same command resumes where this one stopped"
        yield from Transfer(
            [str(connection.place)],
            read,
            Mirrors(),
            cancelled,
            limits.retries,
            limits.back_off_s,
            doing=doing,
            hint=hint,
        )

    def _read_blob(self, connection: Connection, descriptor: Descriptor, doing: str, start: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        path = connection.path(f"blobs/{descriptor.digest}")
        with connection.request("GET", path, doing, headers=headers) as response:
            status = response.status_code
            if status not in (200, 206) or (status == 206 and not start):
                raise connection.failure(response, doing)
            connection.check_encoding(response, doing)
            resumed = status == 206
            if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise Broken("the registry sent a different part of the blob than was asked for")
            bounds = Bounds(descriptor.size_bytes, descriptor.size_bytes, start, resumed, _STATED_BY)
            yield from self._sessions[0].stream(response, doing, bounds)

    def _whole(
        self, connection: Connection, path: str, doing: str, headers: dict[str, str], limit: int = fields.LIMIT_BYTES
    ) -> tuple[bytes, str]:
        """A document and its Content-Type; an aborted body is requested again."""
        for attempt in range(self._limits.retries + 1):
            response = connection.request("GET", path, doing, headers=headers)
            if response.status_code != 200:
                raise connection.failure(response, doing)
            try:
                return connection.read(response, doing, limit), response.headers.get("Content-Type", "")
            except Broken as error:
                because = str(error)
            if self._cancelled.wait(self._limits.back_off_s * 2**attempt):
                break
        raise Unreachable(doing, because=f"{connection.place.host}: {because}")

    def _from_first(self, wanted: str, get: Callable[[Connection], T]) -> T:
        """The result of the first place that has it; if none has, the registry's own error."""
        *mirrors, primary = self._places(wanted)
        for connection in mirrors:
            try:
                return get(connection)
            except (NotFound, Unreachable, Untrusted) as error:
                # A mirror need not have everything, but the user should know that it fails.
                if not isinstance(error, NotFound):
                    self._emit(Note(f"the mirror {connection.place}: {error.because}; {primary.place} is asked"))
        return get(primary)

    def _places(self, wanted: str) -> list[Connection]:
        kind = hosts.kind_of(wanted)
        return [*(one for one in self._mirrors if one.place.serves in (hosts.ALL, kind)), self._primary]

    @property
    def _listing(self) -> str:
        return f"list the tags of {self.reference.name}"

    def _wanted(self, wanted: str) -> str:
        """The tag or digest that an endpoint is asked for; nothing else becomes part of a URL."""
        wanted = wanted.removeprefix("@") or self.reference.wanted
        if not digests.is_digest(wanted) and not names.is_tag(wanted):
            raise Usage(f"use {wanted!r} of {self.reference.name}", because="it is neither a tag nor a digest")
        return wanted

    def _named(self, wanted: str) -> str:
        tag, digest = ("", wanted) if ":" in wanted else (wanted, "")
        return self.reference._replace(tag=tag, digest=digest).familiar


def _digest(descriptor: Descriptor) -> str:
    """The digest, which may become part of a URL. Raises Usage."""
    if not digests.is_digest(descriptor.digest):
        raise Usage(f"use the blob {descriptor.digest!r}", because="it is not a digest")
    return descriptor.digest


def open(
    reference: Reference,
    *,
    plain_http: bool | None = None,
    username: str = "",
    password: str = "",
    anonymous: bool = False,
    cancelled: threading.Event | None = None,
    emit: Emit = silent,
    limits: Limits | None = None,
    trace: Emit | None = None,
) -> Registry:
    """Open the repository of a reference. No request is sent yet.

    `plain_http`: True uses http, False https only; None follows registries.conf, and tries both on loopback. Without
    a `username` the login is looked up, unless we are to stay `anonymous`. `trace` gets each request, and each document
    that was verified (Traced). Raises Usage, Invalid (a settings file), Untrusted (the registry is blocked).
    """
    places = hosts.find(reference, plain_http=plain_http)
    limits = limits or Limits()
    cancelled = threading.Event() if cancelled is None else cancelled
    login = Login(username, password) if username else None
    sessions: list[Sessions] = []

    def new(tls: Callable[[str], Tls | None], *, guarded: bool) -> Sessions:
        made = Sessions(
            connect_s=limits.connect_s,
            stall_s=limits.stall_s,
            tls=tls,
            guarded=guarded,
            cookies=False,
            direct=True,
            cancelled=cancelled,
            trace=None if trace is None else traces.of_requests(trace),
        )
        sessions.append(made)
        return made

    strangers = new(certificates.of, guarded=True)

    def connect(place: Place, login: Login | None) -> Connection:
        def tls(server: str) -> Tls | None:
            """A registry's authority counts for all ports of its host, because its token server may be there."""
            mine = certificates.of(place.server, verify=not place.lenient)
            return certificates.of(server, verify=not place.lenient) or mine

        own = new(tls, guarded=False)

        def find(host: str, repository: str = "") -> Login | None:
            found = None if anonymous else logins.find(host, repository, emit)
            if found is not None and trace is not None:
                traces.login(trace, found, host)
            return found

        login = login or find(place.host, place.repository)

        authority = Authority(lambda: connection.base, place.repository, login, own, strangers, find)
        connection = Connection(place, authority, own, strangers, limits, emit)
        return connection

    primary = connect(places.primary, login)
    return Registry(
        reference, primary, [connect(one, None) for one in places.mirrors], sessions, limits, emit, trace or silent
    )
