"""Nothing of an image is taken before the policy allows it: what it demands, and the signatures that meet that."""

import os
from collections.abc import Callable, Iterable, Sequence

from toolkit.errors import CtkError, Invalid, Untrusted
from toolkit.events import Emit, Note
from toolkit.fetch import signed_message
from toolkit.image import name as names
from toolkit.image.name import Location
from toolkit.image.trust import claim, lookaside, policy
from toolkit.image.trust.lookaside import Found
from toolkit.image.trust.policy import ACCEPT, REJECT, SIGNED_BY, Policy, Requirement


def check(source: Location, path: str, top: str, images: Sequence[str], emit: Emit) -> None:
    """Let the image pass, if the policy in force does: that in the file `path`, or ctk's own.

    `top` is the digest that `source` stands for, `images` are those of its manifests that are wanted. It is signed if
    `top` is, which names the others by their digests, or if each of `images` is. An image of the store passes: it was
    checked when it came. Raises Untrusted, and what reading the policy or the signatures raises.
    """
    found = policy.find(path)
    if source.transport == names.STORE:
        return
    if found is None:
        _tell_other(source, emit)
        return
    signatures = _Signatures(source)
    for one in found.requirements(source):
        if one.kind == REJECT:
            raise Untrusted(f"take {source}", because=f"the policy {found.path!r} rejects it")
        if one.kind == SIGNED_BY:
            _check_signed(source, found, one, top, images, signatures)
        elif one.kind != ACCEPT:
            raise policy.unsupported(one, found, source)


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


class _Signatures:
    """The signatures of the images in one place; each is fetched once."""

    def __init__(self, source: Location) -> None:
        self._reference = source.reference
        self._known: dict[str, tuple[Found, ...]] = {}

    def __call__(self, digest: str) -> tuple[Found, ...]:
        if self._reference is None:  # layouts and archives have none
            return ()
        if digest not in self._known:
            self._known[digest] = tuple(lookaside.read(self._reference.tagged(), digest))
        return self._known[digest]


def _check_signed(
    source: Location,
    found: Policy,
    wanted: Requirement,
    top: str,
    images: Iterable[str],
    signatures: Callable[[str], tuple[Found, ...]],
) -> None:
    keyring = wanted.keyring()
    reference = source.reference.tagged() if source.reference else None

    def faults(digest: str) -> list[str] | None:
        """Why no signature of this digest counts; None if one does."""
        said = []
        for one in signatures(digest):
            try:
                verified = signed_message.verify_message(one.data, keyring, what=one.place)
                claimed = claim.read(verified.text, one.place)
            except CtkError as error:
                field = f"{error.path} " if isinstance(error, Invalid) else ""
                said.append(f"{os.path.basename(one.place)}: {field}{error.because}")
                continue
            if claimed.digest != digest:
                said.append(f"{os.path.basename(one.place)} is for {claimed.digest}")
            elif not wanted.identity.accepts(reference, claimed.reference):
                said.append(f"{os.path.basename(one.place)} is for the name {claimed.reference!r}")
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
        where = lookaside.bases(reference).read if reference else ""
        because = "; ".join(more or said) or (f"it has no signature in {where}" if where else "it has no signatures")
        hint = f"the policy {found.path!r} wants it signed; registries.d says where signatures are"
        raise Untrusted(f"take {source} {digest}", because=because, hint=hint)
    if not images:
        raise Untrusted(f"take {source}", because="; ".join(said) or "it has no signature")
