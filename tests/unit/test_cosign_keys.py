"""Keys of cosign's signatures: files, PEM texts, and what is none."""

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from toolkit.errors import HostLacks, Untrusted
from toolkit.image.trust import cosign


def pem(key: PrivateKeyTypes) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, kind)


def signed(key: ec.EllipticCurvePrivateKey, payload: bytes = b"text") -> cosign.Signed:
    return cosign.Signed("it", payload, key.sign(payload, ec.ECDSA(hashes.SHA256())))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda one: one.name)
def test_one_of_the_keys_is_enough(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    first, second, other = (ec.generate_private_key(curve) for _ in range(3))
    (tmp_path / "first.pub").write_bytes(pem(first))
    keys = cosign.load([str(tmp_path / "first.pub")], [pem(second)])
    for key in (first, second):
        keys.verify(signed(key))
        for wrong in (b"", b"\x30\x00", signed(key).signature[:-1], signed(other).signature):
            with pytest.raises(Untrusted, match="no key of the policy"):
                keys.verify(signed(key)._replace(signature=wrong))
        with pytest.raises(Untrusted, match="no key of the policy"):
            keys.verify(signed(key)._replace(payload=b"another"))
    with pytest.raises(Untrusted):
        keys.verify(signed(other))


def test_what_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="no such file"):
        cosign.load([str(tmp_path / "none")], [])
    (tmp_path / "long").write_bytes(b"x" * (cosign.LIMIT_BYTES + 1))
    with pytest.raises(Untrusted, match="long"):
        cosign.load([str(tmp_path / "long")], [])
    for text in (b"", b"nonsense", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(Untrusted, match="PEM"):
            cosign.load([], [text])
    with pytest.raises(Untrusted, match="ECDSA"):
        cosign.load([], [pem(rsa.generate_private_key(65537, 2048))])


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pem(ec.generate_private_key(ec.SECP256R1()))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(HostLacks) as caught:
        cosign.load([], [text])
    assert "pip install 'ctk-oci[cosign]'" in caught.value.hint
