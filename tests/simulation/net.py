"""A broker and its cables, simulated: what real ones do to messages, and worse.

    client ── leg ──► broker ── leg ──► client       each leg delays, loses, doubles and reorders

As on a real broker: a shared subscription gives each message to one member, also to one that is dead and not
yet missed; statuses are retained; a connection that breaks has its will spoken; one that is silent is missed
after 1.5 keep-alives. Statuses and what belongs to the connection itself are reliable and in order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from broker.topics import split_shared, topic_matches
from broker.transport import Incoming
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import Process, VirtualLoop
from tests.simulation.weather import Net

KEEP_ALIVE_S = 10.0


class Client(Protocol):
    """A connection's end at the client."""

    client_id: str
    process: Process

    def on_incoming(self, cable: Cable, incoming: Incoming) -> None:
        """A message arrived."""

    def on_broken(self, cable: Cable) -> None:
        """The connection is over."""


@dataclass(eq=False, slots=True)
class Cable:
    """One connection of a client.

    Attributes:
        whole: whether anything passes; a broken cable stays broken.
        blocked_until_s: a partition: what is sent meanwhile arrives after it.
    """

    client: Client
    will: Incoming | None
    whole: bool = True
    known: bool = True  # to the broker
    blocked_until_s: float = 0.0
    filters: dict[str, int] = field(default_factory=dict)
    last_s: dict[str, float] = field(default_factory=dict)  # latest arrival in each direction


