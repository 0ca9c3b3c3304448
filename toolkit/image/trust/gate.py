"""Nothing of an image is taken before the policy allows it: what it demands, and the signatures that meet that."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from toolkit.errors import CtkError, Invalid, Untrusted
from toolkit.events import Emit, Note
from toolkit.fetch import signed_message
from toolkit.image import name as names
from toolkit.image.name import Location
from toolkit.image.trust import claim, cosign, lookaside, policy
from toolkit.image.trust.claim import Claim
from toolkit.image.trust.policy import ACCEPT, REJECT, SIGNED_BY, SIGSTORE, Policy, Requirement


def check(location: Location, source: object, path: str, top: str, images: Sequence[str], emit: Emit) -> None:
    """Let the image pass, if the policy in force does: that in the file `path`, or ctk's own.

    `source` is what was opened at `location`, and `top` the digest that it stands for; `images` are those of its
    manifests that are wanted. It is signed if `top` is, which names the others by their digests, or if each of `images`
    is. An image of the store passes: it was checked when it came. Raises Untrusted, and what reading the policy or the
    signatures raises.
    """
    found = policy.find(path)
    if location.transport == names.STORE:
        return
    if found is None:
        _tell_other(location, emit)
        return
    for one in found.requirements(location):
        if one.kind == REJECT:
            raise Untrusted(f"take {location}", because=f"the policy {found.path!r} rejects it")
        if one.unsupported:
            raise policy.unsupported(one, found, location)
        if one.kind == SIGNED_BY:
            _check_signed(location, found, one, top, images, _Simple(location, one))
        elif one.kind == SIGSTORE:
            _check_signed(location, found, one, top, images, _Cosign(source, one))


def _tell_other(source: Location, emit: Emit) -> None:
    """Say that another program's policy, which would not just let the image pass, is not followed."""
    if not os.path.exists(policy.SYSTEM_FILE):
        return
    try:
        other = policy.find(policy.SYSTEM_FILE)
        if other is None or all(one.kind == ACCEPT for one in other.requirements(source)):
            return
    except CtkError:
        pass
    told = f"{policy.SYSTEM_FILE!r} has rules for {source}, and ctk does not follow them"
    emit(Note(f"{told}; --policy {policy.SYSTEM_FILE} does", warning=True))


class _Signatures(Protocol):
    """The signatures of one kind, and how they are verified."""

    @property
    def place(self) -> str:
        """Where they were looked for; "" for nowhere."""
        ...

    def of(self, digest: str) -> Iterable[tuple[str, Callable[[], Claim]]]:
        """Those of an image: what each is called, and what verifies it and reads its claim (raises CtkError)."""
        ...


class _Simple:
    """GPG's, beside the registry. Layouts and archives have none."""

    def __init__(self, location: Location, wanted: Requirement) -> None:
        self._reference = location.reference.tagged() if location.reference else None
        self._keyring = wanted.keyring()

    @property
    def place(self) -> str:
        base = lookaside.bases(self._reference).read if self._reference else ""
        return base and f"{base}; registries.d says where signatures are"

    def of(self, digest: str) -> Iterable[tuple[str, Callable[[], Claim]]]:
        for one in lookaside.read(self._reference, digest) if self._reference else ():
            yield os.path.basename(one.place), partial(self._claim, one)

    def _claim(self, one: lookaside.Found) -> Claim:
        text = signed_message.verify_message(one.data, self._keyring, what=one.place).text
        return claim.read(text, one.place)


class _Cosign:
    """cosign's, in the registry. Layouts and archives have none."""

    def __init__(self, source: object, wanted: Requirement) -> None:
        self._source = source if isinstance(source, cosign.Attached) else None
        self._keys = wanted.cosign_keys()

    @property
    def place(self) -> str:
        return "the registry" if self._source else ""

    def of(self, digest: str) -> Iterable[tuple[str, Callable[[], Claim]]]:
        for one in cosign.read(self._source, digest) if self._source else ():
            yield one.place, partial(self._claim, one)

    def _claim(self, one: cosign.Signed) -> Claim:
        self._keys.verify(one)
        return claim.read(one.payload, one.place, cosign.TYPE)


def _check_signed(
    location: Location,
    found: Policy,
    wanted: Requirement,
    top: str,
    images: Iterable[str],
    signatures: _Signatures,
) -> None:
    reference = location.reference.tagged() if location.reference else None

    def faults(digest: str) -> list[str] | None:
        """Why no signature of this digest counts; None if one does."""
        said = []
        for name, verified in signatures.of(digest):
            try:
                claimed = verified()
            except CtkError as error:
                field = f"{error.path} " if isinstance(error, Invalid) else ""
                said.append(f"{name}: {field}{error.because}")
                continue
            if claimed.digest != digest:
                said.append(f"{name} is for {claimed.digest}")
            elif not wanted.identity.accepts(reference, claimed.reference):
                said.append(f"{name} is for the name {claimed.reference!r}")
            else:
                return None
        return said

    said = faults(top)
    if said is None:
        return
    for digest in images:
        more = faults(digest) if digest != top else said
        if more is None:
            continue
        place = signatures.place
        because = "; ".join(more or said) or (f"it has no signature in {place}" if place else "it has no signatures")
        raise Untrusted(f"take {location} {digest}", because=because, hint=f"the policy {found.path!r} wants it signed")
    if not images:
        raise Untrusted(f"take {location}", because="; ".join(said) or "it has no signature")
