"""How one transport reaches its broker."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from broker.presence import Presence


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """Where the broker is and how to keep in touch with it.

    Attributes:
        host: name or address of the broker.
        port: its port.
        client_id: unique at the broker; a second client of the same id takes over from the first.
        username: where the broker asks for one.
        password: the same; never in a repr.
        tls: encrypts when given.
        presence: the status to announce; its will speaks when we are lost.
        keepalive_s: silence after which we ask whether the broker is alive; no answer for as long is a loss.
        connect_timeout_s: how long connecting, and each acknowledgement of a subscription, may take.
        first_retry_s: the longest wait before the first attempt after a loss.
        longest_retry_s: the longest wait between attempts.
        max_unwritten_bytes: payload that `publish_soon` may leave waiting for the socket.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    presence: Presence | None = None
    keepalive_s: int = 10
    connect_timeout_s: float = 5.0
    first_retry_s: float = 0.05
    longest_retry_s: float = 2.0
    max_unwritten_bytes: int = 4_194_304
