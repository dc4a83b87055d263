"""What it costs when the last words of a worker that leaves are lost."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from broker.group_reader import singles
from broker.transport import Incoming
from edge_agent.cloud_session import Phase
from edge_agent.in_flight import InFlight
from shared.wire.codec import decode_to_edge
from shared.wire.messages import Busy, Refused, ToEdge, Tokens
from tests.simulation.edge import SimSession
from tests.simulation.mutants import Mutant
from tests.simulation.scene import calm_weather, run_well
from tests.simulation.storm import ENDLESS, Storm
from tests.simulation.weather import Weather
from tests.simulation.worker import SimWorker

# After that a silent worker is left. Who waits for less was told by a resend, or by presence.
BOUND_S = ENDLESS.step_deadline_s
# A worker with other sessions to pass on, or a slow store, stays so long.
LINGERS_S = 5.0
# As many of a session's answers come before its worker is told to leave.
ANSWERS = 4
FORWARD_S = 0.02
SEEDS = range(12)

ONCE = Mutant(
    "a step is sent again once",
    InFlight,
    "again",
    "min(awaited.leave_s, now_s + awaited.wait_s)",
    "awaited.leave_s",
)


class LostWords(Storm):
    """A worker leaves in mid-answer; the next words that turn each session away are lost, so many for each.

    Attributes:
        waits_s: of each session that was waiting: from the first lost word to its next token.
    """

    def __init__(self, weather: Weather, words: int, lingers_s: float) -> None:
        super().__init__(weather)
        self.waits_s: list[float] = []
        self._words = words
        self._lingers_s = lingers_s
        self._heard: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._waiting_since_s: dict[str, float] = {}
        self._broker.swallows = self._swallows

    def _swallows(self, incoming: Incoming) -> bool:
        if incoming.retain or "/edge/" not in incoming.topic:
            return False
        # Grouped words are lost together: what is for the others in a group they ask for again.
        lost = [self._hear(single) for single in singles(incoming)]
        return any(lost)

    def _hear(self, single: Incoming) -> bool:
        name = single.topic.split("/")[-2]
        session = next(each for _, each in self._sessions if each.address.session == name)
        message: ToEdge = decode_to_edge(single.payload)
        match message:
            case Tokens():
                self._on_tokens(session)
            case Refused() | Busy() if self._is_left and self._lost[name] < self._words:
                self._on_lost(session)
                return True
        return False

    @property
    def _is_left(self) -> bool:
        return any(worker.leaving for worker in self._workers.values()) or len(self._workers) == 1

    def _on_tokens(self, session: SimSession) -> None:
        name = session.address.session
        self._heard[name] += 1
        since_s = self._waiting_since_s.pop(name, None)
        if since_s is not None:
            self.waits_s.append(self.loop.time() - since_s)
        if self._heard[name] == ANSWERS and not self._is_left:
            self._leave(self._workers[session.core.worker])

    def _leave(self, worker: SimWorker) -> None:
        worker.leaving = True
        leaving = self.loop.spawn(worker.process, self._drain_slowly(worker))
        leaving.add_done_callback(lambda _: self._workers.pop(worker.name))

    async def _drain_slowly(self, worker: SimWorker) -> None:
        await worker.front.drain()
        await asyncio.sleep(self._lingers_s)
        await worker.front.stop()
        worker.transport.stop()

    def _on_lost(self, session: SimSession) -> None:
        name = session.address.session
        self._lost[name] += 1
        if session.core.phase in {Phase.ASKING, Phase.OPENING}:
            self._waiting_since_s.setdefault(name, self.loop.time())


def waits_s(words: int, lingers_s: float) -> list[float]:
    """Of all seeds."""
    waits: list[float] = []
    for seed in SEEDS:
        weather = calm_weather(seed, workers=2, sessions=8, new_tokens=40, forward_s=FORWARD_S)
        waits += run_well(LostWords(weather, words, lingers_s)).waits_s
    return waits


@pytest.mark.parametrize("lingers_s", [0.0, LINGERS_S])
@pytest.mark.parametrize("words", [1, 3])
def test_lost_words_of_a_worker_that_leaves_cost_resends_and_a_catch_up(words: int, lingers_s: float):
    waits = waits_s(words, lingers_s)
    assert waits
    assert max(waits) < BOUND_S


def test_to_ask_again_once_would_not_do():
    with ONCE.planted():
        assert max(waits_s(3, LINGERS_S)) > BOUND_S
