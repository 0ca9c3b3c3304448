"""OpenPGP: find the bytes of a Release file that carry a good signature by a trusted key.

Callers parse `Verified.text` and nothing else; text outside the signed part never leaves this module
(docs/decisions/0002-openpgp.md). The keyring is the only source of trust: no key servers, no web of trust, not the
user's own keyring. Without a keyring, verification is an error.
"""

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from toolkit.errors import CtkError, Malformed, NotFound, Untrusted, reason
from toolkit.kernel import reading

if TYPE_CHECKING:
    from pysequoia import Cert, Sig

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
_END = b"-----END PGP SIGNATURE-----"
_KEYBOX = b"KBXf"  # GnuPG's kbx/keybox-blob.c: after the length, type, version and flags of the first blob
_ARMOR_KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"

_NEVER = datetime.max.replace(tzinfo=timezone.utc)  # noqa: UP017

# No real Release line is longer than some hundred bytes, and parsers have had bugs with long lines.
_LONGEST_LINE = 64 * 1024


class Verified(NamedTuple):
    """Signed bytes, and the fingerprints (hex, upper case) of the certificates with a good signature on them."""

    text: bytes
    signed_by: tuple[str, ...]


class Keyring(NamedTuple):
    """The certificates of one file, or of a folder's *.gpg, *.pgp and *.asc files.

    `selected` are the fingerprints (upper case) of those among them that may sign, () for all: with all their subkeys,
    or with a `!` at the end only this key or subkey (sources.list(5), Signed-By).
    """

    path: str
    certificates: "tuple[Cert, ...]"
    selected: tuple[str, ...] = ()

    def lets(self, certificate: str, key: str) -> bool:
        """Whether a signature by this key (or subkey) of this certificate counts."""
        for one in self.selected:
            by = (key,) if one.endswith("!") else (key, certificate)
            if any(each.upper().endswith(one.rstrip("!")) for each in by):
                return True
        return not self.selected


def load_keyrings(paths: Sequence[str]) -> Keyring:
    """Several keyrings as one. Raises what `load_keyring` raises, and Untrusted if `paths` is empty."""
    if not paths:
        raise Untrusted("check a signature", because="no keyring is known", hint="name one with --keyring FILE")
    rings = [load_keyring(path) for path in paths]
    return Keyring(", ".join(ring.path for ring in rings), tuple(c for ring in rings for c in ring.certificates))


def load_keyring(path: str) -> Keyring:
    """Read a keyring: binary or armoured, one certificate or many. Raises Untrusted if it has no usable key."""
    doing = f"read keyring {path!r}"
    hint = "give the archive's own keyring with --keyring FILE"
    files = [path]
    if os.path.isdir(path):
        files = sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith((".gpg", ".pgp", ".asc")))
    certificates: list[Cert] = []
    for name in files:
        try:
            data = reading.named(name)
        except OSError as error:
            raise Untrusted(doing, because=reason(error), hint=hint) from None
        certificates.extend(_certificates(data, doing, hint))
    if not certificates:
        raise Untrusted(doing, because="it has no OpenPGP certificate", hint=hint)
    return Keyring(path, tuple(certificates))


def keyring_of(data: bytes, name: str) -> Keyring:
    """A keyring from its bytes, binary or armoured; `name` is for errors. Raises Untrusted."""
    hint = "give the source's own key with signed-by"
    certificates = _certificates(data, f"read the key of {name}", hint)
    if not certificates:
        raise Untrusted(f"read the key of {name}", because="it has no OpenPGP certificate", hint=hint)
    return Keyring(name, tuple(certificates))


def _certificates(data: bytes, doing: str, hint: str) -> "list[Cert]":
    from pysequoia import Cert

    if data[8:12] == _KEYBOX:
        raise Untrusted(
            doing,
            because="it is a GnuPG keybox, not OpenPGP keys",
            hint="gpg --no-default-keyring --keyring FILE --export > KEYS.gpg writes them",
        )
    try:
        return [one for block in _armour_blocks(data, _ARMOR_KEY) for one in Cert.split_bytes(block)]
    except Exception as error:
        raise Untrusted(doing, because=_first_line(error), hint=hint) from None


def only(keyring: Keyring, fingerprints: Sequence[str]) -> Keyring:
    """The keyring with only the certificates that `fingerprints` name, by their own or by those of their subkeys."""
    selected = tuple(one.upper().removeprefix("0X") for one in fingerprints)
    wanted = tuple(one.rstrip("!") for one in selected)
    kept = tuple(
        one
        for one in keyring.certificates
        if any(each.upper().endswith(wanted) for each in _key_ids(Keyring(keyring.path, (one,))))
    )
    return Keyring(f"{keyring.path} ({', '.join(fingerprints)})", kept, selected)


