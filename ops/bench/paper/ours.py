"""The product as a peer: an edge agent and its link, as `antiphon edge serve` puts them together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.agent import EdgeAgent
from edge_agent.engine import EdgeEngine, EngineSession, OnStates
from edge_agent.request import Answer, Request
from edge_agent.rungs import Guess
from ops.bench.paper.peer import Prompt
from ops.bench.paper.script import Script
from ops.bench.paper.timeline import Timeline
from ops.bench.paper.timing import Timing
from ops.quality.costs import StageCost
from shared.errors import LinkError


class ScriptedEngine(EdgeEngine):
    """The edge's engine; with a script every stage and head still runs, and then the script speaks.

    Attributes:
        script: what the exits say; None: what they think.
        timeline: is told of every stage; None: nobody is.
    """

    script: Script | None = None
    timeline: Timeline | None = None

    async def run_stage(
        self,
        session: EngineSession,
        stage: int,
        allowed: Sequence[int] | None = None,
        on_states: OnStates | None = None,
    ) -> Guess | None:
        """See `EdgeEngine.run_stage`."""
        position = len(session.ids)  # drafts may be taken back while the stage runs
        started_s = time.perf_counter()
        guess = await super().run_stage(session, stage, allowed, on_states)
        if guess is not None and self.script is not None:
            guess = Guess(*self.script.says(position, stage))
        self._note(stage, position, started_s, guess)
        return guess

    async def catch_up(self, session: EngineSession, stage: int) -> None:
        """See `EdgeEngine.catch_up`."""
        position, started_s = len(session.ids), time.perf_counter()
        await super().catch_up(session, stage)
        self._note(stage, position, started_s, None)

    def _note(self, stage: int, position: int, started_s: float, guess: Guess | None) -> None:
        if self.timeline is not None:
            token = None if guess is None else guess.token
            self.timeline.stage(stage, position, started_s, time.perf_counter(), token)


class Ours:
    """One mode of the product.

    Args:
        agent: the edge.
        engine: its engine.
        cost: of the cloud's rung.
        read: makes ids of an answer's text.
        wishes: fields of `Request` that make the mode.
    """

    def __init__(
        self,
        agent: EdgeAgent,
        engine: ScriptedEngine,
        cost: StageCost,
        read: Callable[[str], tuple[int, ...]],
        wishes: dict[str, Any],
    ) -> None:
        self._agent = agent
        self._engine = engine
        self._cost = cost
        self._read = read
        self._wishes = wishes

    async def answer(self, prompt: Prompt, new_tokens: int, script: Script | None) -> Timing:
        """See `Peer.answer`.

        Raises:
            LinkError: the cloud was away for a token: this is no measurement.
        """
        self._engine.script = script
        request = Request(prompt.words, max_new_tokens=new_tokens, **self._wishes)
        started_s = time.perf_counter()
        answer = await self._agent.answer(request)
        total_s = time.perf_counter() - started_s
        if answer.degraded:
            raise LinkError(f"the cloud did not answer in time: {answer.note}. Is the machine too busy?")
        return self._timing(answer, total_s, self._read(answer.output))

    def _timing(self, answer: Answer, total_s: float, tokens: tuple[int, ...]) -> Timing:
        rows, requests = answer.cloud.uploaded_tokens, answer.cloud.requests
        # Rows that a rollback had sent again attend to fewer keys than counted here: a little too much.
        flops = self._cost.forward(0, rows) + self._cost.head * (requests - 1) if rows else 0
        return Timing(
            tokens,
            total_s,
            answer.timings.edge_compute_ms / 1e3,
            answer.timings.cloud_compute_ms / 1e3,
            requests,
            flops,
        )
