"""OpenPGP signed messages (RFC 9580 section 10.3): verify one, and make one. Text and signature are one blob.

That is the form of container signatures. The keys come from files only, and callers parse `Verified.text` and nothing
else, as in `verify.py`.
"""

import os
import re
import subprocess
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from toolkit.errors import CtkError, HostLacks, Malformed, NotFound, Untrusted, reason
from toolkit.fetch.verify import Keyring, Verified, bad_signature, expired_signers
from toolkit.kernel import reading

LIMIT_BYTES = 64 * 1024
_ARMOR = b"-----BEGIN PGP MESSAGE-----"
# Packet types (RFC 9580 section 5): one-pass signatures, literal data, signatures; or signatures first, as of old.
_SIGNATURE, _ONE_PASS, _COMPRESSED, _LITERAL = 2, 4, 8, 11
_MESSAGE = re.compile(f"(?:{chr(_ONE_PASS)}+{chr(_LITERAL)}{chr(_SIGNATURE)}+|{chr(_SIGNATURE)}+{chr(_LITERAL)})")


def verify_message(data: bytes, keyring: Keyring, *, what: str) -> Verified:
    """The text of a signed message (binary, of at most LIMIT_BYTES) and who has signed it.

    Raises Malformed if it is not exactly one signed message; Untrusted if no signature is good, or the key of every
    good one has expired by now (as GnuPG has it; an image is signed again then).
    """
    from pysequoia import verify

    message = _uncompressed(data, what)
    wanted: list[str] = []

    def store(key_ids: list[str]) -> list[object]:
        wanted.extend(key_ids)
        return list(keyring.certificates)

    try:
        result = verify(bytes=message, store=store)
    except Exception as error:
        raise bad_signature(_first_line(error), wanted, keyring, what) from None
    signed_by = {
        str(one.certificate).upper()
        for one in result.valid_sigs
        if keyring.lets(str(one.certificate).upper(), str(one.signing_key).upper())
    }
    ended = dict(expired_signers(keyring, tuple(signed_by), datetime.now(timezone.utc)))  # noqa: UP017
    if signed_by and signed_by <= ended.keys():
        told = ", ".join(f"{key} on {until:%Y-%m-%d}" for key, until in ended.items())
        raise Untrusted(f"check {what}", because=f"its key has expired: {told}")
    if not signed_by or result.bytes is None:
        raise bad_signature("no valid signature", wanted, keyring, what)
    return Verified(bytes(result.bytes), tuple(sorted(signed_by - ended.keys())))


def _uncompressed(data: bytes, what: str) -> bytes:
    """The message without the compression around it that GnuPG adds.

    Sequoia would decompress without a bound, and several times over: 64 KiB can be made terabytes. So it gets a message
    whose packets are known, with none of them compressed.
    """
    doing = f"read {what}"
    if len(data) > LIMIT_BYTES:
        raise Malformed(doing, because=f"it has more than {LIMIT_BYTES} bytes")
    if data.lstrip().startswith(_ARMOR):
        raise Malformed(doing, because="it is armoured, and signatures of images are binary")
    packets = list(_packets(data, doing))
    if [kind for kind, _ in packets] == [_COMPRESSED]:
        data = _inflated(packets[0][1], doing)
        packets = list(_packets(data, doing))
    if _MESSAGE.fullmatch("".join(chr(kind) for kind, _ in packets)) is None:
        raise Malformed(doing, because="it is not one signed OpenPGP message")
    return data


def _packets(data: bytes, doing: str) -> Iterator[tuple[int, bytes]]:
    """Type and body of each packet (RFC 9580 section 4.2). Raises Malformed."""
    at = 0
    try:
        while at < len(data):
            first = data[at]
            at += 1
            if not first & 0x80:
                raise ValueError
            body, more = b"", True
            while more:
                size, at, more = _length(data, at) if first & 0x40 else _old_length(data, at, first & 3)
                if at + size > len(data):
                    raise ValueError
                body += data[at : at + size]
                at += size
            yield first & 0x3F if first & 0x40 else first >> 2 & 0xF, body
    except (IndexError, ValueError):
        raise Malformed(doing, because="it is not an OpenPGP message") from None


