"""Signed OpenPGP messages: what gpg makes is verified; what is anything else, or grows without end, is refused."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import gpg
from tests.fixtures.gpg import Gpg
from toolkit.errors import Malformed, NotFound, Untrusted
from toolkit.fetch import signed_message, verify
from toolkit.fetch.verify import Keyring

TEXT = b'{"a": 1}'


@pytest.fixture(scope="module")
def theirs() -> Iterator[Gpg]:
    with gpg.home() as found:
        yield found


@pytest.fixture(scope="module")
def key(theirs: Gpg) -> str:
    return theirs.key("signer")


@pytest.fixture(scope="module")
def ring(theirs: Gpg, key: str, tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return verify.load_keyring(str(theirs.public(key, tmp_path_factory.mktemp("ring") / "key.gpg")))


def test_what_gpg_signs(theirs: Gpg, key: str, ring: Keyring) -> None:
    for words in ((), ("--compress-algo", "zlib"), ("-z", "0"), ("-z", "9")):
        found = signed_message.verify_message(theirs.sign(TEXT, key, *words), ring, what="it")
        assert found.text == TEXT and found.signed_by == (key,)
    long = b"x" * 40_000  # in parts
    assert signed_message.verify_message(theirs.sign(long, key, "-z", "0"), ring, what="it").text == long


def test_what_we_sign(theirs: Gpg, ring: Keyring, key: str, tmp_path: Path) -> None:
    made = signed_message.signer(str(theirs.secret(key, tmp_path / "secret")))(TEXT)
    assert signed_message.verify_message(made, ring, what="it").signed_by == (key,)
    assert theirs("--decrypt", input=made) == TEXT


def test_a_passphrase(theirs: Gpg, tmp_path: Path) -> None:
    locked = theirs.key("locked", passphrase="secret")
    path = str(theirs.secret(locked, tmp_path / "locked", "secret"))
    assert theirs("--decrypt", input=signed_message.signer(path, "secret")(TEXT)) == TEXT
    for wrong in ("", "other"):
        with pytest.raises(Untrusted, match="sign with the key"):
            signed_message.signer(path, wrong)(TEXT)


def test_what_is_no_key(theirs: Gpg, key: str, tmp_path: Path) -> None:
    public = theirs.public(key, tmp_path / "public")
    (tmp_path / "empty").write_bytes(b"")
    for path, error in ((public, Untrusted), (tmp_path / "empty", Untrusted), (tmp_path / "none", NotFound)):
        with pytest.raises(error):
            signed_message.signer(str(path))(TEXT)


def test_an_unknown_key(theirs: Gpg, ring: Keyring) -> None:
    other = theirs.key("other")
    with pytest.raises(Untrusted, match=f"(?i){other}|{other[-16:]}"):
        signed_message.verify_message(theirs.sign(TEXT, other), ring, what="it")


def test_an_expired_key_and_an_expired_signature(theirs: Gpg, ring: Keyring, key: str, tmp_path: Path) -> None:
    then = ("--faked-system-time", "20240101T000000!")
    old = theirs.key("old", *then, lasts="1d")
    known = verify.load_keyring(str(theirs.public(old, tmp_path / "old.gpg")))
    with pytest.raises(Untrusted, match="has expired"):
        signed_message.verify_message(theirs.sign(TEXT, old, *then), known, what="it")
    short = theirs.key("short", *then)
    known = verify.load_keyring(str(theirs.public(short, tmp_path / "short.gpg")))
    signature = theirs.sign(TEXT, short, *then, "--default-sig-expire", "1d")
    with pytest.raises(Untrusted):
        signed_message.verify_message(signature, known, what="it")
    assert signed_message.verify_message(theirs.sign(TEXT, short, *then), known, what="it").text == TEXT


def old_packet(kind: int, body: bytes) -> bytes:
    """A packet with a length of four bytes (RFC 9580 section 4.2.2)."""
    return bytes([0x80 | kind << 2 | 2]) + len(body).to_bytes(4) + body


def compressed(body: bytes) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    return old_packet(8, b"\x01" + deflate.compress(body) + deflate.flush())


def test_everything_else_is_refused(theirs: Gpg, ring: Keyring, key: str) -> None:
    good = theirs.sign(TEXT, key, "-z", "0")
    one_pass, rest = good[: 2 + good[1]], good[2 + good[1] :]
    bomb = compressed(compressed(bytes(50_000_000)))
    assert len(bomb) < 1000
    cases = {
        "nothing": b"",
        "text": TEXT,
        "a page": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "noise": bytes(range(256)) * 4,
        "cut off": good[:-1],
        "more behind": good + b"\0",
        "two messages": good + good,
        "no signature": old_packet(11, b"b\0\0\0\0\0" + TEXT),
        "only a signature": theirs("--local-user", key, "--output", "-", "--detach-sign", input=TEXT),
        "armour": theirs.sign(TEXT, key, "--armor"),
        "clear text": theirs("--local-user", key, "--output", "-", "--clear-sign", input=TEXT),
        "bzip2": theirs.sign(TEXT, key, "--compress-algo", "bzip2"),
        "compressed twice": compressed(compressed(good)),
        "compressed within": one_pass + compressed(rest),
        "a bomb": bomb,
        "a bomb within": one_pass + bomb + rest,
        "long": good + bytes(signed_message.LIMIT_BYTES),
        "a length beyond the end": b"\xcb\xff\xff\xff\xff\xff",
        "a part beyond the end": b"\xcb\xfe",
        "changed": good.replace(b'"a"', b'"b"'),
    }
    for what, data in cases.items():
        with pytest.raises((Malformed, Untrusted)):
            signed_message.verify_message(data, ring, what=what)
            pytest.fail(what)
    assert signed_message.verify_message(compressed(good), ring, what="compressed once").text == TEXT
