"""One answer in the making, with an engine and a way to the cloud that do as they are told."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace

from edge_agent.cloud_session import OUT_OF_TIME
from edge_agent.decode import DecodeLoop
from edge_agent.exits import ExitPolicy
from edge_agent.generation import PREFILL_TOKENS, Generation, Pace
from edge_agent.link import CloudReply, Replies
from edge_agent.lookahead import Lookahead
from edge_agent.reply_time import ReplyTime
from edge_agent.rungs import Guess
from edge_agent.want import Want
from tests.waiting import eventually

FAR_S = 60.0


class UnsureEngine:
    """Guesses 5, 6, 7, … and is sure of none."""

    is_busy = False

    async def run_stage(self, session: SimpleNamespace, *_: object) -> Guess:
        return Guess(4 + len(session.ids), 0.1)


class SlowerCloud:
    """Is asked once, and then the link gets slow."""

    hopeful = True

    def __init__(self, reply_time: ReplyTime) -> None:
        self.asked: list[Want] = []
        self.replies: Replies | None = None
        self._reply_time = reply_time

    def listen(self, replies: Replies) -> None:
        self.replies = replies

    def ask(self, wants: tuple[Want, ...], until_s: float = math.inf) -> None:
        self.asked += wants
        self._reply_time.mean_s = 2 * FAR_S


async def test_a_question_that_is_too_late_does_not_give_up_those_that_are_on_their_way():
    reply_time = ReplyTime()
    cloud = SlowerCloud(reply_time)
    session = SimpleNamespace(ids=[3], void=False)
    loop = DecodeLoop(1, ExitPolicy((0.8,)), 2, (), "unsure", lookahead=Lookahead(4))
    pace = Pace(until_s=asyncio.get_running_loop().time() + FAR_S, reply_time=reply_time)
    making = Generation(loop, UnsureEngine(), session, cloud, lambda _: None, pace)  # type: ignore[arg-type]
    running = asyncio.create_task(making.run())
    await eventually(lambda: making.stats.reasons == [OUT_OF_TIME])
    assert cloud.asked == [Want(0)]
    assert loop.tokens == []
    assert cloud.replies is not None
    cloud.replies.on_reply(CloudReply(0, Guess(5, 0.9)))
    assert await running == "length"
    assert [(each.token, each.degraded) for each in loop.tokens] == [(5, False), (6, True)]


class Reader:
    """Counts the parts in which a prompt is read."""

    is_busy = False

    def __init__(self) -> None:
        self.parts = 0

    async def prefill(self, _session: SimpleNamespace, _length: int) -> None:
        self.parts += 1

    async def run_stage(self, *_: object) -> Guess:
        return Guess(4, 0.9)


class Way:
    """A way to the cloud on which nothing is asked."""

    def __init__(self, *hopes: bool) -> None:
        self._hopes = list(hopes)
        self.pushed = 0

    @property
    def hopeful(self) -> bool:
        return self._hopes.pop(0)

    def listen(self, _replies: Replies) -> None:
        """Nothing is told."""

    def push(self) -> None:
        self.pushed += 1


async def parts_of_a_prompt(way: Way) -> int:
    engine = Reader()
    session = SimpleNamespace(ids=[3] * (4 * PREFILL_TOKENS + 1), void=False)
    loop = DecodeLoop(len(session.ids), ExitPolicy((0.8,)), 1, (), "unsure")
    making = Generation(loop, engine, session, way, lambda _: None, Pace(eager=True))  # type: ignore[arg-type]
    assert await making.run() == "length"
    return engine.parts


async def test_a_prompt_is_read_in_parts_only_while_somebody_may_want_its_states():
    """Parts take longer than the whole, and an answer of the edge alone must not be slower than that."""
    assert await parts_of_a_prompt(Way(False)) == 0
    assert await parts_of_a_prompt(Way(True, False)) == 1
    assert await parts_of_a_prompt(Way(*[True] * 3)) == 3