class SimBroker:
    """The broker of a storm.

    Attributes:
        swallows: whether a message on its way to a client is lost, for tests that choose which.
    """

    def __init__(self, loop: VirtualLoop, net: Net, random: Random, trace: Trace) -> None:
        self._loop = loop
        self._net = net
        self.random = random
        self.trace = trace
        self.up = True
        self.swallows: Callable[[Incoming], bool] = lambda _: False
        self._frozen_until_s = 0.0
        self.cables: dict[str, Cable] = {}
        self._retained: dict[str, Incoming] = {}
        self._own = copy_context()  # what is on the wire goes on when its sender is frozen

    # --- for clients -------------------------------------------------------------------------------

    def reachable(self, client: Client) -> bool:
        """Whether a new connection can be made now."""
        cable = self.cables.get(client.client_id)
        now_s = self._loop.time()
        blocked = cable is not None and cable.blocked_until_s > now_s
        return self.up and self._frozen_until_s <= now_s and not blocked

    def connect(self, client: Client, will: Incoming | None) -> Cable:
        """A new connection; an older one of the same client is thrown out, and its will is spoken."""
        old = self.cables.get(client.client_id)
        if old is not None:
            self._miss(old)
        cable = self.cables[client.client_id] = Cable(client, will)
        return cable

    def disconnect(self, cable: Cable) -> None:
        """The client leaves in order: no will."""
        cable.will = None
        self._miss(cable)

    def send(self, cable: Cable, incoming: Incoming, acked: Callable[[], None] | None = None) -> None:
        """A client publishes."""
        reliable = incoming.retain
        for _ in range(1 if reliable else self._copies()):
            self._carry(cable, "up", self._arrive, cable, incoming, acked, ordered=reliable)

    def round_trip(self, cable: Cable, then: Callable[[], None]) -> None:
        """Something the broker answers by itself: a subscription, a probe."""
        self._carry(cable, "up", self._answer, cable, then, ordered=True)

    def add_filter(self, cable: Cable, topic_filter: str, qos: int) -> None:
        """A subscription has reached the broker: what is retained goes out."""
        cable.filters[topic_filter] = qos
        for topic, incoming in self._retained.items():
            if split_shared(topic_filter)[0] is None and topic_matches(topic_filter, topic):
                self._deliver(cable, incoming)

    # --- for the storm -----------------------------------------------------------------------------

    def fail(self, down_s: float, *, forgets: bool) -> None:
        """All connections break; nobody gets in for a while."""
        self.up = False
        if forgets:
            self._retained.clear()
        for cable in list(self.cables.values()):
            cable.will = None  # nobody is left to speak it
            self.cut(cable, missed_after_s=0.0)
        self._later(down_s, setattr, self, "up", True)

    def freeze(self, frozen_s: float) -> None:
        """Nothing is handled for a while, then everything."""
        self._frozen_until_s = self._loop.time() + frozen_s

    def partition(self, client_id: str, blocked_s: float) -> None:
        """Nothing passes for a while; both ends find out by their keep-alives if it is long."""
        cable = self.cables.get(client_id)
        if cable is None:
            return
        cable.blocked_until_s = self._loop.time() + blocked_s
        if blocked_s > KEEP_ALIVE_S:
            self._later(KEEP_ALIVE_S, self._break, cable)
        if blocked_s > 1.5 * KEEP_ALIVE_S:
            self._later(1.5 * KEEP_ALIVE_S, self._miss, cable)

    def cut(self, cable: Cable, missed_after_s: float) -> None:
        """A connection breaks; the broker notices later."""
        self._break(cable)
        self._later(missed_after_s, self._miss, cable)

    def hang_up(self, cable: Cable) -> None:
        """The client closes; a broker that can't be reached finds out when it can, or by the keep-alive."""
        waits = cable.blocked_until_s > self._loop.time()
        thaw_s = max(0.0, self._frozen_until_s - self._loop.time())
        self.cut(cable, 1.5 * KEEP_ALIVE_S if waits else thaw_s)

    def _later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        self._loop.call_later(delay_s, callback, *args, context=self._own)

    # --- legs --------------------------------------------------------------------------------------

    def _copies(self) -> int:
        drawn = self.random.random()
        if drawn < self._net.lost:
            self.trace.counts["lost"] += 1
            return 0
        doubled = self.random.random() < self._net.doubled
        self.trace.counts["doubled"] += doubled
        return 1 + doubled

    def _carry(
        self, cable: Cable, way: str, arrive: Callable[..., None], *args: Any, ordered: bool = False
    ) -> None:
        """Let `arrive` run when the leg is over, in the client's process on the way down."""
        start_s = max(self._loop.time(), cable.blocked_until_s)
        at_s = start_s + self._net.longest_s * self.random.uniform(0.05, 1.0)
        if ordered or self.random.random() >= self._net.late:
            at_s = cable.last_s[way] = max(at_s, cable.last_s.get(way, 0.0) + 1e-9)
        context = cable.client.process.context if way == "down" else self._own
        self._loop.call_at(at_s, arrive, *args, context=context)

    def _awake(self, handler: Callable[..., None], *args: Any) -> bool:
        """Whether the broker works now; if it is frozen, `handler` is called again later."""
        if self._frozen_until_s > self._loop.time():
            self._loop.call_at(self._frozen_until_s, handler, *args, context=self._own)
            return False
        return self.up

    def _answer(self, cable: Cable, then: Callable[[], None]) -> None:
        if self._awake(self._answer, cable, then) and cable.whole:
            self._carry(cable, "down", then, ordered=True)

    def _arrive(self, cable: Cable, incoming: Incoming, acked: Callable[[], None] | None) -> None:
        if not self._awake(self._arrive, cable, incoming, acked) or not (cable.known and cable.whole):
            return
        if acked is not None:
            self._carry(cable, "down", acked)
        self.publish(incoming)

    # --- the broker itself -------------------------------------------------------------------------

    def publish(self, incoming: Incoming) -> None:
        """Hand a message to whoever subscribed to it."""
        if incoming.retain:
            self._retained[incoming.topic] = incoming
        groups: dict[str, list[Cable]] = {}
        for cable in self.cables.values():
            for topic_filter in cable.filters:
                group, bare = split_shared(topic_filter)
                if not topic_matches(bare, incoming.topic):
                    continue
                if group is None:
                    self._deliver(cable, incoming)
                else:
                    groups.setdefault(topic_filter, []).append(cable)
        for members in groups.values():
            self._place(members, incoming)

    def _place(self, members: list[Cable], incoming: Incoming) -> None:
        """One member of the group gets it; a redelivery may bring it to another one as well."""
        self._deliver(self.random.choice(members), incoming)
        if self.random.random() < self._net.redelivered:
            self._deliver(self.random.choice(members), incoming)

    def _deliver(self, cable: Cable, incoming: Incoming) -> None:
        reliable = incoming.retain
        if self.swallows(incoming):
            return
        for _ in range(1 if reliable else self._copies()):
            self._carry(cable, "down", self._hand_over, cable, incoming, ordered=reliable)

    def _hand_over(self, cable: Cable, incoming: Incoming) -> None:
        if cable.whole:
            self.trace.message(incoming)
            cable.client.on_incoming(cable, incoming)

    def _break(self, cable: Cable) -> None:
        if cable.whole:
            cable.whole = False
            process = cable.client.process
            self._loop.call_soon(cable.client.on_broken, cable, context=process.context)

    def _miss(self, cable: Cable) -> None:
        """The broker gives a connection up and speaks its will."""
        if not cable.known:
            return
        cable.known = False
        self._break(cable)
        if self.cables.get(cable.client.client_id) is cable and cable.blocked_until_s <= self._loop.time():
            del self.cables[cable.client.client_id]
        cable.filters.clear()
        if cable.will is not None:
            self.publish(cable.will)
