"""Our own connections to a test's broker."""

from __future__ import annotations

from typing import Any

from broker.mqtt import MqttTransport
from broker.mqtt_settings import MqttSettings
from tests.servers import ServerProcess

# A broker that was restarted is found again while the test still waits.
LONGEST_RETRY_S = 0.2


def link_to(server: ServerProcess, client_id: str, **settings: Any) -> MqttTransport:
    """A connection, not begun yet, that comes back soon after a loss."""
    return MqttTransport(
        MqttSettings(
            host=server.host,
            port=server.port,
            client_id=client_id,
            longest_retry_s=LONGEST_RETRY_S,
            **settings,
        )
    )
