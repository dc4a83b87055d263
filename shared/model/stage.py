"""A stage: a contiguous layer range that takes in rows and moves each session's frontier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from shared.errors import ContextTooLongError
from shared.forward_sizes import filled
from shared.model.attention import PackedRows
from shared.model.cache import Segment, StageCache
from shared.model.heads import ExitHead
from shared.model.kernels import keeps_kernels
from shared.model.partition import StagePlan

__all__ = ["Abandoned", "Embedding", "ExitHead", "Rotary", "Segment", "Stage", "StageCache"]


class Abandoned(Exception):  # noqa: N818  it is no error
    """A forward was given up between two layers: nobody wants its result."""


class Embedding:
    """Token ids to hidden states, with the family's scale; only the first stage has one."""

    def __init__(self, weight: Tensor, scale: float | None) -> None:
        self._weight = weight  # (vocab, hidden)
        self._scale = scale

    def __call__(self, token_ids: Tensor) -> Tensor:
        """(rows,) int64 to (rows, hidden)."""
        rows = embedding(token_ids, self._weight)
        return rows if self._scale is None else rows * self._scale


class Rotary:
    """Cosine and sine tables for each layer of a stage; layers of one kind share a table."""

    def __init__(self, maker: nn.Module, kinds: Sequence[str | None]) -> None:
        self._maker = maker
        self._kinds = kinds

    def __call__(self, hidden: Tensor, positions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each layer, (cos, sin) of (1, rows, rotary_size) in the dtype of `hidden`."""
        tables = {kind: self._table(kind, hidden, positions) for kind in dict.fromkeys(self._kinds)}
        return [tables[kind] for kind in self._kinds]

    def _table(self, kind: str | None, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        arguments = (hidden, positions) if kind is None else (hidden, positions, kind)
        return self._maker(*arguments)  # type: ignore[no-any-return]


class Stage:
    """The layers of one rung, without its exit head.

    A stage is as stateless as its weights: sessions live in their `StageCache`s, so many of them can
    share a forward. Not safe for use by several threads at once.
    """

    def __init__(
        self,
        plan: StagePlan,
        layers: Sequence[nn.Module],
        rotary: Rotary,
        embed: Embedding | None,
        *,
        kv_heads: int,
        head_size: int,
        hidden_size: int,
        dtype: torch.dtype,
        max_positions: int,
    ) -> None:
        self.plan = plan
        self.hidden_size = hidden_size
        self.dtype = dtype
        self.max_positions = max_positions
        self._layers = tuple(layers)
        # Every layer has a norm, whatever its matrices are kept in.
        self.device = next(self._layers[0].parameters()).device
        self._fills = self.device.type == "cpu" and any(keeps_kernels(layer) for layer in self._layers)
        self._rotary = rotary
        self._embed = embed
        self._kv_heads = kv_heads
        self._head_size = head_size

    @property
    def takes_tokens(self) -> bool:
        """Whether inputs are token ids (the first stage) or hidden states."""
        return self._embed is not None

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self._layers)

    def new_cache(self) -> StageCache:
        """An empty cache for one more session."""
        return StageCache(len(self._layers), self._kv_heads, self._head_size, self.dtype, self.device)

    def cache_bytes(self, tokens: int) -> int:
        """What the keys and values of `tokens` positions take, in bytes."""
        return tokens * len(self._layers) * 2 * self._kv_heads * self._head_size * self.dtype.itemsize

    @torch.inference_mode()
    def forward(
        self, inputs: Tensor, segments: Sequence[Segment], is_void: Callable[[], bool] = lambda: False
    ) -> Tensor:
        """Process the rows of all segments at once and append them to each segment's cache.

        If it raises, no frontier has moved.

        Args:
            inputs: the segments' rows one after another: token ids (total_rows,) int64 for the first
                stage, hidden states (total_rows, hidden) for the others.
            segments: whose rows they are; each cache at most once.
            is_void: asked before each layer; whether nobody wants the result any more.

        Returns:
            Hidden states (total_rows, hidden), before any norm.

        Raises:
            Abandoned: `is_void` said so.
            ContextTooLongError: a session would outgrow the model's positions; that session can't go on.
            ValueError: inputs and segments don't fit each other.
        """
        self._check(inputs, segments)
        count = inputs.shape[0]
        filler = filled(count) - count if self._fills else 0
        packed = PackedRows(segments, self.plan.first_layer, self.device, filler)
        packed.reserve()
        inputs = inputs.to(self.device)
        rows = self._embed(inputs) if self._embed is not None else inputs.to(self.dtype)
        if filler:
            rows = pad(rows, (0, 0, 0, filler))
        hidden = self._run(rows[None], packed, is_void)[0]
        packed.advance()
        return hidden[:count]

    def _run(self, hidden: Tensor, packed: PackedRows, is_void: Callable[[], bool]) -> Tensor:
        tables = self._rotary(hidden, packed.positions)
        for layer, table in zip(self._layers, tables, strict=True):
            if is_void():
                raise Abandoned
            hidden = layer(hidden, position_embeddings=table, attention_mask=None, packed=packed)
        return hidden

    def _check(self, inputs: Tensor, segments: Sequence[Segment]) -> None:
        rows = sum(segment.rows for segment in segments)
        shape = (rows,) if self.takes_tokens else (rows, self.hidden_size)
        if not segments or tuple(inputs.shape) != shape or any(segment.rows < 1 for segment in segments):
            raise ValueError(f"inputs of shape {tuple(inputs.shape)} don't fit segments of shape {shape}")
        if len({id(segment.cache) for segment in segments}) != len(segments):
            raise ValueError("a cache appears in two segments; merge their rows into one")
        longest = max(segment.cache.frontier + segment.rows for segment in segments)
        if longest > self.max_positions:
            raise ContextTooLongError(
                f"{longest} tokens are more than this model's {self.max_positions} positions. "
                "Shorten the prompt or ask for fewer tokens."
            )