def expired_signers(keyring: Keyring, signed_by: Sequence[str], now: datetime) -> list[tuple[str, datetime]]:
    """The signers whose certificate has expired since, and when (UTC).

    Of several copies of a certificate the last to expire counts: a keyring often has a renewed key and its old copy.
    """
    ends: dict[str, datetime] = {}
    for one in keyring.certificates:
        fingerprint = str(one.fingerprint).upper()
        if fingerprint not in signed_by:
            continue
        try:
            until = one.expiration or _NEVER
        except Exception:  # Sequoia refuses a key whose self-signature is too weak by today's policy
            continue
        ends[fingerprint] = max(until, ends.get(fingerprint, until))
    return [(fingerprint, until) for fingerprint, until in ends.items() if until < now]


def _armour_blocks(data: bytes, begin: bytes) -> list[bytes]:
    """The armoured blocks of a concatenated file, which must be read one by one; one block for binary data."""
    if begin not in data:
        return [data]
    return [begin + part for part in data.split(begin)[1:]]


def verify_inline(data: bytes, keyring: Keyring, *, what: str) -> Verified:
    """The signed text of a cleartext-signed file (InRelease; RFC 9580 section 7).

    Raises Malformed unless the file is exactly one signed message from its first byte to its last, Untrusted if no
    signature is by a key of `keyring` or the text was changed.
    """
    check_frame(data, what=what)
    return _verify(data, None, keyring, what)


def verify_detached(data: bytes, signature: bytes, keyring: Keyring, *, what: str) -> Verified:
    """`data`, if one of the detached signatures (Release.gpg, armoured or binary) is by a key of `keyring`.

    The file has one signature for each key that the archive signs with; one good one is enough. Raises Malformed,
    Untrusted.
    """
    try:
        signatures = _signatures(signature)
    except Exception as error:
        raise Malformed(f"read the signature of {what}", because=_first_line(error)) from None
    if not signatures:
        raise Malformed(f"read the signature of {what}", because="it has no signature")
    good: list[str] = []
    failed: CtkError | None = None
    for one in signatures:
        try:
            good.extend(_verify(data, one, keyring, what).signed_by)
        except Untrusted as error:
            failed = error
    if not good and failed is not None:
        raise failed
    return Verified(data, tuple(dict.fromkeys(good)))


