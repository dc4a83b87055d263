"""A cloud that is silent costs an edge one wait, not one in each answer; who comes is asked at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from edge_agent.health import LinkState
from edge_agent.link import CLOUD_RESTING, CloudReply
from edge_agent.patience import Patience
from edge_agent.want import Want
from shared.wire.messages import Sampling
from tests.simulation.checked_session import CheckedSession
from tests.simulation.scene import calm_weather, run_well
from tests.simulation.storm import SimEdge, Storm
from tests.simulation.toy_model import STAGES, ToyPlace

# Longer than the longest cool-down: whoever asks then is the one that tries.
BETWEEN_ANSWERS_S = 10.0
TOKENS = 12
# What the edge computes for a token.
TOKEN_S = 0.05
# Less than any deadline, more than a healthy cloud takes here.
AT_ONCE_S = 0.2
# An edge is told of a worker, asks the pool, and then the worker.
SOON_S = 1.0

Play = Callable[["House"], Awaitable[None]]


@dataclass
class Answer:
    """What became of each question of one answer, and after how long."""

    said: list[str] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    served: asyncio.Event = field(default_factory=asyncio.Event)

    def on_reply(self, _reply: CloudReply) -> None:
        """See `Replies`."""
        self.said.append("cloud")
        self.heard.set()
        self.served.set()

    def on_no_reply(self, reason: str) -> None:
        """See `Replies`."""
        self.said.append(reason)
        self.heard.set()


class House(Storm):
    """One edge, a broker, and workers as a test has them come and go.

    Args:
        play: what happens.

    Attributes:
        edge: it.
        answers: so far.
    """

    def __init__(self, play: Play) -> None:
        super().__init__(calm_weather(1))
        self.answers: list[Answer] = []
        self._play = play
        self.edge: SimEdge

    async def _pass(self) -> None:
        self.edge = self._make_edge("hub")
        await asyncio.sleep(1.0)
        await self._play(self)
        for worker in self._workers.values():
            self._thaw(worker.process)
        await self._stop()

    async def join(self, name: str) -> None:
        """A worker comes."""
        self._join(name)
        await asyncio.sleep(0.5)

    def freeze(self, name: str) -> None:
        """A worker falls silent; its connection stands."""
        self.loop.freeze(self._workers[name].process)

    async def ask(self, tokens: int = TOKENS) -> Answer:
        """One answer, whose every token is asked about."""
        return await self.loop.spawn(self.edge.process, self._ask(tokens))

    async def _ask(self, tokens: int) -> Answer:
        answer, sampling = Answer(), Sampling(seed=len(self.answers))
        place = ToyPlace(tuple(range(tokens)), sampling, "fp32")
        for stage in range(STAGES):
            place.advance(stage, tokens)
        core = CheckedSession(sampling, place.states, Patience(), self.edge.hub.link.reply_time)
        linked = self.edge.hub.link.session(f"s{len(self.answers)}", core)
        self._store.truth[linked.address] = place.states
        self.answers.append(answer)
        linked.listen(answer)
        linked.open()
        for position in range(tokens):
            await asyncio.sleep(TOKEN_S)
            asked_s = self.loop.time()
            answer.heard.clear()
            linked.ask([Want(position)])
            await answer.heard.wait()
            answer.waits_s.append(self.loop.time() - asked_s)
        linked.close()
        self.wrong += core.wrong
        return answer

    @property
    def state(self) -> LinkState:
        """Of the edge's link."""
        return self.edge.hub.link.health.state


def waited(answer: Answer) -> bool:
    return max(answer.waits_s) > AT_ONCE_S


async def ten_answers(house: House) -> None:
    for _ in range(10):
        await house.ask()
        await asyncio.sleep(BETWEEN_ANSWERS_S)


def test_of_ten_answers_without_a_worker_only_the_first_waits_and_only_once():
    house = run_well(House(ten_answers))
    waits = [wait_s for answer in house.answers for wait_s in answer.waits_s if wait_s > AT_ONCE_S]
    assert waits == [house.answers[0].waits_s[0]]
    assert waits[0] == pytest.approx(Patience().deadline_s, abs=0.1)
    assert not any("cloud" in answer.said for answer in house.answers)


def test_of_ten_answers_with_a_pool_that_is_known_to_be_deserted_none_waits():
    async def play(house: House) -> None:
        await house.join("w0")
        house.drain(house._workers["w0"])
        await asyncio.sleep(BETWEEN_ANSWERS_S)
        await ten_answers(house)

    house = run_well(House(play))
    assert not any(waited(answer) for answer in house.answers)
    assert house.answers[-1].said == ["no worker is online"] * TOKENS


def test_of_ten_answers_with_a_frozen_worker_one_waits():
    """Nothing says that it is not there, until its keep-alive ends."""

    async def play(house: House) -> None:
        await house.join("w0")
        house.freeze("w0")
        await ten_answers(house)

    house = run_well(House(play))
    assert sum(waited(answer) for answer in house.answers) == 1


@pytest.mark.parametrize("frozen", [False, True], ids=["nobody-was-there", "a-frozen-worker-counts-as-there"])
def test_a_joining_worker_is_used_within_a_second_by_the_answer_that_goes_on(frozen: bool):
    async def play(house: House) -> None:
        if frozen:
            await house.join("old")
            house.freeze("old")
        for _ in range(4):  # the cool-down has grown
            await house.ask()
            await asyncio.sleep(1.0)
        assert house.state is LinkState.DEGRADED
        going_on = asyncio.ensure_future(house.ask(120))
        await asyncio.sleep(2.0)
        house._join("new")
        joined_s = house.loop.time()
        await asyncio.wait_for(house.answers[-1].served.wait(), 60.0)
        assert house.loop.time() - joined_s < SOON_S
        assert house.state is LinkState.ONLINE
        await going_on

    house = run_well(House(play))
    answer = house.answers[-1]
    assert max(answer.waits_s) < SOON_S
    assert answer.said[0] == CLOUD_RESTING
    assert answer.said[-1] == "cloud"


def test_a_worker_that_thaws_is_used_by_the_next_token_without_anybody_having_waited():
    async def play(house: House) -> None:
        await house.join("w0")
        house.freeze("w0")
        await house.ask()
        house._thaw(house._workers["w0"].process)
        await asyncio.sleep(BETWEEN_ANSWERS_S)
        await house.ask()

    house = run_well(House(play))
    assert not waited(house.answers[-1])
    assert house.answers[-1].said[-1] == "cloud"


def test_without_a_connection_nobody_waits_or_sends_a_prompt_in_parts():
    async def play(house: House) -> None:
        house._broker.fail(60.0, forgets=False)
        await asyncio.sleep(1.0)
        core = CheckedSession(Sampling(), ToyPlace((1,), Sampling(), "fp32").states)
        linked = house.edge.hub.link.session("s", core)
        assert not linked.hopeful
        linked.close()
        await house.ask()

    house = run_well(House(play))
    assert house.answers[0].waits_s == [0.0] * TOKENS
