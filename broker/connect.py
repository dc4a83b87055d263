"""From settings to a transport."""

from __future__ import annotations

import ssl

from broker.mqtt import MqttTransport
from broker.mqtt_settings import MqttSettings
from broker.presence import Presence
from shared.config import BrokerSection
from shared.errors import ConfigError


def transport_for(broker: BrokerSection, client_id: str, presence: Presence | None = None) -> MqttTransport:
    """A transport that is not started yet.

    Args:
        broker: where the broker is and who we are to it.
        client_id: unique at the broker; a second client of the same id takes over from the first.
        presence: the status to announce, if any.

    Raises:
        ConfigError: there is no broker, or a TLS file can't be used.
    """
    if not broker.host:
        msg = "broker.host is empty, so there is no broker to connect to: name one with broker.host"
        raise ConfigError(msg)
    settings = MqttSettings(
        host=broker.host,
        port=broker.port,
        client_id=client_id,
        username=broker.username or None,
        password=broker.password or None,
        tls=_tls_of(broker) if broker.tls else None,
        presence=presence,
    )
    return MqttTransport(settings)


def _tls_of(broker: BrokerSection) -> ssl.SSLContext:
    return tls_context(
        broker.ca_file, broker.certfile, broker.keyfile, check_name=broker.certificate_has_its_name
    )


def tls_context(
    ca_file: str = "", certfile: str = "", keyfile: str = "", *, check_name: bool = True
) -> ssl.SSLContext:
    """TLS that checks the broker's certificate and name.

    Args:
        ca_file: authority to trust, or the broker's own certificate; empty: the system's authorities.
        certfile: our own certificate, where the broker asks for one.
        keyfile: its key, without a passphrase; empty: it stands in `certfile` too.
        check_name: False where `ca_file` holds no certificate but the broker's own.

    Raises:
        ConfigError: a file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        # What is in the file is trusted, whoever has signed it; from Python 3.13 on this is the default.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = check_name
        if certfile:
            # An empty passphrase is refused; without one OpenSSL would ask at the terminal and wait.
            context.load_cert_chain(certfile, keyfile or None, password="")
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (ca_file, certfile, keyfile)))
        raise ConfigError(f"can't use the broker's TLS files {files}: {error}") from None
    return context
