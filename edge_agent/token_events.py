"""The token events of one prompt, on every bus that it was asked on."""

from __future__ import annotations

import msgspec

from edge_agent.bus import Bus
from edge_agent.request import AnswerToken, TokenEvent


class TokenEvents:
    """Publishes each token as it comes; a bus that joins late first gets those that it missed.

    Args:
        topic: the device's stream topic.
        request_id: the prompt's id.
        bus: where it was asked first.
    """

    def __init__(self, topic: str, request_id: str, bus: Bus) -> None:
        self._topic = topic
        self._id = request_id
        self._buses = [bus]
        self._said: list[bytes] = []

    def join(self, bus: Bus) -> None:
        """Also publish on this bus."""
        if bus in self._buses:
            return
        self._buses.append(bus)
        for event in self._said:
            bus.transport.publish_soon(self._topic, event)

    def send(self, token: AnswerToken) -> None:
        """The next token."""
        self._publish(TokenEvent.of(self._id, len(self._said), token))

    def end(self) -> None:
        """There are no more."""
        self._publish(TokenEvent(self._id, len(self._said), done=True))

    def _publish(self, event: TokenEvent) -> None:
        payload = msgspec.json.encode(event)
        self._said.append(payload)
        for bus in self._buses:
            bus.transport.publish_soon(self._topic, payload)
