"""A driver that runs a bundle's stages in one process, as edge and cloud do over the wire."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.stage import ExitHead, Segment, Stage
from shared.model.weights import MakeLinear


class StagedModel:
    """All rungs of a bundle, the cloud's last."""

    def __init__(
        self, bundle: Bundle, dtype: torch.dtype = torch.float32, linear: MakeLinear | None = None
    ) -> None:
        edge, cloud = load_edge(bundle, dtype, linear=linear), load_cloud(bundle, dtype, linear=linear)
        self.stages: list[Stage] = [*edge.stages, cloud.stage]
        self.heads: list[ExitHead] = [*edge.heads, cloud.head]

    @property
    def last(self) -> int:
        """The cloud's rung."""
        return len(self.stages) - 1


class StagedSession:
    """One text on its way up the ladder. Each rung catches up only when it is asked."""

    def __init__(self, model: StagedModel, token_ids: Sequence[int] = ()) -> None:
        self.model = model
        self.caches = [stage.new_cache() for stage in model.stages]
        self.token_ids = list(token_ids)
        # outputs[rung]: hidden states of every position that this rung has processed
        self.outputs = [torch.empty(0, stage.hidden_size, dtype=stage.dtype) for stage in model.stages]

    def pending(self, rung: int, end: int) -> Tensor:
        """The inputs that `rung` still needs to have processed the positions before `end`."""
        start = self.caches[rung].frontier
        if rung == 0:
            return torch.tensor(self.token_ids[start:end], dtype=torch.int64)
        return self.outputs[rung - 1][start:end]

    def accept(self, rung: int, rows: Tensor) -> None:
        """Keep what a rung returned for its pending rows."""
        self.outputs[rung] = torch.cat([self.outputs[rung], rows])

    def catch_up(self, rung: int, end: int | None = None) -> None:
        """Let this rung, and those below it, process the positions before `end` in one chunk each."""
        end = len(self.token_ids) if end is None else end
        for current in range(rung + 1):
            rows = self.pending(current, end)
            if len(rows):
                segment = Segment(self.caches[current], len(rows))
                self.accept(current, self.model.stages[current].forward(rows, [segment]))

    def logits(self, rung: int) -> Tensor:
        """(positions, vocab): what this rung would say after every position of the text."""
        self.catch_up(rung)
        return self.model.heads[rung].logits(self.outputs[rung])

    def next_token(self, rung: int) -> int:
        """This rung's greedy choice after the text so far."""
        self.catch_up(rung)
        return int(self.model.heads[rung].logits(self.outputs[rung][-1:]).argmax())

    def truncate(self, position: int) -> None:
        """Roll the text and every rung back to `position`."""
        self.token_ids = self.token_ids[:position]
        for cache in self.caches:
            cache.truncate(position)
        self.outputs = [rows[:position] for rows in self.outputs]


def forward_packed(sessions: Sequence[StagedSession], rung: int) -> None:
    """Let `rung` catch up for all sessions in one packed forward."""
    for session in sessions:
        if rung:
            session.catch_up(rung - 1)
    rows = [session.pending(rung, len(session.token_ids)) for session in sessions]
    segments = [Segment(s.caches[rung], len(r)) for s, r in zip(sessions, rows, strict=True)]
    output = sessions[0].model.stages[rung].forward(torch.cat(rows), segments)
    for session, part in zip(sessions, output.split([len(r) for r in rows]), strict=True):
        session.accept(rung, part)