def _length(data: bytes, at: int) -> tuple[int, int, bool]:
    """The length of a body's next part, where that begins, and whether others follow."""
    first = data[at]
    if first < 192:
        return first, at + 1, False
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2, False
    if first < 255:
        return 1 << (first & 0x1F), at + 1, True
    return int.from_bytes(data[at + 1 : at + 5]), at + 5, False


def _old_length(data: bytes, at: int, kind: int) -> tuple[int, int, bool]:
    if kind == 3:  # up to the end
        return len(data) - at, at, False
    return int.from_bytes(data[at : at + (1 << kind)]), at + (1 << kind), False


def _inflated(body: bytes, doing: str) -> bytes:
    """The content of a compressed packet (RFC 9580 section 5.6): raw deflate or zlib. Raises Malformed."""
    algorithm = body[:1]
    if algorithm not in (b"\x01", b"\x02"):
        raise Malformed(doing, because="it is compressed by another method than deflate")
    inflater = zlib.decompressobj(-15 if algorithm == b"\x01" else 15)
    try:
        found = inflater.decompress(body[1:], LIMIT_BYTES + 1)
    except zlib.error as error:
        raise Malformed(doing, because=f"it can't be decompressed ({error})") from None
    if len(found) > LIMIT_BYTES or not inflater.eof:
        raise Malformed(doing, because=f"decompressed, it is cut off or has more than {LIMIT_BYTES} bytes")
    return found


def signer(key: str, passphrase: str = "") -> Callable[[bytes], bytes]:
    """What makes a signed message of a text. `key` is a file with a secret key, or what GnuPG calls one of its own.

    A file's key is used by Sequoia, `passphrase` unlocks it; any other by gpg, whose agent asks for the passphrase.
    Raises NotFound, Untrusted, HostLacks; the function raises CtkError.
    """
    if not os.path.exists(key) and os.path.basename(key) == key:
        return lambda text: _by_gpg(text, key)
    from pysequoia import SignatureMode, Tsk, sign

    doing = f"sign with the key in {key!r}"
    try:
        data = reading.named(key)
    except OSError as error:
        raise NotFound(doing, because=reason(error)) from None
    try:
        secret = Tsk.from_bytes(data)
        with_it = secret.signer(passphrase) if passphrase else secret.signer()
    except Exception as error:
        hint = "gpg --export-secret-keys KEY > FILE writes such a file; --sign-passphrase-file unlocks it; "
        hint += "GnuPG's own name of a key lets GnuPG sign"
        raise Untrusted(doing, because=_first_line(error), hint=hint) from None

    def made(text: bytes) -> bytes:
        try:
            return bytes(sign(with_it, text, mode=SignatureMode.INLINE, armor=False))
        except Exception as error:
            raise Untrusted(doing, because=_first_line(error)) from None

    return made


def _by_gpg(text: bytes, key: str) -> bytes:
    doing = f"sign with GnuPG's key {key!r}"
    words = ["gpg", "--quiet", "--no-armor", "--local-user", key, "--output", "-", "--sign"]
    try:
        done = subprocess.run(words, input=text, capture_output=True, check=False)
    except FileNotFoundError:
        hint = "apt install gpg; or name a file that holds a secret key"
        raise HostLacks(doing, because="there is no gpg here", hint=hint) from None
    except OSError as error:
        raise CtkError(doing, because=reason(error)) from None
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"gpg ended with {done.returncode}"]
        raise CtkError(doing, because=said[-1], hint="`gpg --list-secret-keys` lists them; or name a file with a key")
    return done.stdout


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".").lower()
