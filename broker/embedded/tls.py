"""TLS of the embedded broker: its files, and whether a client could take its certificate for good today."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from broker.embedded.settings import BrokerSettings
from shared.errors import ConfigError

_FLIGHTS = 4
"""A handshake over TLS 1.2 takes so many; over 1.3 fewer."""


def server_context(settings: BrokerSettings) -> ssl.SSLContext | None:
    """TLS as the settings want it; None: without.

    Raises:
        ConfigError: a part is missing, a file can't be used, or the certificate is not valid today.
    """
    settings.check_tls()
    if settings.certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty passphrase is refused; without one OpenSSL would ask at the terminal and wait.
        context.load_cert_chain(settings.certfile, settings.keyfile, password="")
        _check_valid(context, settings.certfile)
        if settings.cafile is not None:
            context.load_verify_locations(settings.cafile)
            context.verify_mode = ssl.CERT_REQUIRED if settings.require_certificate else ssl.CERT_OPTIONAL
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"no client would trust {settings.certfile}: {error.verify_message}; renew it, or check this "
            "machine's clock"
        ) from None
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (settings.certfile, settings.keyfile, settings.cafile)))
        raise ConfigError(f"can't use the broker's TLS files {files}: {error}") from None
    return context


def _check_valid(server: ssl.SSLContext, certfile: str) -> None:
    """Shake hands in memory with a client that trusts this certificate, whatever its name.

    Python has no other way to ask OpenSSL whether a certificate is valid now.

    Raises:
        ssl.SSLCertVerificationError: even that client refuses; mostly because it has expired.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certfile)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    _shake_hands((client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)))


def _shake_hands(ends: Iterable[ssl.SSLObject]) -> None:
    ends = list(ends)
    for _ in range(_FLIGHTS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue  # its turn comes again when the other end has written
