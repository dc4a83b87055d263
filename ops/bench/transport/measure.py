"""Measures every yardstick in turn, round after round, so that what disturbs one disturbs all."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from broker.group_sender import GroupSender
from ops.bench.transport.aiomqtt_echo import AiomqttEcho
from ops.bench.transport.far import far_end
from ops.bench.transport.own_echo import OwnEcho
from ops.bench.transport.paho_echo import PahoEcho
from ops.bench.transport.question import Size, size_of
from ops.bench.transport.steps import Steps
from ops.bench.transport.tcp_echo import TcpEcho
from ops.bench.transport.yardstick import Yardstick
from ops.faults.servers import EmbeddedServer, MosquittoServer, ServerProcess, find_binary, free_port
from shared.wire.group import MAX_PARTS

STATES: Final = (64, 4_096, 65_536)
SESSIONS: Final = 16
SESSION_STATES: Final = 4_096
STEP: Final = "step"
AIOMQTT: Final = "aiomqtt"
PAHO: Final = "paho"
OWN: Final = "own echo"
TCP: Final = "TCP"
_BYTES_A_ROUND: Final = 8 << 20


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: how often each yardstick has its turn.
        trips: round trips of a turn; fewer of large ones.
        session_trips: round trips of each of several sessions, in a turn.
    """

    rounds: int
    trips: int
    session_trips: int


FULL: Final = Plan(rounds=7, trips=150, session_trips=100)
QUICK: Final = Plan(rounds=2, trips=10, session_trips=5)


class Which(NamedTuple):
    """One line of the table."""

    what: str
    broker: str
    qos: int
    states: int


@dataclass
class Measured:
    """All samples of a run.

    Attributes:
        trips_s: seconds of each trip, a list a round.
        per_second: round trips a second of several sessions; by broker and whether they were grouped.
    """

    trips_s: dict[Which, list[list[float]]] = field(default_factory=dict)
    per_second: dict[tuple[str, bool], list[float]] = field(default_factory=dict)

    def all_s(self, which: Which) -> list[float]:
        """Every trip's seconds."""
        return [trip for turn in self.trips_s[which] for trip in turn]

    def ratios(self, which: Which, over: Which) -> list[float]:
        """Medians of one over medians of another, round by round."""
        pairs = zip(self.trips_s[which], self.trips_s[over], strict=True)
        return [median(turn) / median(other) for turn, other in pairs]


async def measure(plan: Plan, brokers: Sequence[str]) -> Measured:
    """Measure everything.

    Args:
        plan: how much.
        brokers: names of `BROKERS`.

    Raises:
        LinkError: an answer was not its question's, or none came.
    """
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="transport-") as folder:
        await _measure_tcp(measured, plan)
        for name in brokers:
            with BROKERS[name](Path(folder) / name) as server:
                await _measure_broker(measured, plan, name, server)
    return measured


def brokers_here(*, embedded: bool) -> list[str]:
    """The brokers that can be measured on this machine."""
    return [name for name in BROKERS if name == "embedded" or not (embedded or find_binary(name) is None)]


BROKERS: Final[dict[str, type[EmbeddedServer | MosquittoServer]]] = {
    "embedded": EmbeddedServer,
    "mosquitto": MosquittoServer,
}


async def _measure_tcp(measured: Measured, plan: Plan) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(far_end("tcp", port))
        echo = await stack.enter_async_context(TcpEcho.connected("127.0.0.1", port))
        for _ in range(plan.rounds):
            await _turn(measured, plan, TCP, "", 0, echo)


async def _measure_broker(measured: Measured, plan: Plan, name: str, server: ServerProcess) -> None:
    async with AsyncExitStack() as stack:
        for kind in ("own", "aiomqtt-0", "aiomqtt-1", "paho-0", "paho-1", "worker", "worker-alone"):
            await stack.enter_async_context(far_end(kind, server.port))
        where = (server.host, server.port)
        steps = await stack.enter_async_context(Steps.connected(*where))
        alone = await stack.enter_async_context(Steps.connected(*where, grouped=False))
        yardsticks: list[tuple[str, int, Yardstick]] = [
            (OWN, 0, await stack.enter_async_context(OwnEcho.connected(*where))),
            *[
                (AIOMQTT, qos, await stack.enter_async_context(AiomqttEcho.connected(*where, qos=qos)))
                for qos in (0, 1)
            ],
            *[(PAHO, qos, stack.enter_context(PahoEcho.connected(*where, qos=qos))) for qos in (0, 1)],
            (STEP, 0, steps),
        ]
        for _ in range(plan.rounds):
            for what, qos, yardstick in yardsticks:
                await _turn(measured, plan, what, name, qos, yardstick)
            await _sessions_turn(measured, plan, name, {True: steps, False: alone})


async def _turn(
    measured: Measured, plan: Plan, what: str, broker: str, qos: int, yardstick: Yardstick
) -> None:
    for states in STATES:
        size = size_of(states)
        await yardstick.trips(size, 3)  # the first of a new session or topic are slower
        trips_s = await yardstick.trips(size, min(plan.trips, _BYTES_A_ROUND // states))
        measured.trips_s.setdefault(Which(what, broker, qos, states), []).append(trips_s)


async def _sessions_turn(measured: Measured, plan: Plan, broker: str, steps: dict[bool, Steps]) -> None:
    size: Size = size_of(SESSION_STATES)
    for grouped, each in steps.items():
        with _groups_of(MAX_PARTS if grouped else 1):
            rate = await each.per_second(size, SESSIONS, plan.session_trips)
        measured.per_second.setdefault((broker, grouped), []).append(rate)


@contextlib.contextmanager
def _groups_of(parts: int) -> Iterator[None]:
    """This process's edge sends so many steps together."""
    GroupSender.max_parts, before = parts, GroupSender.max_parts
    try:
        yield
    finally:
        GroupSender.max_parts = before
