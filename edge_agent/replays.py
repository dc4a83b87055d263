"""Retained messages that a broker sends again to whoever connects anew, told from new ones."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from broker.transport import Incoming

# More topics than that are not remembered; a replay of one is then carried again, which changes nothing.
MAX_TOPICS: Final = 4096


class Replays:
    """What was last heard as retained, by topic.

    A connection's first retained message of a topic is a replay if it says what the last one said.
    """

    def __init__(self) -> None:
        self._connection = 0
        # Topic → digest of its payload, and the connection it was last heard on; the latest heard last.
        self._heard: dict[str, tuple[bytes, int]] = {}

    def lost(self) -> None:
        """The connection is gone; on the next one everything retained is sent again."""
        self._connection += 1

    def forget(self, topic: str | None = None) -> None:
        """What this topic (None: every topic) said was not carried, or is needed again."""
        if topic is None:
            self._heard.clear()
        else:
            self._heard.pop(topic, None)

    def hear(self, incoming: Incoming) -> bool:
        """Take a retained message in; whether it is a replay."""
        digest = blake2b(incoming.payload, digest_size=16).digest()
        known, connection = self._heard.pop(incoming.topic, (b"", self._connection))
        self._heard[incoming.topic] = (digest, self._connection)
        if len(self._heard) > MAX_TOPICS:
            del self._heard[next(iter(self._heard))]
        return connection != self._connection and known == digest
