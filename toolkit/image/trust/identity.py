"""Whether the name in a signature is right for the image: `signedIdentity` of containers-policy.json(5).

Names are compared whole. One without a tag or digest is never right, because it could stand for any of its repository.
"""

from typing import NamedTuple

from toolkit.errors import Usage
from toolkit.image import name as names
from toolkit.image.document.fields import Fields
from toolkit.image.name import Reference
from toolkit.image.trust import strict

DIGEST_OR_EXACT, EXACT, REPOSITORY = "matchRepoDigestOrExact", "matchExact", "matchRepository"
EXACT_REFERENCE, EXACT_REPOSITORY, REMAP = "exactReference", "exactRepository", "remapIdentity"
_MEMBERS = {
    DIGEST_OR_EXACT: (),
    EXACT: (),
    REPOSITORY: (),
    EXACT_REFERENCE: ("dockerReference",),
    EXACT_REPOSITORY: ("dockerRepository",),
    REMAP: ("prefix", "signedPrefix"),
}


class Identity(NamedTuple):
    """One rule. `name` is the reference or repository of the exact ones, `prefix` and `signed_prefix` are remap's."""

    kind: str = DIGEST_OR_EXACT
    name: str = ""
    prefix: str = ""
    signed_prefix: str = ""

    def accepts(self, image: Reference | None, signed: str) -> bool:
        """Whether a signature for `signed` is one for `image`, as it was asked for (None: it has no such name)."""
        try:
            claimed = names.parse(signed)
        except Usage:
            return False
        if self.kind == EXACT_REFERENCE:
            return _is_whole(claimed) and claimed == names.parse(self.name)
        if self.kind == EXACT_REPOSITORY:
            return claimed.name == names.parse(self.name).name
        if image is None:
            return False
        if self.kind == REPOSITORY:
            return claimed.name == image.name
        if self.kind == REMAP:
            image = self._remapped(image)
        if not _is_whole(claimed):
            return False
        if image.tag:
            # The digest beside a tag is compared with the signature's by itself.
            return claimed == image._replace(digest="")
        return claimed == image if self.kind == EXACT else bool(image.digest) and claimed.name == image.name

    def _remapped(self, image: Reference) -> Reference:
        whole = image.name
        if whole != self.prefix and not whole.startswith(self.prefix + "/"):
            return image
        try:
            found = names.parse(self.signed_prefix + whole.removeprefix(self.prefix))
        except Usage:
            return image
        return found._replace(tag=image.tag, digest=image.digest)


def _is_whole(reference: Reference) -> bool:
    return bool(reference.tag or reference.digest)


def read(value: Fields | None) -> Identity:
    """The rule of a policy; the usual one if there is none. Raises Invalid."""
    if value is None:
        return Identity()
    kind = value.text("type")
    if kind not in _MEMBERS:
        raise value.invalid("type", f"{kind!r} is none of {', '.join(_MEMBERS)}")
    strict.only(value, ("type", *_MEMBERS[kind]))
    texts = {member: value.text(member) for member in _MEMBERS[kind]}
    for member, text in texts.items():
        if not text:
            raise value.invalid(member, "is missing")
        if member in ("dockerReference", "dockerRepository"):
            try:
                found = names.parse(text)
            except Usage as error:
                raise value.invalid(member, error.because) from None
            if _is_whole(found) != (member == "dockerReference"):
                wanted = "must have a tag or a digest" if member == "dockerReference" else "must be a name alone"
                raise value.invalid(member, wanted)
    name = texts.get("dockerReference") or texts.get("dockerRepository") or ""
    return Identity(kind, name, texts.get("prefix", ""), texts.get("signedPrefix", ""))
