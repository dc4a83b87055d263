"""The edge's model: runs stages for sessions on one thread, so that the event loop never waits.

A session's stages lag behind each other: rows that a stage has produced wait as `pending` until the
next stage is asked for, which then takes them all in one forward (lazy catch-up).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from edge_agent.rungs import Guess
from edge_agent.states import StateLog
from shared.engine_thread import EngineThread
from shared.model.chooser import choosers_for
from shared.model.confidence import MAX_PROBABILITY, Measure
from shared.model.loading import EdgeModel
from shared.model.stage import Abandoned, Segment, StageCache
from shared.tensors.codec import Codec, codec_named
from shared.wire.messages import Sampling

T = TypeVar("T")

OnStates = Callable[[], None]


class EngineSession:
    """One session's place in the edge model.

    Attributes:
        ids: the text so far, prompt and answer.
        thresholds: what each exit's confidence is compared with.
        codec: how its states are encoded for the cloud.
        states: encoded rows that left the last edge stage.
        newest: the newest row that left each stage, (1, hidden): what its exit guesses from.
        void: the text that a stage runs over is no more; the stage stops before its next layer.
        compute_s: time spent in stages and heads.
    """

    def __init__(
        self,
        model: EdgeModel,
        ids: list[int],
        sampling: Sampling,
        thresholds: Sequence[float],
        codec: Codec,
        row_bytes: int,
    ) -> None:
        self.ids = list(ids)
        self.sampling = sampling
        self.thresholds = tuple(thresholds)
        self.codec = codec
        self.caches: list[StageCache] = [stage.new_cache() for stage in model.stages]
        self.pending: list[list[Tensor]] = [[] for _ in model.stages]  # rows waiting for stage i
        self.states = StateLog(row_bytes)
        self.newest: dict[int, Tensor] = {}
        self.void = False
        self.compute_s = 0.0

    def lags(self, stage: int) -> bool:
        """Whether there is something that stage `stage` has not processed."""
        return bool(self.pending[stage]) if stage else self.caches[0].frontier < len(self.ids)

    def inputs(self, stage: int, length: int | None = None) -> Tensor:
        """What stage `stage` has not processed: ids `(n,)` for the first, rows `(n, hidden)` else.

        Args:
            stage: its index.
            length: tokens of the text that the first stage reads; None: all.
        """
        if stage == 0:
            return torch.tensor(self.ids[self.caches[0].frontier : length], dtype=torch.int64)
        return torch.cat(self.pending[stage])

    def rewind(self, length: int) -> None:
        """Forget the text from `length` on, and all that was computed of it; while no stage runs."""
        self.void = False
        del self.ids[length:]
        for stage, pending in enumerate(self.pending):
            kept = max(0, length - self.caches[stage].frontier)
            if pending:
                self.pending[stage] = [torch.cat(pending)[:kept]] if kept else []
        for stage, cache in enumerate(self.caches):
            if cache.frontier > length:
                cache.truncate(length)
                self.newest.pop(stage, None)
        self.states.truncate(length)


class EdgeEngine:
    """Runs edge stages, one at a time, on a thread of its own.

    Args:
        model: stages and exit heads of the bundle's edge side.
        codec: how states are encoded for the cloud, unless a session has a codec of its own.
        hidden_size: width of the states.
        temperatures: one for each exit, dividing its logits before the confidence is taken.
        measures: one for each exit: what its confidence is.
        threads: torch threads of this process.
    """

    def __init__(
        self,
        model: EdgeModel,
        codec: Codec,
        hidden_size: int,
        *,
        temperatures: Sequence[float] | None = None,
        measures: Sequence[Measure] | None = None,
        threads: int = 1,
    ) -> None:
        torch.set_num_threads(threads)
        self._choosers = choosers_for(
            model.heads,
            temperatures or (1.0,) * len(model.heads),
            measures or (MAX_PROBABILITY,) * len(model.heads),
        )
        self.model = model
        self.codec = codec
        self._hidden_size = hidden_size
        self._thread = EngineThread("edge-engine")
        self._waiting = 0  # calls that run or wait to run

    def open(
        self, ids: list[int], sampling: Sampling, thresholds: Sequence[float], codec: str = ""
    ) -> EngineSession:
        """A session that starts with the prompt `ids`.

        Args:
            ids: of the prompt.
            sampling: how its tokens are drawn.
            thresholds: what each exit's confidence will be compared with.
            codec: name of the one that its states are in; empty: the engine's.
        """
        states = codec_named(codec) if codec else self.codec
        row_bytes = states.row_bytes(self._hidden_size)
        return EngineSession(self.model, ids, sampling, thresholds, states, row_bytes)

    async def run_stage(
        self,
        session: EngineSession,
        stage: int,
        allowed: Sequence[int] | None = None,
        on_states: OnStates | None = None,
    ) -> Guess | None:
        """Catch `stage` up with the session's text, and let its exit guess the next token.

        A stage that has caught up already is not run again.

        Args:
            session: whose.
            stage: index of the edge stage.
            allowed: ids that may come next; None: all.
            on_states: called on the event loop when the stage is through and its exit still guesses.

        Returns:
            The guess; None where the text was void before it was made.
        """
        there = None if on_states is None else _on_loop(on_states)
        return await self._on_thread(self._run_stage, session, stage, allowed, there)

    async def catch_up(self, session: EngineSession, stage: int) -> None:
        """Catch `stage` up with the session's text, where no guess is wanted."""
        await self._on_thread(self._catch_up, session, stage)

    async def prefill(self, session: EngineSession, length: int) -> None:
        """Run every stage over the first `length` tokens of the session's text."""
        await self._on_thread(self._prefill, session, length)

    @property
    def is_busy(self) -> bool:
        """Whether a stage runs or waits to run."""
        return self._waiting > 0

    async def _on_thread(self, run: Callable[..., T], *arguments: Any) -> T:
        self._waiting += 1
        try:
            return await self._thread.run(run, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the running stage finish, and end the thread."""
        self._thread.close()

    @torch.inference_mode()
    def _run_stage(
        self, session: EngineSession, stage: int, allowed: Sequence[int] | None, there: OnStates | None
    ) -> Guess | None:
        if session.lags(stage):
            self._catch_up(session, stage)
        if session.void:
            return None
        if there is not None:
            there()
        started_s = time.perf_counter()
        token, confidence = self._choosers[stage].draw(
            session.newest[stage],
            session.sampling,
            len(session.ids),
            allowed=allowed,
            threshold=session.thresholds[stage],
        )
        session.compute_s += time.perf_counter() - started_s
        return Guess(token, confidence)

    @torch.inference_mode()
    def _catch_up(self, session: EngineSession, stage: int) -> None:
        started_s = time.perf_counter()
        with contextlib.suppress(Abandoned):
            self._advance(session, stage, session.inputs(stage))
        session.compute_s += time.perf_counter() - started_s

    @torch.inference_mode()
    def _prefill(self, session: EngineSession, length: int) -> None:
        started_s = time.perf_counter()
        for stage in range(len(self.model.stages)):
            self._advance(session, stage, session.inputs(stage, length))
        session.compute_s += time.perf_counter() - started_s

    def _advance(self, session: EngineSession, stage: int, inputs: Tensor) -> None:
        """Move a stage's frontier over its next rows."""
        segment = Segment(session.caches[stage], inputs.shape[0])
        rows = self.model.stages[stage].forward(inputs, [segment], lambda: session.void)
        session.pending[stage].clear()
        if stage + 1 < len(self.model.stages):
            session.pending[stage + 1].append(rows)
        else:
            session.states.append(session.codec.encode(rows))
        session.newest[stage] = rows[-1:].clone()  # a view would keep a whole prompt's rows


def _on_loop(call: OnStates) -> OnStates:
    """Have the running event loop call, from whichever thread."""
    loop = asyncio.get_running_loop()

    def ask_loop() -> None:
        loop.call_soon_threadsafe(call)

    return ask_loop
