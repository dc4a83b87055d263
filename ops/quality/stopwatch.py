"""Compute times: one answer at a time, on the engines of the installation, in this process.

`cloud-only` is the yardstick: the same stages, one after another, in the cloud, with the same grammar. Each
question is answered by the yardstick and by every policy in turn before the next question, so that what
slows the machine down for a while slows all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cloud_worker.engine import CloudEngine
from cloud_worker.work import Work
from edge_agent.decode import DecodeLoop, Use
from edge_agent.decode_actions import AskCloud, Finish, Rewind, RunStage
from edge_agent.engine import EdgeEngine, EngineSession
from edge_agent.exits import ExitPolicy
from edge_agent.rungs import Guess
from edge_agent.want import Want
from ops.quality.ladder import Ladder
from ops.quality.policy import ALWAYS, Policy
from ops.quality.question import Question
from ops.quality.range import Range
from shared.model.sampling import GREEDY, draw
from shared.model.stage import Segment, StageCache
from shared.wire.topics import SessionAddress

_ADDRESS = SessionAddress("here", "stopwatch", "only")


class Spent:
    """Seconds of one answer."""

    def __init__(self) -> None:
        self.edge_s = 0.0
        self.cloud_s = 0.0
        self.decided = 0
        self.tokens: list[int] = []


@dataclass(frozen=True)
class Times:
    """One policy's compute times.

    Attributes:
        cloud_share: cloud compute time as a share of the yardstick's, round by round.
        cloud_us_per_token: cloud compute time per decided token.
        edge_us_per_token: edge compute time per decided token.
    """

    cloud_share: Range
    cloud_us_per_token: Range
    edge_us_per_token: Range


class Stopwatch:
    """Answers questions one at a time.

    Args:
        ladder: whose stages are timed.
    """

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        bundle = ladder.bundle
        self._cloud = CloudEngine(ladder.cloud, bundle.hidden_size, bundle.vocab_size)
        self._stages = [*ladder.edge.stages, ladder.cloud.stage]

    def compare(self, questions: Sequence[Question], policies: Sequence[Policy], rounds: int) -> list[Times]:
        """Time every policy beside the yardstick; each runs once more before, uncounted."""
        return asyncio.run(self._compare(questions, policies, rounds))

    async def _compare(
        self, questions: Sequence[Question], policies: Sequence[Policy], rounds: int
    ) -> list[Times]:
        await self._round(questions[:2], policies)
        sums = [await self._round(questions, policies) for _ in range(rounds)]
        return [
            Times(
                Range.of([_ratio(each[line].cloud_s, each[-1].cloud_s) for each in sums]),
                Range.of([_ratio(each[line].cloud_s * 1e6, each[line].decided) for each in sums]),
                Range.of([_ratio(each[line].edge_s * 1e6, each[line].decided) for each in sums]),
            )
            for line in range(len(policies))
        ]

    async def _round(self, questions: Sequence[Question], policies: Sequence[Policy]) -> list[Spent]:
        """The sums of each policy, and of the yardstick as the last."""
        sums = [Spent() for _ in range(len(policies) + 1)]
        for question in questions:
            _add(sums[-1], self.alone(question))
            for total, policy in zip(sums, policies, strict=False):
                _add(total, await self.together(question, policy))
        return sums

    def alone(self, question: Question) -> Spent:
        """The yardstick: all layers in the cloud."""
        spent, ids = Spent(), list(question.prompt)
        caches = [stage.new_cache() for stage in self._stages]
        loop = self._loop(question, ExitPolicy((ALWAYS,)), use_cloud="never")
        while isinstance(action := loop.next_action(0.0), RunStage):
            ids += loop.text(len(ids) - len(question.prompt))
            started_s = time.perf_counter()
            guess = self._whole(ids, caches, action.allowed)
            spent.cloud_s += time.perf_counter() - started_s
            spent.decided += 1
            loop.on_guess(guess, 0.0)
        spent.tokens = [token.token for token in loop.tokens]
        return spent

    @torch.inference_mode()
    def _whole(self, ids: list[int], caches: list[StageCache], allowed: tuple[int, ...] | None) -> Guess:
        rows = torch.tensor(ids[caches[0].frontier :])
        for stage, cache in zip(self._stages, caches, strict=True):
            rows = stage.forward(rows, [Segment(cache, len(rows))])
        logits = self._ladder.cloud.head.logits(rows[-1:])[0]
        return Guess(*draw(logits, GREEDY, len(ids), allowed=allowed))

    async def together(self, question: Question, policy: Policy) -> Spent:
        """Edge and cloud, as installed."""
        engine = self._edge(policy)
        spent = Spent()
        try:
            await self._decode(question, policy, engine, spent)
        finally:
            engine.close()
            self._cloud.drop([_ADDRESS])
        return spent

    async def _decode(self, question: Question, policy: Policy, engine: EdgeEngine, spent: Spent) -> None:
        session = engine.open(list(question.prompt), GREEDY, policy.thresholds)
        loop = self._loop(question, ExitPolicy(policy.thresholds), use_cloud="unsure")
        sent = 0
        while not isinstance(action := loop.next_action(0.0), Finish):
            match action:
                case RunStage(stage, allowed, guess=wanted):
                    session.ids += loop.text(len(session.ids) - len(question.prompt))
                    spent.decided += stage == 0
                    run = (
                        engine.run_stage(session, stage, allowed)
                        if wanted
                        else engine.catch_up(session, stage)
                    )
                    loop.on_guess(await run, 0.0)
                case AskCloud((want,)):  # without lookahead one at a time
                    loop.on_cloud_token(want.position, self._ask(session, want, sent, spent))
                    sent = want.position + 1
                case Rewind(length):
                    session.rewind(length)
        spent.edge_s += session.compute_s
        spent.tokens = [token.token for token in loop.tokens]

    def _ask(self, session: EngineSession, want: Want, sent: int, spent: Spent) -> Guess:
        end = want.position + 1
        work = Work(
            _ADDRESS,
            epoch=1,
            number=1,
            from_position=sent,
            count=end - sent,
            codec=self._ladder.codec.name,
            states=session.states.rows(sent, end),
            wants=(want.position,),
            allowed=(tuple(want.allowed or ()),),
        )
        started_s = time.perf_counter()
        (done,) = self._cloud.run([work], 0.0)
        spent.cloud_s += time.perf_counter() - started_s
        if done.error is not None:
            raise done.error
        return Guess(done.tokens[0].token, done.tokens[0].confidence)

    def _edge(self, policy: Policy) -> EdgeEngine:
        return EdgeEngine(
            self._ladder.edge,
            self._ladder.codec,
            self._ladder.bundle.hidden_size,
            temperatures=policy.reading.temperatures,
            measures=policy.reading.measures,
        )

    def _loop(self, question: Question, exits: ExitPolicy, *, use_cloud: Use) -> DecodeLoop:
        return DecodeLoop(
            len(question.prompt),
            exits,
            question.max_new_tokens,
            self._ladder.bundle.eos_token_ids,
            use_cloud=use_cloud,
            constraint=question.constraint(),
        )


def _add(total: Spent, spent: Spent) -> None:
    total.edge_s += spent.edge_s
    total.cloud_s += spent.cloud_s
    total.decided += spent.decided


def _ratio(value: float, whole: float) -> float:
    return value / whole if whole else 0.0
