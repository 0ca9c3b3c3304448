"""Names of images: a reference (REGISTRY/REPOSITORY:TAG@DIGEST), and a place in one of the transports.

One rule, and no list of registries to be searched: the first word of a reference is a registry if it has a dot or a
colon in it or is `localhost`, else the registry is docker.io; and there `debian` is library/debian. It is docker's own
(the distribution project's reference/normalize.go), and skopeo's for docker://.

Source: distribution-spec 1.1, "Pulling manifests" (repository names and tags); containers-transports(5).
"""

import re
from typing import NamedTuple

from toolkit.errors import Usage
from toolkit.image import digest as digests
from toolkit.text import quote

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_HUB = ("index.docker.io", "registry-1.docker.io")
DOCKER, OCI, OCI_ARCHIVE, DOCKER_ARCHIVE, STORE = "docker", "oci", "oci-archive", "docker-archive", "store"
_IN_FILES = (OCI, OCI_ARCHIVE, DOCKER_ARCHIVE)
TRANSPORTS = (DOCKER, OCI, OCI_ARCHIVE, DOCKER_ARCHIVE, STORE)
# Those of skopeo that are not ours, and what is in their place.
_FOREIGN = {
    "containers-storage": "`podman save --format oci-archive` writes what oci-archive: reads",
    "docker-daemon": "`docker save` writes what docker-archive: reads",
    "dir": "skopeo's dir: has no standard; oci: holds the same",
    "ostree": "ostree is not supported",
    "sif": "sif is not supported",
    "tarball": "`ctk pack DIR IMAGE` makes an image of a tree",
    "docker-tar": "it is called docker-archive: here",
}

_FILES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_LONGEST = 255
_ID = re.compile(r"[0-9a-f]{64}")


class Reference(NamedTuple):
    """An image of a registry. `tag` and `digest` may both be given: then the digest decides."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """The whole name, as logs and stores have it."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The shortest name that `parse` reads as this one: `debian:bookworm`."""
        text = str(self).removeprefix(f"{DEFAULT_REGISTRY}/")
        short = text.removeprefix("library/")
        return short if self.registry == DEFAULT_REGISTRY and "/" not in short.partition("@")[0] else text

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or DEFAULT_TAG

    def tagged(self) -> "Reference":
        """The same with the tag `latest` if it has neither tag nor digest."""
        return self if self.tag or self.digest else self._replace(tag=DEFAULT_TAG)


def is_tag(text: str) -> bool:
    """Whether it is a tag as the specification has it."""
    return _TAG.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """The reference that somebody typed. Raises Usage."""
    rest, at, digest = text.partition("@")
    if at and not digests.is_digest(digest):
        raise _not_a_name(text, f"{digest!r} is not a digest (sha256: and 64 hexadecimal digits in lower case)")
    if _ID.fullmatch(text):  # docker refuses it as a name, too
        raise _not_a_name(text, "it is the id of an image")
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry = first
    else:
        registry, path = DEFAULT_REGISTRY, rest
    path, colon, tag = path.partition(":")
    if colon and not is_tag(tag):
        raise _not_a_name(text, f"{tag!r} is not a tag (letters, digits, _ . -, at most 128, not first . or -)")
    if registry in _HUB:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if _HOST.fullmatch(registry) is None:
        raise _not_a_name(text, f"{registry!r} is not a registry's host and port")
    if _REPOSITORY.fullmatch(path) is None or len(registry) + len(path) + 1 > _LONGEST:
        because = f"{path.removeprefix('library/')!r} is not a repository (lower-case words with . _ - and / between)"
        raise _not_a_name(text, because)
    return Reference(registry, path, tag, digest)


def _not_a_name(text: str, because: str) -> Usage:
    hint = "an image is named [REGISTRY/]REPOSITORY[:TAG][@DIGEST], for example debian:bookworm"
    if "://" in text:
        hint = f"leave {text.partition('://')[0]}:// out"
    elif text.startswith((".", "/", "~", *(f"{one}:" for one in _IN_FILES))):
        hint = "what is in files is oci:DIR, oci-archive:FILE or docker-archive:FILE; ctk copy and ctk unpack read it"
    return Usage(f"read the image's name {text!r}", because=because, hint=hint)


def registry(text: str) -> str:
    """The registry that somebody typed: HOST[:PORT]. Raises Usage."""
    if _HOST.fullmatch(text) is None:
        hint = "only its host and port, as in localhost:5000 or ghcr.io"
        raise Usage(f"use the registry {text!r}", because="it is not HOST[:PORT]", hint=hint)
    return DEFAULT_REGISTRY if text in _HUB else text


def next_steps(reference: Reference) -> tuple[str, str]:
    """The commands that use an image that was just made in the store."""
    called = reference.familiar
    push = f"ctk push {quote(called)}"
    if reference.registry == DEFAULT_REGISTRY:
        push += " REGISTRY/REPOSITORY"
    return f"ctk up {quote(called)} NAME", push


class Location(NamedTuple):
    """Where an image is. For `docker` and `store`, `reference` is its name.

    For the others `path` is the folder or file, and `name` which of the images in it: a tag, a whole reference, or `@`
    and a digest; "" for the only one.
    """

    transport: str
    path: str = ""
    name: str = ""
    reference: Reference | None = None

    def __str__(self) -> str:
        if self.reference is not None:
            return f"{self.transport}:{'//' if self.transport == DOCKER else ''}{self.reference.familiar}"
        if not self.name:
            return f"{self.transport}:{self.path}"
        return f"{self.transport}:{self.path}{'' if self.name.startswith('@') else ':'}{self.name}"


def locate(text: str, *, default: str = STORE) -> Location:
    """A place as skopeo writes it (docker://…, oci:DIR:TAG, …); without a transport it is one of `default`.

    Raises Usage.
    """
    transport, colon, rest = text.partition(":")
    if not colon or (transport not in TRANSPORTS and transport not in _FOREIGN):
        if text.endswith(_FILES):
            hint = f"oci-archive:{text} or docker-archive:{text}; an image of that name is store:{text}"
            raise Usage(f"use {text!r}", because="it looks like a file, and has no transport", hint=hint)
        transport, rest = default, text
    elif transport in _FOREIGN:
        raise Usage(f"use {text!r}", because=f"{transport}: is not a transport here", hint=_FOREIGN[transport])
    elif transport == DOCKER and not rest.startswith("//"):
        # An image may be called docker, as docker:cli is.
        transport, rest = default, text
    if transport in (DOCKER, STORE):
        return Location(transport, reference=parse(rest.removeprefix("//") if transport == DOCKER else rest))
    path, name = _in_folder(rest) if transport in (OCI, OCI_ARCHIVE) else _in_archive(rest)
    if not path:
        raise Usage(f"use {text!r}", because="it names no path", hint=f"{transport}:PATH[:NAME]")
    return Location(transport, path, name)


def _in_folder(rest: str) -> tuple[str, str]:
    """PATH[:TAG] or PATH@DIGEST. A tag there may be any text without a colon in front of it (containers/image)."""
    path, at, digest = rest.rpartition("@")
    if at and digests.is_digest(digest):
        return path, f"@{digest}"
    path, _, name = rest.partition(":")
    return path, name


def _in_archive(rest: str) -> tuple[str, str]:
    path, _, name = rest.partition(":")
    return path, name
