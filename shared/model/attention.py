"""Packed attention: rows of many sessions in one forward, each attending to its own cache only.

Linear layers and norms see `(1, total_rows, hidden)` and don't care whose rows these are. Attention
does: Hugging Face layers call whatever function their configuration names, so ours is registered
under `PACKED_ATTENTION` and gets the `PackedRows` of the forward as a keyword argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from shared.model.cache import Segment, StageCache

PACKED_ATTENTION = "antiphon_packed"


class _Span:
    """One segment's rows `[first_row, end_row)` of the packed forward, and the masks over its keys."""

    __slots__ = ("_masks", "cache", "end_row", "first_row")

    def __init__(self, cache: StageCache, first_row: int, rows: int) -> None:
        self.cache = cache
        self.first_row = first_row
        self.end_row = first_row + rows
        self._masks: dict[int | None, Tensor | None] = {}

    @property
    def rows(self) -> int:
        return self.end_row - self.first_row

    def first_key(self, window: int | None) -> int:
        """The oldest position that any of these rows may still see."""
        return 0 if window is None else max(0, self.cache.frontier - window + 1)

    def mask(self, window: int | None) -> Tensor | None:
        """(rows, keys from `first_key` on), True where a row may look; None if every row sees every key.

        Built once per window and shared by all layers of the forward.
        """
        if window not in self._masks:
            self._masks[window] = None if self.rows == 1 else self._build_mask(window)
        return self._masks[window]

    def _build_mask(self, window: int | None) -> Tensor:
        start = self.cache.frontier
        rows = torch.arange(start, start + self.rows)[:, None]
        keys = torch.arange(self.first_key(window), start + self.rows)[None, :]
        causal = keys <= rows
        return causal if window is None else causal & (keys > rows - window)


class PackedRows:
    """Whose rows are where in a packed forward over one stage."""

    __slots__ = ("first_layer", "positions", "spans")

    def __init__(self, segments: Sequence[Segment], first_layer: int) -> None:
        self.first_layer = first_layer
        self.spans: list[_Span] = []
        row = 0
        for cache, rows in segments:
            self.spans.append(_Span(cache, row, rows))
            row += rows
        starts = [segment.cache.frontier for segment in segments]
        ranges = [torch.arange(s, s + segment.rows) for s, segment in zip(starts, segments, strict=True)]
        self.positions = torch.cat(ranges)[None]  # (1, total_rows)

    def reserve(self) -> None:
        """Make room in every cache before any layer writes."""
        for span in self.spans:
            span.cache.reserve(span.rows)

    def advance(self) -> None:
        """Move every frontier, once all layers have written."""
        for span in self.spans:
            span.cache.advance(span.rows)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - each span has its own
    *,
    scaling: float,
    packed: PackedRows,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Attend per session, in the shape that Hugging Face layers expect of an attention function.

    Args:
        module: the attention module; says which layer this is.
        query: (1, heads, total_rows, head_size), rotated.
        key: (1, kv_heads, total_rows, head_size), rotated.
        value: (1, kv_heads, total_rows, head_size).
        attention_mask: unused.
        scaling: factor on the scores.
        packed: whose rows are where.
        sliding_window: how many newest positions a row sees, itself included; None for all.
        softcap: tanh bound on the scores, for families that have one.

    Returns:
        (1, total_rows, heads, head_size), and no attention weights.
    """
    layer = int(module.layer_idx) - packed.first_layer  # type: ignore[arg-type]
    outputs = []
    for span in packed.spans:
        rows = slice(span.first_row, span.end_row)
        keys, values = span.cache.write(layer, key[0, :, rows], value[0, :, rows])
        first = span.first_key(sliding_window)
        outputs.append(
            _attend(
                query[:, :, rows],
                keys[:, first:],
                values[:, first:],
                span.mask(sliding_window),
                scaling,
                softcap,
            )
        )
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return output.transpose(1, 2), None


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """(1, heads, rows, head_size) over (kv_heads, keys, head_size)."""
    if softcap is not None:
        return _attend_capped(query, keys, values, mask, scaling, softcap)
    if mask is None:
        # One row: the query heads that share a key head become its rows, which spares the repeat.
        folded = query.reshape(1, keys.shape[0], -1, query.shape[-1])
        output = scaled_dot_product_attention(folded, keys[None], values[None], scale=scaling)
        return output.reshape(query.shape)
    return scaled_dot_product_attention(
        query,
        keys[None],
        values[None],
        attn_mask=mask,
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[0],
    )


def _attend_capped(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> Tensor:
    """Soft-capped scores, which fused attention can't do: softcap · tanh(scores / softcap)."""
    kv_heads, rows = keys.shape[0], query.shape[2]
    grouped = query[0].reshape(kv_heads, -1, rows, query.shape[-1])  # (kv_heads, group, rows, head_size)
    scores = grouped @ keys[:, None].transpose(-1, -2) * scaling
    scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ values[:, None]).reshape(query.shape)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
