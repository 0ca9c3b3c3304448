"""OpenPGP: what is believed, and everything that is not. Keys are made on the spot."""

import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone, tzinfo
from pathlib import Path

import pysequoia
import pytest

from tests.fixtures.archive import Key
from tests.fixtures.command import tool
from toolkit.errors import Malformed, NotFound, Untrusted
from toolkit.fetch import verify
from toolkit.fetch.verify import (
    Keyring,
    expired_signers,
    find_keyring,
    load_keyring,
    load_keyrings,
    only,
    unverified_inline,
    verify_detached,
    verify_inline,
)

TEXT = b"Origin: Test\nSuite: stable\nSHA256:\n " + b"a" * 64 + b" 1 main/binary-amd64/Packages\n- a line with a dash\n"


@pytest.fixture(scope="module")
def key() -> Key:
    return Key()


@pytest.fixture
def keyring(key: Key, tmp_path: Path) -> Keyring:
    path = tmp_path / "archive.pgp"
    path.write_bytes(key.certificate)
    return load_keyring(str(path))


def fingerprint(key: Key) -> str:
    return pysequoia.Cert.from_bytes(key.certificate).fingerprint.upper()


def test_a_good_signature_gives_back_the_signed_text(key: Key, keyring: Keyring) -> None:
    found = verify_inline(key.clearsign(TEXT), keyring, what="it")
    assert found.text.rstrip(b"\n") == TEXT.rstrip(b"\n")
    assert found.signed_by == (fingerprint(key),)
    assert verify_detached(TEXT, key.detached(TEXT), keyring, what="it").text == TEXT


def test_a_changed_text_is_refused(key: Key, keyring: Keyring) -> None:
    changed = key.clearsign(TEXT).replace(b"stable", b"stablf")
    with pytest.raises(Untrusted, match="the file was changed"):
        verify_inline(changed, keyring, what="it")
    with pytest.raises(Untrusted, match="the file was changed"):
        verify_detached(TEXT + b" ", key.detached(TEXT), keyring, what="it")