def check_frame(data: bytes, *, what: str) -> None:
    """Refuse anything around or inside the armour that a Release file does not need.

    OpenPGP implementations skip text before and after the message, and accept several messages in a row; programs
    that then parsed the whole file were fooled (CVE-2016-1252 and similar ones). We only ever parse the verified
    bytes, but a file that tries this is refused, not partly trusted.
    """
    doing = f"read {what}"
    if len(data) > _LONGEST_LINE and max(map(len, data.split(b"\n"))) > _LONGEST_LINE:
        raise Malformed(doing, because=f"a line is longer than {_LONGEST_LINE} bytes")
    lines = [line.rstrip(b" \t\r") for line in data.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines or lines[0] != _BEGIN:
        raise Malformed(
            doing,
            because="it does not begin with a signed message",
            hint="a proxy or a login page may have answered instead of the mirror",
        )
    try:
        headers_end = lines.index(b"", 1)
        signature = lines.index(_SIGNATURE)
    except ValueError:
        raise Malformed(doing, because="its signature is missing or cut off") from None
    for line in lines[1:headers_end]:
        if not line.startswith(b"Hash: "):
            raise Malformed(doing, because=f"unknown armour header {line[:60]!r}")
    for line in lines[headers_end:signature]:
        if b"\f" in line or b"\0" in line:
            raise Malformed(doing, because="control characters in the signed text")
    if lines[-1] != _END or any(line.startswith(b"-----") for line in lines[signature + 1 : -1]):
        raise Malformed(doing, because="there is something besides the one signed message")
    if any(line.startswith(b"-----") for line in lines[1:signature]):
        # RFC 9580 7.1: a dash at the start of a line of the text is written "- -".
        raise Malformed(doing, because="there is something besides the one signed message")


def unverified_inline(data: bytes, *, what: str) -> bytes:
    """The text of a cleartext-signed file, its signature unchecked: only for check_gpg=False."""
    check_frame(data, what=what)
    lines = data.split(b"\n")
    text = lines[next(i for i, line in enumerate(lines) if not line.strip()) + 1 :]
    body = []
    for line in text:
        if line.rstrip() == _SIGNATURE:
            break
        body.append(line[2:] if line.startswith(b"- ") else line)
    return b"\n".join(body)


def _signatures(data: bytes) -> "list[Sig]":
    """All signatures of a file; Sig.from_bytes would read the first one and drop the others."""
    from pysequoia import Sig
    from pysequoia.packet import PacketPile, Tag

    packets = [packet for block in _armour_blocks(data, _SIGNATURE) for packet in PacketPile.from_bytes(block)]
    return [Sig.from_bytes(bytes(packet)) for packet in packets if packet.tag == Tag.Signature]


def _check_clock(data: bytes, signature: "Sig | None", what: str) -> None:
    """Raise Untrusted if a bad signature is dated in the future, which Sequoia does not report apart from other faults.

    The signature's time is not verified at this point, and only serves to explain the failure.
    """
    try:
        signatures = [signature] if signature is not None else _signatures(data[data.index(_SIGNATURE) :])
    except Exception:
        return
    now = datetime.now(timezone.utc)  # noqa: UP017
    made = [one.created for one in signatures if one.created is not None]
    if made and min(made) > now:
        raise Untrusted(
            f"check the signature of {what}",
            because=f"it was made on {min(made):%a, %d %b %Y %H:%M:%S} UTC, but this machine's clock says "
            f"{now:%a, %d %b %Y %H:%M:%S} UTC",
            hint="set the clock (`date -u`); if it is right, use another --mirror",
        )


def _verify(data: bytes, signature: "Sig | None", keyring: Keyring, what: str) -> Verified:
    from pysequoia import verify

    wanted: list[str] = []

    def store(key_ids: list[str]) -> "list[Cert]":
        wanted.extend(key_ids)
        return list(keyring.certificates)

    try:
        result = verify(bytes=data, store=store, signature=signature)
    except Exception as error:
        _check_clock(data, signature, what)
        raise bad_signature(_first_line(error), wanted, keyring, what) from None
    text = data if signature is not None else result.bytes
    valid = [(str(one.certificate).upper(), str(one.signing_key).upper()) for one in result.valid_sigs]
    signed_by = tuple(dict.fromkeys(certificate for certificate, key in valid if keyring.lets(certificate, key)))
    if valid and not signed_by:
        raise Untrusted(
            f"check the signature of {what}",
            because=f"signed by {', '.join(key for _, key in valid)}; only {', '.join(keyring.selected)} may sign it",
            hint="use another --mirror, or name the key that signs it (signed-by)",
        )
    if not signed_by or text is None:
        _check_clock(data, signature, what)
        raise bad_signature("no valid signature", wanted, keyring, what)
    return Verified(text, signed_by)


def bad_signature(why: str, wanted: list[str], keyring: Keyring, what: str) -> CtkError:
    """Why no signature counts; `wanted` are the key ids that the signatures name."""
    known = _key_ids(keyring)
    hint = "use another --mirror; for an archive with keys of its own give them with --keyring FILE"
    keys = ", ".join(one.upper() for one in wanted) or "no key at all"
    if not wanted:
        because = f"it has no readable signature ({why})"
    elif any(one.lower() in known for one in wanted) and _vouches_weakly(keyring, wanted):
        because = f"the key of the signature by {keys} has only a SHA-1 self-signature, which is no longer secure"
        hint = "ask its owner for a renewed copy of the key; --no-check-gpg uses the archive unchecked"
    elif any(one.lower() in known for one in wanted):
        because = f"the signature by {keys} is not good: the file was changed, or the key may no longer sign"
    else:
        because = f"signed by {keys}; no good signature by a key of {keyring.path!r}"
    return Untrusted(
        f"check the signature of {what}",
        because=because,
        hint=hint,
    )


def _vouches_weakly(keyring: Keyring, wanted: list[str]) -> bool:
    """Whether the signers' certificates that we have are bound to their names only by SHA-1 or MD5."""
    from pysequoia.packet import HashAlgorithm, PacketPile, Tag

    ids = {one.lower() for one in wanted}
    weak = (HashAlgorithm.SHA1, HashAlgorithm.MD5)
    ours = [one for one in keyring.certificates if ids & _key_ids(Keyring(keyring.path, (one,)))]
    packets = [packet for one in ours for packet in PacketPile.from_bytes(bytes(one)) if packet.tag == Tag.Signature]
    return bool(packets) and all(packet.hash_algorithm in weak for packet in packets)


def _key_ids(keyring: Keyring) -> set[str]:
    """Fingerprints and key ids (lower case) of all keys and subkeys: a signature may name either."""
    from pysequoia.packet import PacketPile, Tag

    found = set()
    for certificate in keyring.certificates:
        for packet in PacketPile.from_bytes(bytes(certificate)):
            if packet.tag in (Tag.PublicKey, Tag.PublicSubkey) and packet.fingerprint:
                found |= {packet.fingerprint.lower(), packet.fingerprint.lower()[-16:]}
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".").lower()


def find_keyring(name: str, folders: tuple[str, ...]) -> str:
    """The keyring file `name` in the first of `folders` that has it. Raises NotFound; there is no default."""
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise NotFound(
        f"find keyring {name!r}",
        because="it is in none of " + ", ".join(repr(folder) for folder in folders),
        hint="give the archive's keyring with --keyring FILE",
    )
