"""TLS: how a server is to be verified, which certificate is ours, and what an error of it means."""

import os
from typing import TYPE_CHECKING, NamedTuple

from toolkit.errors import Usage, reason
from toolkit.fetch.transfer import Broken

if TYPE_CHECKING:
    import ssl


class NotSecure(Broken):
    """The server does not speak TLS: the URL is https, and the server's port is for http."""


class Distrusted(Broken):
    """We do not trust the server's certificate, or it is for another name."""


class Tls(NamedTuple):
    """How to talk to one server (HOST:PORT), in addition to the authorities that this machine trusts.

    `authorities`, `certificate` and `private_key` are PEM files; without `verify` any certificate is accepted.
    """

    authorities: tuple[str, ...] = ()
    certificate: str = ""
    private_key: str = ""
    verify: bool = True


def named_authorities() -> str:
    """The file or folder of authorities that the user has named, as requests reads it; "" for none."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""


def failure(error: Exception, text: str) -> Broken:
    """What went wrong with TLS. `text` is the reason in plain words."""
    said = str(error).lower().replace("_", " ")
    kind = Distrusted if "certificate verify failed" in said else NotSecure if _is_not_tls(said) else Broken
    return kind(text)


def load_own(context: "ssl.SSLContext", tls: Tls) -> None:
    """Our certificate for the server, and its authorities. Raises Usage for files that can't be used."""
    check_certificate(tls.certificate, tls.private_key)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.private_key or None)
    for path in tls.authorities:
        load_authorities(context, path)


def load_authorities(context: "ssl.SSLContext", path: str) -> None:
    """Trust the authorities in a PEM file, or in a folder as openssl-rehash(1) makes it. Raises Usage."""
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(path)
    except OSError as error:  # SSLError is one
        because = (getattr(error, "reason", "") or reason(error)).lower().replace("_", " ")
        raise Usage(f"use the certificate authority {path!r}", because=because, hint="it is a PEM file") from None


def check_certificate(certificate: str, private_key: str) -> None:
    """Raise Usage, before any request, for a certificate or key that TLS could not use."""
    if not certificate:
        if private_key:
            raise Usage("read the command line", because="--private-key needs --certificate FILE")
        return
    import ssl

    encrypted = "its private key has a passphrase"
    doing = f"use the certificate {certificate!r}" + (f" and its key {private_key!r}" if private_key else "")

    def ask() -> str:
        raise Usage(doing, because=encrypted, hint="openssl pkey -in KEY -out PLAIN removes it; keep PLAIN private")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, private_key or None, ask)
    except OSError as error:  # SSLError is one
        because = (getattr(error, "reason", "") or reason(error)).lower().replace("_", " ")
        raise Usage(doing, because=because, hint="both are PEM files; the key may be in the certificate's") from None


def _is_not_tls(text: str) -> bool:
    """Whether OpenSSL's error means that what it read was not TLS at all."""
    return any(
        words in text for words in ("wrong version number", "record layer failure", "http request", "eof occurred")
    )
