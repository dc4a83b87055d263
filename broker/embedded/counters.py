"""What the broker counted since it started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Events by kind; read them whenever you like, only the broker writes."""

    connections: int = 0
    received: int = 0
    delivered: int = 0
    redelivered: int = 0
    dropped_queue_full: int = 0
    dropped_expired: int = 0
    dropped_too_large: int = 0
    refused_not_authorised: int = 0
    protocol_errors: int = 0
    disconnected_quota: int = 0
