"""The policy: which images are taken from where, and by whom they have to be signed (containers-policy.json(5)).

The format is that of containers/image, strictly: a member that is not known is an error, because what it restricts
would be lost. Its type `signedBaseLayer`, and what `sigstoreSigned` has beside keys (Fulcio, Rekor), are read, and
refuse every image, because they are not supported.

A policy is in force if an option names its file, or if there is one of ctk's own: ~/.config/ctk/policy.json, else
/etc/ctk/policy.json. /etc/containers/policy.json is another program's (docs/decisions/0018-image-policy.md).
"""

import base64
import binascii
import os
from typing import NamedTuple

from toolkit.errors import CtkError, NotFound, Untrusted, reason
from toolkit.fetch import verify
from toolkit.fetch.verify import Keyring
from toolkit.image import name as names
from toolkit.image.document import fields
from toolkit.image.document.fields import Fields
from toolkit.image.name import Location
from toolkit.image.trust import cosign, identity, strict
from toolkit.image.trust.identity import Identity
from toolkit.kernel import reading

SYSTEM_FILE = "/etc/containers/policy.json"
ACCEPT, REJECT, SIGNED_BY, SIGSTORE = "insecureAcceptAnything", "reject", "signedBy", "sigstoreSigned"
_BASE_LAYER = "signedBaseLayer"
_SIGNED_BY = ("type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity")
_SIGSTORE_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_REKOR = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_SIGSTORE_OTHER = ("fulcio", "pki", *_REKOR)


class Requirement(NamedTuple):
    """One demand. `key_paths` and `key_data` are of the signed ones: one of the keys has to be the signer's.

    `unsupported` is what we can't verify of it; "" for nothing.
    """

    kind: str
    key_paths: tuple[str, ...] = ()
    key_data: tuple[bytes, ...] = ()
    identity: Identity = Identity()
    unsupported: str = ""

    def keyring(self) -> Keyring:
        """The keys of a signedBy. Raises Untrusted."""
        if self.key_paths:
            return verify.load_keyrings(self.key_paths)
        return verify.keyring_of(self.key_data[0], "the policy (keyData)")

    def cosign_keys(self) -> cosign.Keys:
        """The keys of a sigstoreSigned. Raises Untrusted, HostLacks."""
        return cosign.load(self.key_paths, self.key_data)


class Policy(NamedTuple):
    """What a policy file says: requirements by transport and scope; the scope "" is all of a transport."""

    path: str
    default: tuple[Requirement, ...]
    transports: dict[str, dict[str, tuple[Requirement, ...]]]

    def requirements(self, source: Location) -> tuple[Requirement, ...]:
        """What an image from there has to meet: all of these. Those of the narrowest scope count, and no others."""
        by_scope = self.transports.get(source.transport, {})
        for scope in (*scopes(source), ""):
            if scope in by_scope:
                return by_scope[scope]
        return self.default


def scopes(source: Location) -> list[str]:
    """The scopes that a place is in, the narrowest first (containers-policy.json(5), "Supported transports")."""
    if source.reference is not None:
        reference = source.reference.tagged()
        found = [str(reference._replace(tag="") if reference.digest else reference)]
        if reference.digest and reference.tag:
            found.insert(0, str(reference._replace(digest="")))
        parts = reference.name.split("/")
        found += ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        host = reference.registry.partition(":")[0].split(".")
        return found + ["*." + ".".join(host[at:]) for at in range(1, len(host))]
    if source.transport == names.DOCKER_ARCHIVE:
        return []
    path = os.path.realpath(source.path)
    parents = []
    while path != "/":
        parents.append(path)
        path = os.path.dirname(path)
    return parents


def find(path: str = "") -> Policy | None:
    """The policy in force: that of `path`, or of ctk's own files; None for none. Raises NotFound, Invalid, CtkError."""
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for one in (path,) if path else (f"{own}/ctk/policy.json", "/etc/ctk/policy.json"):
        try:
            return read(reading.named(one, limit_bytes=fields.LIMIT_BYTES), one)
        except FileNotFoundError:
            if path:
                raise NotFound(f"read the policy {path!r}", because="there is no such file") from None
        except OSError as error:
            raise CtkError(f"read the policy {one!r}", because=reason(error)) from None
    return None


def read(data: bytes, path: str) -> Policy:
    """The policy of a file's content. Raises Invalid."""
    whole = strict.read(data, path, ("default", "transports"))
    default = _requirements(whole, "default")
    transports: dict[str, dict[str, tuple[Requirement, ...]]] = {}
    listed = whole.object("transports") or Fields({}, path)
    for transport in listed.value:
        by_scope = listed.object(transport)
        if by_scope is not None:
            # dir: and other transports that are not ours are read all the same: an error in them is one of the file
            transports[transport] = {scope: _requirements(by_scope, scope) for scope in by_scope.value}
    return Policy(path, default, transports)


def _requirements(where: Fields, name: str) -> tuple[Requirement, ...]:
    found = tuple(map(_requirement, where.objects(name)))
    if not found:
        raise where.invalid(name, "must have at least one requirement")
    return found


def _requirement(value: Fields) -> Requirement:
    kind = value.text("type")
    if kind in (ACCEPT, REJECT):
        strict.only(value, ("type",))
        return Requirement(kind)
    if kind == _BASE_LAYER:
        return Requirement(kind, unsupported=kind)
    if kind == SIGNED_BY:
        strict.only(value, _SIGNED_BY)
        if value.text("keyType") != "GPGKeys":
            raise value.invalid("keyType", "must be 'GPGKeys'")
        paths, data = _keys(value, ("keyPath", "keyPaths", "keyData"))
    elif kind == SIGSTORE:
        strict.only(value, ("type", *_SIGSTORE_KEYS, *_SIGSTORE_OTHER, "signedIdentity"))
        other = next((name for name in _SIGSTORE_OTHER if name in value), "")
        if other:
            return Requirement(kind, unsupported=f"{kind} with {other}")
        paths, data = _keys(value, _SIGSTORE_KEYS)
    else:
        raise value.invalid(
            "type", f"{kind!r} is none of {', '.join((ACCEPT, REJECT, SIGNED_BY, SIGSTORE, _BASE_LAYER))}"
        )
    return Requirement(kind, paths, data, identity.read(value.object("signedIdentity")))


def _keys(value: Fields, known: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """The paths of keys, or the keys, in the one of these members that there is."""
    given = [name for name in known if name in value]
    if len(given) != 1:
        raise value.invalid("keyPath", f"one of {', '.join(known)} has to be given, and no more")
    (name,) = given
    texts = value.texts(name) if name.endswith("s") else (value.text(name),)
    if not texts or not all(texts):
        raise value.invalid(name, "names no key")
    if name in ("keyPath", "keyPaths"):
        return texts, ()
    try:
        return (), tuple(base64.b64decode(text, validate=True) for text in texts)
    except (binascii.Error, ValueError):
        raise value.invalid(name, "must be base64") from None


def unsupported(requirement: Requirement, policy: Policy, source: Location) -> Untrusted:
    """The error of a type that is not supported."""
    because = f"{policy.path!r} wants {requirement.unsupported!r} of it, which ctk does not support"
    hint = "signedBy (GPG keys) and sigstoreSigned with keys are supported; or use another --policy"
    return Untrusted(f"take {source}", because=because, hint=hint)
