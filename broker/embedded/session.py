"""A client's session: its subscriptions, what waits for it and what it has not acknowledged.

Source: MQTT 5 section 4.1 (state), 4.3 (QoS), 4.4 (redelivery), 4.9 (flow control).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from broker.embedded.budget import Budget
from broker.embedded.counters import Counters
from broker.embedded.message import Message
from broker.embedded.packets import Will
from broker.embedded.reasons import Reason
from broker.embedded.settings import BrokerSettings
from broker.embedded.timers import Timer

if TYPE_CHECKING:
    from broker.embedded.shared import SharedGroup

_LAST_PACKET_ID = 65_535


class Link(Protocol):
    """What a session needs of the connection it is attached to."""

    version: int
    max_packet_bytes: int
    receive_maximum: int
    closing: bool

    @property
    def writable(self) -> bool:
        """Whether the socket takes more bytes now."""

    def send_frame(self, frame: bytes) -> None:
        """Write one packet."""

    def close(self, reason: Reason) -> None:
        """Say why and close."""


class Subscription:
    """One filter of one session, with its options. Source: MQTT 5 section 3.8.3.1."""

    __slots__ = ("group", "identifier", "no_local", "qos", "retain_as_published", "session", "topic_filter")

    def __init__(
        self,
        session: Session,
        topic_filter: str,
        *,
        group: str | None = None,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int | None = None,
    ) -> None:
        self.session = session
        self.topic_filter = topic_filter
        self.group = group
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifier = identifier


class Delivery:
    """One message on its way to one session.

    Attributes:
        held: its session keeps it; the `Budget` counts it.
        waits: it stands in its session's queue.
    """

    __slots__ = (
        "dup",
        "group",
        "held",
        "message",
        "packet_id",
        "qos",
        "retain",
        "subscription_ids",
        "waits",
    )

    def __init__(
        self,
        message: Message,
        qos: int,
        *,
        retain: bool = False,
        subscription_ids: tuple[int, ...] = (),
        group: SharedGroup | None = None,
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.subscription_ids = subscription_ids
        self.group = group
        self.dup = False
        self.held = False
        self.waits = False
        self.packet_id = 0


class Session:
    """Delivers to one client, connected or not; lives as long as its expiry allows."""

    def __init__(self, client_id: str, settings: BrokerSettings, counters: Counters, budget: Budget) -> None:
        self.client_id = client_id
        self.expiry_s = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.link: Link | None = None
        self.will: Will | None = None
        self.will_timer: Timer | None = None
        self.end_timer: Timer | None = None
        self.ended = False
        self._settings = settings
        self._counters = counters
        self._budget = budget
        self._waiting: tuple[deque[Delivery], deque[Delivery]] = (deque(), deque())
        self._waiting_bytes = 0
        self._unacknowledged: dict[int, Delivery] = {}
        self._outstanding = 0
        self._last_packet_id = 0

    @property
    def connected(self) -> bool:
        """Whether a client is behind it that will stay."""
        return self.link is not None and not self.link.closing

    @property
    def ready(self) -> bool:
        """Whether a message given to it now would leave at once."""
        link = self.link
        return link is not None and link.writable and self._outstanding < link.receive_maximum

    @property
    def waiting(self) -> int:
        """Messages not sent yet."""
        return len(self._waiting[0]) + len(self._waiting[1])

    def has_room(self, delivery: Delivery) -> bool:
        """Whether one more message may wait; others may have to give way for it."""
        fits = self._waiting_bytes + delivery.message.size_bytes <= self._settings.max_queued_bytes
        few = len(self._waiting[delivery.qos]) < self._settings.max_queued_messages
        return fits and few and self._budget.make_room(delivery)

    def deliver(self, delivery: Delivery, now: float) -> None:
        """Send now, or let it wait; what finds no room is dropped (QoS 0) or closes the client (QoS 1)."""
        link = self.link
        if self.ended or (link is None and delivery.qos == 0):
            return
        if link is not None and self._goes_at_once(link, delivery):
            self._send(link, delivery, now)
        elif self.has_room(delivery):
            self._wait(delivery)
        else:
            self._overflow(link, delivery)

    def attach(self, link: Link, now: float) -> None:
        """A client is there: send again what it never acknowledged, then what waits.

        Source: MQTT 5 [MQTT-4.4.0-1].
        """
        self.link = link
        self._outstanding = 0
        # What an earlier connection left to be sent again is unacknowledged too.
        never_sent = [delivery for delivery in self._waiting[1] if not delivery.packet_id]
        for delivery in self._unacknowledged.values():
            delivery.dup = delivery.waits = True
        self._waiting[1].clear()
        self._waiting[1].extend((*self._unacknowledged.values(), *never_sent))
        self._count_waiting()
        self.pump(now)

    def detach(self) -> None:
        """The client is gone; QoS 0 messages go with it."""
        self.link = None
        self._take_out(set(self._waiting[0]))

    def discard(self) -> None:
        """Nobody will come back for what is still here."""
        self._take_out({*self._waiting[0], *self._waiting[1], *self._unacknowledged.values()})

    def give_way(self) -> None:
        """Let the older half go, in bytes; a client that misses QoS 1 messages by it is told and closed."""
        goal = self._budget.held_by(self) // 2
        gone: set[Delivery] = set()
        for delivery in (*self._waiting[0], *self._unacknowledged.values(), *self._waiting[1]):
            if self._budget.held_by(self) <= goal:
                break
            self._budget.release(self, delivery)
            gone.add(delivery)
        self._take_out(gone)
        self._counters.dropped_queue_full += len(gone)
        if any(delivery.qos for delivery in gone):
            self._close_over_quota()

    def pump(self, now: float) -> None:
        """Send what waits, as far as the client and its socket take it."""
        for qos, queue in enumerate(self._waiting):
            while queue and self.link is not None and self._may_send(self.link, qos):
                delivery = queue.popleft()
                delivery.waits = False
                self._waiting_bytes -= delivery.message.size_bytes
                self._send(self.link, delivery, now)

    def acknowledge(self, packet_id: int, now: float) -> bool:
        """The client has a message; False when it was waiting for none with that identifier."""
        delivery = self._unacknowledged.pop(packet_id, None)
        if delivery is None:
            return False
        if delivery.waits:  # to be sent again, which is not needed now
            self._waiting[1].remove(delivery)
            self._waiting_bytes -= delivery.message.size_bytes
        self._budget.release(self, delivery)
        self._outstanding = max(0, self._outstanding - 1)
        if self._waiting[1]:
            self.pump(now)
        return True

    def take_shared(self, movable: Callable[[SharedGroup], bool]) -> list[Delivery]:
        """Take out the messages of shared subscriptions that can move to another member, oldest first."""
        held = (*self._unacknowledged.values(), *self._waiting[0], *self._waiting[1])
        # What waits to be sent again is unacknowledged too, and is taken once.
        taken = list(dict.fromkeys(each for each in held if _moves(each, movable)))
        self._take_out(set(taken))
        return taken

    def _take_out(self, gone: set[Delivery]) -> None:
        """Keep these deliveries no more, wherever they are."""
        if not gone:
            return
        for queue in self._waiting:
            kept = [each for each in queue if each not in gone]
            queue.clear()
            queue.extend(kept)
        self._unacknowledged = {
            number: each for number, each in self._unacknowledged.items() if each not in gone
        }
        self._count_waiting()
        for delivery in gone:
            self._budget.release(self, delivery)

    def _count_waiting(self) -> None:
        self._waiting_bytes = sum(each.message.size_bytes for queue in self._waiting for each in queue)

    def _goes_at_once(self, link: Link, delivery: Delivery) -> bool:
        """Whether nothing has to wait for it; at QoS 1 it is kept until it is acknowledged."""
        ready = not self._waiting[delivery.qos] and self._may_send(link, delivery.qos)
        if not (ready and delivery.qos):
            return ready
        # Whoever gives way is closed, and it may be this very client.
        return self._budget.make_room(delivery) and link.writable

    def _may_send(self, link: Link, qos: int) -> bool:
        return link.writable and (qos == 0 or self._outstanding < link.receive_maximum)

    def _wait(self, delivery: Delivery) -> None:
        delivery.waits = True
        self._waiting[delivery.qos].append(delivery)
        self._waiting_bytes += delivery.message.size_bytes
        self._budget.hold(self, delivery)

    def _overflow(self, link: Link | None, delivery: Delivery) -> None:
        if delivery.qos:
            self._close_over_quota()
        if delivery.group is not None and delivery.qos and link is not None:
            # One too many, but only until the closed connection is let go: then another member gets it.
            self._wait(delivery)
        else:
            self._counters.dropped_queue_full += 1

    def _close_over_quota(self) -> None:
        link = self.link
        if link is not None and not link.closing:
            self._counters.disconnected_quota += 1
            link.close(Reason.QUOTA_EXCEEDED)

    def _send(self, link: Link, delivery: Delivery, now: float) -> None:
        message = delivery.message
        if message.expired(now) and not delivery.dup:
            self._counters.dropped_expired += 1
            self._budget.release(self, delivery)
            return
        if delivery.qos and not delivery.packet_id:
            delivery.packet_id = self._next_packet_id()
        frame = message.packet(
            link.version,
            now,
            qos=delivery.qos,
            retain=delivery.retain,
            dup=delivery.dup,
            packet_id=delivery.packet_id,
            subscription_ids=delivery.subscription_ids,
        )
        if len(frame) > link.max_packet_bytes:
            self._forget_too_large(delivery)
            return
        if delivery.qos:
            self._unacknowledged[delivery.packet_id] = delivery
            self._outstanding += 1
            self._budget.hold(self, delivery)
        else:
            self._budget.release(self, delivery)
        self._counters.delivered += 1
        link.send_frame(frame)

    def _forget_too_large(self, delivery: Delivery) -> None:
        """Act as if it had been delivered. Source: MQTT 5 [MQTT-3.1.2-25]."""
        self._counters.dropped_too_large += 1
        self._unacknowledged.pop(delivery.packet_id, None)
        self._budget.release(self, delivery)

    def _next_packet_id(self) -> int:
        # Unacknowledged messages are far fewer than identifiers, so this ends after a few steps.
        while True:
            self._last_packet_id = self._last_packet_id % _LAST_PACKET_ID + 1
            if self._last_packet_id not in self._unacknowledged:
                return self._last_packet_id


def _moves(delivery: Delivery, movable: Callable[[SharedGroup], bool]) -> bool:
    return delivery.group is not None and movable(delivery.group)
