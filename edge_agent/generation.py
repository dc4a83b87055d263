"""Drives one decode loop: runs stages on the engine, asks the cloud, reports each kept token."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.cloud_session import OUT_OF_TIME
from edge_agent.decode import DecodeLoop
from edge_agent.decode_actions import AskCloud, Finish, Rewind, RunStage, Wait
from edge_agent.engine import EdgeEngine, EngineSession
from edge_agent.link import CloudReply, Replies
from edge_agent.reply_time import ReplyTime
from edge_agent.rungs import DecodedToken
from edge_agent.want import Want

NO_LINK = "this edge has no link to a cloud"
# A long prompt goes through the stages in parts, so that its states travel while the next part is read.
PREFILL_TOKENS = 64


class Cloud(Protocol):
    """A session's way to the cloud, as `LinkedSession` is."""

    @property
    def hopeful(self) -> bool:
        """Whether questions would be sent at all."""
        ...

    def listen(self, replies: Replies) -> None:
        """Tell `replies` what comes of questions."""
        ...

    def ask(self, wants: tuple[Want, ...], until_s: float = math.inf) -> None:
        """Ask for tokens."""
        ...

    def push(self) -> None:
        """Send states that nothing is wanted of yet."""
        ...

    def rewind(self, length: int) -> None:
        """The text from position `length` on has changed."""
        ...


@dataclass(slots=True)
class GenerationStats:
    """What one answer cost.

    Attributes:
        cloud_wait_s: time in which nothing was done but waiting for the cloud, answered or not.
        cloud_compute_us: the session's share of the workers' forwards.
        cloud_answers: questions that were answered, and whose answer was still wanted.
        reasons: why the cloud was away, each reason once.
    """

    started_s: float = field(default_factory=time.perf_counter)
    first_token_s: float | None = None
    total_s: float = 0.0
    cloud_wait_s: float = 0.0
    cloud_compute_us: int = 0
    cloud_answers: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pace:
    """How one answer uses the link.

    Attributes:
        eager: states go up as soon as they are there, not with the first question that needs them.
        until_s: when answers of the cloud are of no use any more, on the event loop's clock.
        reply_time: what an answer will take.
    """

    eager: bool = False
    until_s: float = math.inf
    reply_time: ReplyTime = field(default_factory=ReplyTime)


class Generation:
    """One answer in the making.

    Args:
        loop: decides; holds the tokens afterwards.
        engine: runs the edge's stages.
        session: the session's place in the engine.
        cloud: its place on the link; None when there is none: every question then stays unanswered.
        on_token: called for each kept token as soon as it is known.
        pace: how the link is used.
    """

    def __init__(
        self,
        loop: DecodeLoop,
        engine: EdgeEngine,
        session: EngineSession,
        cloud: Cloud | None,
        on_token: Callable[[DecodedToken], None],
        pace: Pace | None = None,
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._session = session
        self._cloud = cloud
        self._on_token = on_token
        self._pace = pace or Pace()
        self._told = 0
        self._heard = asyncio.Event()
        self.stats = GenerationStats()
        if cloud is not None:
            cloud.listen(self)

    async def run(self) -> str:
        """Generate until the answer ends; the finish reason."""
        try:
            return await self._run()
        except asyncio.CancelledError:
            self._session.void = True  # what runs for it stops, and asks nothing any more
            raise

    async def _run(self) -> str:
        await self._prefill()
        while True:
            self._tell()
            match self._loop.next_action(self._now_s(), crowded=self._engine.is_busy):
                case RunStage() as run:
                    await self._run_stage(run)
                case AskCloud(wants):
                    self._ask(wants)
                case Rewind(length):
                    self._rewind(length)
                case Wait():
                    await self._wait()
                case Finish(reason):
                    self.stats.total_s = time.perf_counter() - self.stats.started_s
                    return reason

    def on_reply(self, reply: CloudReply) -> None:
        """See `Replies`. What is certain now is told at once, also while a stage runs."""
        self.stats.cloud_compute_us += reply.compute_us
        self.stats.cloud_answers += 1
        self._loop.on_cloud_token(reply.position, reply.guess)
        self._heed()

    def on_no_reply(self, reason: str) -> None:
        """See `Replies`."""
        self._note(reason)
        self._loop.on_cloud_unavailable()
        self._heed()

    def _note(self, reason: str) -> None:
        if reason not in self.stats.reasons:
            self.stats.reasons.append(reason)

    def _heed(self) -> None:
        """Tell what is certain now, and leave a draft that was about another text."""
        self._session.void = self._loop.is_rewound
        self._tell()
        self._heard.set()

    async def _prefill(self) -> None:
        """Read all but the last part of a long prompt, while what was read goes up."""
        if self._cloud is None or not self._pace.eager:
            return
        for length in range(PREFILL_TOKENS, len(self._session.ids) - PREFILL_TOKENS, PREFILL_TOKENS):
            if not self._cloud.hopeful:
                return  # parts take longer than the whole
            await self._engine.prefill(self._session, length)
            self._cloud.push()

    async def _run_stage(self, run: RunStage) -> None:
        if self._cloud is not None and self._pace.eager and run.stage == 0:
            self._cloud.push()
        self._session.ids += self._loop.text(len(self._session.ids) - self._loop.prompt_tokens)
        if run.guess:
            early = self._ask_early if run.asked and self._cloud is not None else None
            guess = await self._engine.run_stage(self._session, run.stage, run.allowed, early)
            self._loop.on_guess(guess, self._now_s())
        else:
            await self._engine.catch_up(self._session, run.stage)
            self._loop.on_guess(None, self._now_s())

    def _ask_early(self) -> None:
        """The states are there, and the guess does not decide whether to ask."""
        if self._session.void:
            return
        wants = self._loop.on_states(self._now_s())
        if wants:
            self._ask(wants)

    def _ask(self, wants: tuple[Want, ...]) -> None:
        if self._cloud is None:
            self.on_no_reply(NO_LINK)
        elif self._now_s() + self._pace.reply_time.likely_s > self._pace.until_s:
            self._pass_over(wants)
        else:
            self._heard.clear()
            self._cloud.ask(wants, self._pace.until_s)

    def _pass_over(self, wants: tuple[Want, ...]) -> None:
        """It is too late for these questions; what is on its way may still come in time."""
        self._note(OUT_OF_TIME)
        self._loop.on_too_late(wants)
        self._heed()

    def _rewind(self, length: int) -> None:
        self._session.rewind(length)
        if self._cloud is not None:
            self._cloud.rewind(length)

    async def _wait(self) -> None:
        waited_s = time.perf_counter()
        await self._heard.wait()
        self._heard.clear()
        self.stats.cloud_wait_s += time.perf_counter() - waited_s

    def _tell(self) -> None:
        for token in self._loop.tokens[self._told :]:
            if self.stats.first_token_s is None:
                self.stats.first_token_s = time.perf_counter() - self.stats.started_s
            self._on_token(token)
        self._told = len(self._loop.tokens)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
