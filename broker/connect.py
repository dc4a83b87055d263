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
        ConfigError: a TLS file can't be used.
    """
    settings = MqttSettings(
        host=broker.host,
        port=broker.port,
        client_id=client_id,
        username=broker.username or None,
        password=broker.password or None,
        tls=tls_context(broker.ca_file, broker.certfile, broker.keyfile) if broker.tls else None,
        presence=presence,
    )
    return MqttTransport(settings)


def tls_context(ca_file: str = "", certfile: str = "", keyfile: str = "") -> ssl.SSLContext:
    """TLS that checks the broker's certificate and name.

    Args:
        ca_file: authority to trust; empty: the system's.
        certfile: our own certificate, where the broker asks for one.
        keyfile: its key, without a passphrase; empty: it stands in `certfile` too.

    Raises:
        ConfigError: a file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        if certfile:
            # An empty passphrase is refused; without one OpenSSL would ask at the terminal and wait.
            context.load_cert_chain(certfile, keyfile or None, password="")
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (ca_file, certfile, keyfile)))
        raise ConfigError(f"can't use the broker's TLS files {files}: {error}") from None
    return context
