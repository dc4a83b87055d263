"""What an embedded broker allows; every queue and wait in it is bounded by one of these."""

from __future__ import annotations

import msgspec

from broker.topics import TopicLimits
from shared.errors import ConfigError


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker listens and how much it takes.

    Attributes:
        host: address to listen on.
        port: 0 takes a free one; `EmbeddedBroker.port` tells which.
        max_connections: further clients are refused with "server busy".
        max_sessions: connected and kept ones together.
        max_session_expiry_s: how long a session may outlive its connection.
        max_keep_alive_s: longer (or no) keep-alives are cut to it on MQTT 5; 0 leaves the client's.
        connect_timeout_s: a socket that has not sent CONNECT by then is closed.
        close_timeout_s: how long a closing client may take to read its last bytes.
        max_packet_bytes: the largest packet read; MQTT 5 clients are told.
        max_inflight: unacknowledged QoS 1 messages to one client.
        receive_maximum: unacknowledged QoS 1 messages from one client.
        max_queued_messages: waiting messages per client and QoS. Past it QoS 0 is dropped; a connected
            client with that many QoS 1 messages waiting does not read, and is disconnected.
        max_queued_bytes: the same bound in bytes, for both QoS together.
        max_total_queued_bytes: what waits or is unacknowledged for all clients together; a message counts
            once. Past it the client that holds most loses the older half; it is disconnected, if connected.
        max_write_buffer_bytes: bytes handed to the socket before further messages wait in the queue.
        max_subscriptions_per_client: further filters are refused with "quota exceeded".
        max_subscriptions: of all clients together; further filters are refused in the same way.
        max_retained_messages: further topics are refused with "quota exceeded".
        max_retained_bytes: the same bound in bytes, with what a topic's place in the tree takes.
        max_will_bytes: clients with a longer will (topic, properties, payload) are refused with "quota
            exceeded"; each session keeps one.
        max_topic_aliases: topic aliases one client may use towards the broker.
        max_client_id_bytes: longer client ids are refused; ours have up to 136, tenant and id being 64 each.
        max_topic_bytes: longer topics are refused.
        max_topic_levels: deeper topics are refused.
        password_file: in Mosquitto's own format (``mosquitto_passwd``); None lets everybody in.
        acl_file: in Mosquitto's own format; None allows everything.
        certfile: the server certificate; with `keyfile` it turns TLS on.
        keyfile: the server certificate's key.
        cafile: what client certificates are checked against.
        require_certificate: clients must bring a certificate signed by `cafile`.
        use_identity_as_username: the certificate's common name is the user name.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    max_connections: int = 1_024
    max_sessions: int = 4_096
    max_session_expiry_s: int = 86_400
    max_keep_alive_s: int = 0
    connect_timeout_s: float = 5.0
    close_timeout_s: float = 1.0
    max_packet_bytes: int = 1_048_576
    max_inflight: int = 256
    receive_maximum: int = 256
    max_queued_messages: int = 4_096
    max_queued_bytes: int = 16_777_216
    max_total_queued_bytes: int = 268_435_456
    max_write_buffer_bytes: int = 262_144
    max_subscriptions_per_client: int = 1_024
    max_subscriptions: int = 32_768
    max_retained_messages: int = 16_384
    max_retained_bytes: int = 67_108_864
    max_will_bytes: int = 16_384
    max_topic_aliases: int = 32
    max_client_id_bytes: int = 256
    max_topic_bytes: int = 1_024
    max_topic_levels: int = 32
    password_file: str | None = None
    acl_file: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cafile: str | None = None
    require_certificate: bool = False
    use_identity_as_username: bool = False

    @property
    def topic_limits(self) -> TopicLimits:
        """How long and deep topics may be."""
        return TopicLimits(self.max_topic_bytes, self.max_topic_levels)

    def check_tls(self) -> None:
        """See that no part of TLS is left out, which would leave a door open unnoticed.

        Raises:
            ConfigError: something needs another setting beside it.
        """
        needs = {
            "keyfile": (self.keyfile, "certfile", self.certfile),
            "cafile": (self.cafile, "certfile", self.certfile),
            "require_certificate": (self.require_certificate, "cafile", self.cafile),
            "use_identity_as_username": (self.use_identity_as_username, "cafile", self.cafile),
        }
        for name, (given, needed, there) in needs.items():
            if given and not there:
                raise ConfigError(f"the broker's {name} needs its {needed}: give both or neither")
