"""One pass of the frozen model, which gives every exit its input and all of them their goal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple

import torch
from torch import Tensor

from ops.tuning.pieces import Piece
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.stage import Segment

# Logits of so many bytes are held at once, in fp32: vocabularies have up to 262,144 tokens.
_LOGITS_BYTES: Final = 64 * 2**20


class Pass(NamedTuple):
    """What the backbone says about the learned rows of some pieces.

    Attributes:
        exits: layer → hidden states that its exit reads, (rows, hidden).
        last: hidden states before the model's final norm, (rows, hidden).
        targets: the text's next token after each row, (rows,) int64.
    """

    exits: dict[int, Tensor]
    last: Tensor
    targets: Tensor


class Backbone:
    """All stages of a bundle on one device, edge and cloud, without gradients.

    Args:
        bundle: whose stages.
        dtype: to run them in.
        device: "cpu" or "cuda".
    """

    def __init__(self, bundle: Bundle, dtype: torch.dtype, device: str) -> None:
        edge, cloud = load_edge(bundle, dtype, device), load_cloud(bundle, dtype, device)
        self.dtype = dtype
        self.device = device
        self.exit_heads = dict(zip(bundle.partition.exits, edge.heads, strict=True))
        self.lm_head = edge.heads[0].lm_head
        self.chunk_rows = max(1, _LOGITS_BYTES // (4 * bundle.vocab_size))
        self._stages = [*edge.stages, cloud.stage]
        self._final_head = cloud.head

    def run(self, pieces: Sequence[Piece]) -> Pass:
        """Process pieces side by side, none seeing another."""
        ids = [token for piece in pieces for token in piece.ids]
        learned = torch.tensor(list(_learned(pieces)), device=self.device)
        tokens = rows = torch.tensor(ids, device=self.device)
        seen: list[Tensor] = []
        for stage in self._stages:
            with self._allocating():
                rows = stage.forward(rows, [Segment(stage.new_cache(), len(piece.ids)) for piece in pieces])
            # Taken outside of inference mode, rows may be saved for a head's gradient.
            seen.append(rows.index_select(0, learned))
        exits = dict(zip(self.exit_heads, seen[:-1], strict=True))
        return Pass(exits, seen[-1], tokens.index_select(0, learned + 1))

    def final_logits(self, last: Tensor) -> Tensor:
        """The full model's logits, (rows, vocab) in fp32."""
        return self._final_head.logits(last)

    def chunks(self, rows: int) -> Iterator[slice]:
        """Slices of `rows` rows whose logits fit into memory."""
        for start in range(0, rows, self.chunk_rows):
            yield slice(start, start + self.chunk_rows)

    def _allocating(self) -> AbstractContextManager[object]:
        """Caches, positions and masks are made where the model is."""
        return nullcontext() if self.device == "cpu" else torch.device(self.device)


def _learned(pieces: Sequence[Piece]) -> Iterator[int]:
    """Row numbers, among all pieces' rows, of those that are learned."""
    start = 0
    for piece in pieces:
        yield from range(start + piece.first, start + len(piece.ids) - 1)
        start += len(piece.ids)