class LongAgo(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "LongAgo":
        return cls(2020, 1, 1, tzinfo=tz)


def test_a_clock_that_is_behind_is_named(key: Key, keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequoia calls a signature of the future bad, and does not say why; here the text is changed in its place."""
    monkeypatch.setattr(verify, "datetime", LongAgo)
    told = "made on .* UTC, but this machine's clock says Wed, 01 Jan 2020"
    with pytest.raises(Untrusted, match=told) as caught:
        verify_inline(key.clearsign(TEXT).replace(b"stable", b"stablf"), keyring, what="it")
    assert "date -u" in caught.value.hint
    with pytest.raises(Untrusted, match=told):
        verify_detached(TEXT + b" ", key.detached(TEXT), keyring, what="it")


def test_another_key_is_refused_and_named(keyring: Keyring) -> None:
    other = Key("Mallory <mallory@example.invalid>")
    with pytest.raises(Untrusted, match="no good signature by a key of") as caught:
        verify_inline(other.clearsign(TEXT), keyring, what="it")
    assert "--keyring" in caught.value.hint
    with pytest.raises(Untrusted):
        verify_detached(TEXT, other.detached(TEXT), keyring, what="it")


def test_one_good_signature_among_several_is_enough(key: Key, keyring: Keyring) -> None:
    # An archive signs with its old and its new key while one takes over from the other.
    other = Key("New Key <new@example.invalid>")
    both = pysequoia.Sig.from_bytes(other.detached(TEXT)), pysequoia.Sig.from_bytes(key.detached(TEXT))
    joined = b"".join(bytes(one) for one in both)
    assert verify_detached(TEXT, joined, keyring, what="it").signed_by == (fingerprint(key),)
    armoured = pysequoia.armor(joined, pysequoia.ArmorKind.Signature).encode()
    assert verify_detached(TEXT, armoured, keyring, what="it").signed_by == (fingerprint(key),)
    concatenated = other.detached(TEXT) + key.detached(TEXT)
    assert verify_detached(TEXT, concatenated, keyring, what="it").signed_by == (fingerprint(key),)


def begin(data: bytes) -> int:
    return data.index(b"-----BEGIN PGP SIGNATURE-----")


B1 = {
    "text before": lambda data: b"SHA256: forged\n" + data,
    "empty lines before": lambda data: b"\n\n" + data,
    "text after": lambda data: data + b"\nSHA256: forged\n",
    "two messages": lambda data: data + data,
    "a message inside": lambda data: data.replace(b"Suite:", b"-----BEGIN PGP SIGNED MESSAGE-----\n\nSuite:", 1),
    "no escape of dashes": lambda data: data.replace(b"Hash:", b"NotDashEscaped: yes\nHash:", 1),
    "unknown header": lambda data: data.replace(b"MESSAGE-----\n", b"MESSAGE-----\nComment: x\n", 1),
    "text between header and text": lambda data: data.replace(b"MESSAGE-----\n", b"MESSAGE-----\nSHA256: forged\n", 1),
    "form feed": lambda data: data.replace(b"Suite:", b"\x0cSuite:", 1),
    "NUL": lambda data: data.replace(b"Suite:", b"\x00Suite:", 1),
    "long line": lambda data: data.replace(b"Suite:", b"X: " + b"y" * (10 << 20) + b"\nSuite:", 1),
    "second signature block": lambda data: data + data[begin(data) :],
    "no signature": lambda data: data[: begin(data)],
    "cut off": lambda data: data[:-40],
    "nothing": lambda data: b"",
    "a login page": lambda data: b"<html>please pay</html>\n",
}


@pytest.mark.parametrize("name", B1)
def test_b1_anything_but_one_signed_message_is_refused(name: str, key: Key, keyring: Keyring) -> None:
    bad = B1[name](key.clearsign(TEXT))
    with pytest.raises((Malformed, Untrusted)):
        verify_inline(bad, keyring, what="it")
    if name not in ("no signature", "cut off", "second signature block"):
        with pytest.raises(Malformed):
            unverified_inline(bad, what="it")


def test_unverified_text_is_the_same_text(key: Key, keyring: Keyring) -> None:
    signed = key.clearsign(TEXT)
    assert unverified_inline(signed, what="it").rstrip(b"\n") == TEXT.rstrip(b"\n")


def test_b2_without_a_keyring_nothing_is_believed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="find keyring") as caught:
        find_keyring("debian-archive-keyring.pgp", (str(tmp_path),))
    assert "--keyring" in caught.value.hint
    with pytest.raises(Untrusted):
        load_keyrings(())
    with pytest.raises(Untrusted, match="no such file"):
        load_keyring(str(tmp_path / "missing.pgp"))
    for data in (b"", b"not a key\n", TEXT):
        (tmp_path / "bad.pgp").write_bytes(data)
        with pytest.raises(Untrusted):
            load_keyring(str(tmp_path / "bad.pgp"))


def test_keyrings_of_every_form(key: Key, tmp_path: Path) -> None:
    other = Key("Other <other@example.invalid>")
    armoured = b"".join(str(pysequoia.Cert.from_bytes(one.certificate)).encode() for one in (key, other))
    forms = {"many.gpg": key.certificate + other.certificate, "one.pgp": key.certificate, "many.asc": armoured}
    counts = {}
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        counts[name] = len(load_keyring(str(tmp_path / name)).certificates)
    assert counts == {"many.gpg": 2, "one.pgp": 1, "many.asc": 2}
    assert len(load_keyring(str(tmp_path)).certificates) == 5


def test_a_key_that_expired_later_still_vouches_for_what_it_signed(tmp_path: Path) -> None:
    """Archived suites: nobody signs them anew when the keys of their time have run out."""
    # The library dates a new key a minute back, so it is good for some three seconds more.
    secret = pysequoia.Tsk.generate("Short <short@example.invalid>", validity_seconds=63)
    signed = bytes(pysequoia.sign(secret.signer(), TEXT, mode=pysequoia.SignatureMode.CLEAR))
    path = tmp_path / "short.pgp"
    path.write_bytes(bytes(secret.extract_certificate()))
    keyring = load_keyring(str(path))
    expiration = keyring.certificates[0].expiration
    assert expiration is not None
    time.sleep(max(expiration.timestamp() - time.time() + 1, 0))
    assert verify_inline(signed, keyring, what="it").text.startswith(b"Origin: Test")


class Gpg:
    """GnuPG with a home of its own and a clock of its own: a day of 2020, a minute further at each call."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self.home = home
        self.calls = 0

    def __call__(self, *words: str, input: bytes = b"") -> bytes:
        argv = [tool("gpg"), "--homedir", str(self.home), "--batch", "--quiet", "--passphrase", "", *words]
        self.calls += 1
        argv[1:1] = ["--faked-system-time", f"20200601T12{self.calls:02}00!"]
        return subprocess.run(argv, input=input, capture_output=True, check=True).stdout


@pytest.fixture
def gpg(tmp_path: Path) -> Iterator[Gpg]:
    found = Gpg(tmp_path / "gnupg")
    yield found
    subprocess.run([tool("gpgconf"), "--homedir", str(found.home), "--kill", "all"], check=True)


def test_a_renewed_key_beside_its_old_copy_is_no_expired_one(gpg: Gpg, tmp_path: Path) -> None:
    gpg("--quick-gen-key", "Archive <a@example.invalid>", "ed25519", "sign", "1d")
    old = gpg("--export")
    (fingerprint,) = {
        line.split(":")[9] for line in gpg("-k", "--with-colons").decode().split("\n") if line[:3] == "fpr"
    }
    gpg("--quick-set-expire", fingerprint, "80y")
    signed = gpg("--clearsign", input=TEXT)
    now = datetime.now(timezone.utc)  # noqa: UP017
    for data, count in ((old, 1), (gpg("--export"), 0), (old + gpg("--export"), 0), (gpg("--export") + old, 0)):
        (tmp_path / "ring.gpg").write_bytes(data)
        ring = load_keyring(str(tmp_path / "ring.gpg"))
        verified = verify_inline(signed, ring, what="it")
        assert len(expired_signers(ring, verified.signed_by, now)) == count


def test_keys_that_can_not_be_used_are_told_by_what_they_are(gpg: Gpg, tmp_path: Path, key: Key) -> None:
    gpg("--cert-digest-algo", "SHA1", "--quick-gen-key", "Old <o@example.invalid>", "rsa2048", "sign", "never")
    (tmp_path / "sha1.gpg").write_bytes(gpg("--export"))
    signed = gpg("--digest-algo", "SHA512", "--clearsign", input=TEXT)
    with pytest.raises(Untrusted, match="has only a SHA-1 self-signature"):
        verify_inline(signed, load_keyring(str(tmp_path / "sha1.gpg")), what="it")
    with pytest.raises(Untrusted, match="a GnuPG keybox") as caught:
        load_keyring(str(gpg.home / "pubring.kbx"))
    assert "--export" in caught.value.hint


def test_fingerprints_select_who_may_sign(key: Key) -> None:
    """sources.list(5), Signed-By: of the keys of a file those alone, and with `!` without their subkeys."""
    signed = key.clearsign(TEXT)
    keyring = Keyring("ring", (pysequoia.Cert.from_bytes(key.certificate),))
    (valid,) = pysequoia.verify(bytes=signed, store=lambda _: list(keyring.certificates)).valid_sigs
    primary, subkey = str(valid.certificate), str(valid.signing_key)
    assert primary != subkey
    for good in (primary, primary[-16:].upper(), subkey + "!", subkey):
        assert verify_inline(signed, only(keyring, [good, "0" * 40]), what="it").signed_by == (primary.upper(),)
    with pytest.raises(Untrusted, match=f"signed by {subkey.upper()}; only {primary.upper()}! may sign it"):
        verify_inline(signed, only(keyring, [primary + "!"]), what="it")
    assert only(keyring, ["0" * 40]).certificates == ()


@pytest.mark.parametrize("name", ["debian-archive-keyring.pgp", "debian-archive-removed-keys.pgp"])
def test_the_shipped_keyrings_can_be_read(name: str) -> None:
    from toolkit import places

    assert len(load_keyring(find_keyring(name, (places.shipped("keyrings"),))).certificates) >= 9
