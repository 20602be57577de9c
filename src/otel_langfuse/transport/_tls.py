"""The certificates that a user names: whom to trust instead of the system's store, and who we are."""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_langfuse.errors import ConfigError


class Tls(NamedTuple):
    """Paths of PEM files.

    ``certificate_file`` holds the certificates of authorities that are trusted *instead of* the system's;
    ``client_certificate_file`` our own certificate, with those that lead to its authority; ``client_key_file`` its private key,
    without a passphrase, where that is not in the same file.
    """

    certificate_file: str | None = None
    client_certificate_file: str | None = None
    client_key_file: str | None = None


NO_TLS: Final = Tls()
"""The system's store, and nobody."""


def checked(tls: Tls) -> Tls:
    """The same, if it can be used. Reads the files.

    Raises:
        ConfigError: a file is not there or does not hold what it should, or a key is given without its certificate.
    """
    if tls == NO_TLS:
        return tls
    import ssl  # noqa: PLC0415 - it is slow to import, and whoever sends over HTTPS loads it anyway

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.certificate_file is not None:
        try:
            context.load_verify_locations(tls.certificate_file)
        except (OSError, ValueError):
            raise ConfigError(f"certificate_file={tls.certificate_file!r}: expected a PEM file of certificates") from None
    if tls.client_certificate_file is None:
        if tls.client_key_file is not None:
            raise ConfigError("client_key_file=...: expected together with client_certificate_file=")
        return tls
    try:
        # Without a password of ours, OpenSSL asks for one at the terminal, and waits.
        context.load_cert_chain(tls.client_certificate_file, tls.client_key_file, password="")
    except (OSError, ValueError):
        raise ConfigError(
            f"client_certificate_file={tls.client_certificate_file!r}, client_key_file={tls.client_key_file!r}: expected PEM "
            "files of a certificate and its private key, without a passphrase"
        ) from None
    return tls
