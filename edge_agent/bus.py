"""The buses of a home: the brokers at which devices speak to the edge.

    devices ─── home bus ───┐
                            ├── edge agent
    devices ─── cloud's ────┘       │
                   └── workers ─────┘

A home has one or both. Each has its own connection and its own queue of answers, so that one being away
holds up nothing on the other.
"""

from __future__ import annotations

from typing import Final

from broker.transport import Transport
from edge_agent.deliveries import Deliveries, Marks

CLOUD: Final = "cloud"
HOME: Final = "home"

# A user property on what an edge publishes itself or has carried from bus to bus; its value is the edge's
# id. No edge carries such a message (on), so none goes in circles and no answer leaves its bus.
HOP: Final = "antiphon-hop"


class Bus:
    """One broker, with the answers on their way to its devices.

    Args:
        name: `CLOUD` or `HOME`, for the log and the ledger.
        transport: the connection; started and stopped by the caller.
        marks: user properties of every answer.
    """

    def __init__(self, name: str, transport: Transport, marks: Marks = ()) -> None:
        self.name = name
        self.transport = transport
        self.deliveries = Deliveries(transport, marks)
