"""Sends what is ready together for one peer as one message.

Nothing waits to be grouped: what is sent in one turn of the event loop goes out at the end of that turn. A
message that is alone then travels on its own topic, in its own format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from broker.transport import Transport
from shared.wire.codec import encode_group
from shared.wire.group import GROUP_HEAD_BYTES, MAX_GROUP_BYTES, MAX_PARTS, PART_HEAD_BYTES, Part


class Letter(NamedTuple):
    """A message that is ready.

    Attributes:
        topic: where it travels alone.
        session: whose it is.
        payload: the message.
    """

    topic: str
    session: str
    payload: bytes


class GroupSender:
    """The way to the peers of many sessions.

    Args:
        transport: what it sends with.
        on_unsent: told of each letter that could not be sent after all.

    Attributes:
        max_parts: of a group; 1 sends every letter alone (`bench transport` compares the two).
    """

    max_parts: ClassVar[int] = MAX_PARTS

    def __init__(self, transport: Transport, on_unsent: Callable[[Letter], None]) -> None:
        self._transport = transport
        self._on_unsent = on_unsent
        self._ready: dict[str, list[Letter]] = {}

    def send(self, group_topic: str, letter: Letter) -> bool:
        """Send a letter, together with all others for `group_topic` in this turn of the loop.

        Returns:
            False when there is no connection; it is then not sent, and `on_unsent` is not told.
        """
        if not self._transport.connected:
            return False
        if not self._ready:
            asyncio.get_running_loop().call_soon(self.flush)
        self._ready.setdefault(group_topic, []).append(letter)
        return True

    def flush(self) -> None:
        """Send what is ready now, and have it written."""
        ready, self._ready = self._ready, {}
        for group_topic, letters in ready.items():
            for group in groups_of(letters, self.max_parts):
                if not self._publish(group_topic, group):
                    for letter in group:
                        self._on_unsent(letter)
        if ready:
            self._transport.flush()

    def _publish(self, group_topic: str, group: Sequence[Letter]) -> bool:
        if len(group) == 1:
            return self._transport.publish_soon(group[0].topic, group[0].payload)
        parts = [Part(letter.session, letter.payload) for letter in group]
        return self._transport.publish_soon(group_topic, encode_group(parts))


def groups_of(letters: Sequence[Letter], max_parts: int = MAX_PARTS) -> Iterator[Sequence[Letter]]:
    """Cut letters, in their order, into groups that keep the wire's bounds; a large one stands alone."""
    begin, size = 0, GROUP_HEAD_BYTES
    for at, letter in enumerate(letters):
        more = PART_HEAD_BYTES + len(letter.payload)
        if at > begin and (size + more > MAX_GROUP_BYTES or at - begin == max_parts):
            yield letters[begin:at]
            begin, size = at, GROUP_HEAD_BYTES
        size += more
    if letters:
        yield letters[begin:]
