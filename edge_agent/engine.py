"""The edge's model: runs stages for sessions on one thread, so that the event loop never waits.

A session's stages lag behind each other: rows that a stage has produced wait as `pending` until the
next stage is asked for, which then takes them all in one forward (lazy catch-up).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from edge_agent.decode import Guess
from edge_agent.states import StateLog
from shared.model.confidence import MAX_PROBABILITY, Measure
from shared.model.loading import EdgeModel
from shared.model.sampling import draw
from shared.model.stage import Segment, StageCache
from shared.tensors.codec import Codec
from shared.wire.messages import Sampling


class EngineSession:
    """One session's place in the edge model.

    Attributes:
        ids: the text so far, prompt and answer.
        states: encoded rows that left the last edge stage.
        compute_s: time spent in stages and heads.
    """

    def __init__(self, model: EdgeModel, ids: list[int], sampling: Sampling, row_bytes: int) -> None:
        self.ids = list(ids)
        self.sampling = sampling
        self.caches: list[StageCache] = [stage.new_cache() for stage in model.stages]
        self.pending: list[list[Tensor]] = [[] for _ in model.stages]  # rows waiting for stage i
        self.states = StateLog(row_bytes)
        self.compute_s = 0.0

    def inputs(self, stage: int) -> Tensor:
        """What stage `stage` has not processed: ids `(n,)` for the first, rows `(n, hidden)` else."""
        if stage == 0:
            return torch.tensor(self.ids[self.caches[0].frontier :], dtype=torch.int64)
        rows = torch.cat(self.pending[stage])
        self.pending[stage].clear()
        return rows


class EdgeEngine:
    """Runs edge stages, one at a time, on a thread of its own.

    Args:
        model: stages and exit heads of the bundle's edge side.
        codec: how states are encoded for the cloud.
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
        self._temperatures = tuple(temperatures) if temperatures else (1.0,) * len(model.stages)
        self._measures = tuple(measures) if measures else (MAX_PROBABILITY,) * len(model.stages)
        self.model = model
        self.codec = codec
        self._row_bytes = codec.row_bytes(hidden_size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edge-engine")

    def open(self, ids: list[int], sampling: Sampling) -> EngineSession:
        """A session that starts with the prompt `ids`."""
        return EngineSession(self.model, ids, sampling, self._row_bytes)

    async def run_stage(
        self, session: EngineSession, stage: int, allowed: Sequence[int] | None = None
    ) -> Guess:
        """Catch `stage` up with the session's text, and let its exit guess the next token.

        Args:
            session: whose.
            stage: index of the edge stage.
            allowed: ids that may come next; None: all.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run_stage, session, stage, allowed)

    def close(self) -> None:
        """Let the running stage finish, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    @torch.inference_mode()
    def _run_stage(self, session: EngineSession, stage: int, allowed: Sequence[int] | None) -> Guess:
        started_s = time.perf_counter()
        inputs = session.inputs(stage)
        segment = Segment(session.caches[stage], inputs.shape[0])
        rows = self.model.stages[stage].forward(inputs, [segment])  # (n, hidden)
        if stage + 1 < len(self.model.stages):
            session.pending[stage + 1].append(rows)
        else:
            session.states.append(self.codec.encode(rows))
        logits = self.model.heads[stage].logits(rows[-1:])[0]  # (vocab,)
        token, confidence = draw(
            logits,
            session.sampling,
            len(session.ids),
            confidence_temperature=self._temperatures[stage],
            allowed=allowed,
            measure=self._measures[stage],
        )
        session.compute_s += time.perf_counter() - started_s
        return Guess(token, confidence)
