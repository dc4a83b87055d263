"""Memory of what is on its way to all clients together: how much there is, and who gives way for more.

A message counts once, in however many queues it waits; what each of its deliveries needs beside it counts
each time. Past the bound the session that holds most gives way. So whoever hoards messages, with however
many sessions, takes no room from those that hold little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.embedded.session import Delivery, Session

DELIVERY_BYTES = 192
"""A delivery, its place in a queue and among the unacknowledged; measured with tracemalloc, rounded up."""


class Budget:
    """The bytes that sessions hold: messages that wait, and those that are not acknowledged.

    Args:
        max_bytes: for all sessions together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._total_bytes = 0
        self._holders: dict[Session, int] = {}

    @property
    def total_bytes(self) -> int:
        """What all sessions hold together."""
        return self._total_bytes

    def held_by(self, session: Session) -> int:
        """What one session holds, in bytes; messages that others hold too count in full."""
        return self._holders.get(session, 0)

    def make_room(self, delivery: Delivery) -> bool:
        """See that one more delivery may be held; False when nobody can give way for it."""
        if _bytes_alone(delivery) > self._max_bytes:
            return False
        while not self._fits(delivery):
            held_bytes = self._total_bytes
            for session in sorted(self._holders, key=self.held_by, reverse=True):
                session.give_way()
                if self._fits(delivery):
                    return True
            if self._total_bytes == held_bytes:
                return False
        return True

    def hold(self, session: Session, delivery: Delivery) -> None:
        """A session keeps this delivery; saying it twice is fine."""
        if delivery.held:
            return
        delivery.held = True
        message = delivery.message
        if not message.holders:
            self._total_bytes += message.size_bytes
        message.holders += 1
        self._total_bytes += DELIVERY_BYTES
        self._holders[session] = self.held_by(session) + _bytes_alone(delivery)

    def release(self, session: Session, delivery: Delivery) -> None:
        """A session keeps it no more; one that was not kept is fine."""
        if not delivery.held:
            return
        delivery.held = False
        message = delivery.message
        message.holders -= 1
        if not message.holders:
            self._total_bytes -= message.size_bytes
        self._total_bytes -= DELIVERY_BYTES
        left = self.held_by(session) - _bytes_alone(delivery)
        if left:
            self._holders[session] = left
        else:
            del self._holders[session]

    def _fits(self, delivery: Delivery) -> bool:
        message = delivery.message
        more = DELIVERY_BYTES + (0 if message.holders else message.size_bytes)
        return self._total_bytes + more <= self._max_bytes


def _bytes_alone(delivery: Delivery) -> int:
    """What a delivery needs when nobody else holds its message."""
    return DELIVERY_BYTES + delivery.message.size_bytes
