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

from shared.model.cache import Segment, StageCache, Views

PACKED_ATTENTION = "antiphon_packed"


class _Span:
    """One segment's rows of the packed forward: where its keys and values are, and who may see what.

    All layers' views are taken once for a forward: taken layer by layer they cost more than the copies
    and, for short contexts, as much as attending.
    """

    __slots__ = ("_cache", "_device", "_end", "_keys", "_masks", "_start", "new_keys", "new_values", "rows")

    def __init__(self, cache: StageCache, rows: int, device: torch.device) -> None:
        self.rows = rows
        self._cache = cache
        self._device = device
        self._start = cache.frontier
        self._end = self._start + rows
        self._keys: dict[int | None, tuple[Views, Views]] = {}
        self._masks: dict[int | None, Tensor | None] = {}

    def reserve(self) -> None:
        """Make room for the rows; before any layer writes."""
        self._cache.reserve(self.rows)
        self.new_keys, self.new_values = self._cache.views(self._start, self._end)

    def advance(self) -> None:
        """Every layer has written."""
        self._cache.advance(self.rows)

    def seen(self, layer: int, window: int | None) -> tuple[Tensor, Tensor]:
        """Keys and values (kv_heads, keys, head_size) from the oldest that any of these rows may see on."""
        if window not in self._keys:
            self._keys[window] = self._cache.views(self._first_key(window), self._end)
        keys, values = self._keys[window]
        return keys[layer], values[layer]

    def mask(self, window: int | None) -> Tensor | None:
        """(rows, keys that are seen), True where a row may look; None if every row sees every key.

        Built once per window and shared by all layers of the forward.
        """
        if window not in self._masks:
            self._masks[window] = None if self.rows == 1 else self._build_mask(window)
        return self._masks[window]

    def _first_key(self, window: int | None) -> int:
        return 0 if window is None else max(0, self._start - window + 1)

    def _build_mask(self, window: int | None) -> Tensor:
        rows = torch.arange(self._start, self._end, device=self._device)[:, None]
        keys = torch.arange(self._first_key(window), self._end, device=self._device)[None, :]
        causal = keys <= rows
        return causal if window is None else causal & (keys > rows - window)


class PackedRows:
    """Whose rows are where in a packed forward over one stage.

    Args:
        segments: whose rows they are, one after another.
        first_layer: of the stage, by the model's numbering.
        device: of the stage.
        filler: rows of nobody behind them.
    """

    __slots__ = ("filler", "first_layer", "positions", "sizes", "spans")

    def __init__(
        self, segments: Sequence[Segment], first_layer: int, device: torch.device, filler: int = 0
    ) -> None:
        self.first_layer = first_layer
        self.spans = [_Span(cache, rows, device) for cache, rows in segments]
        self.sizes = [rows for _, rows in segments]
        self.filler = filler
        positions = [position for cache, rows in segments for position in _positions(cache, rows)]
        self.positions = torch.tensor([positions + [0] * filler], device=device)  # (1, total_rows)

    def reserve(self) -> None:
        """Make room in every cache before any layer writes."""
        for span in self.spans:
            span.reserve()

    def advance(self) -> None:
        """Move every frontier, once all layers have written."""
        for span in self.spans:
            span.advance()

    def apart(self, rows: Tensor, dim: int) -> Sequence[Tensor]:
        """Each segment's part of `rows`, which lie along `dim`; the filler is left out."""
        sizes = [*self.sizes, self.filler] if self.filler else self.sizes
        return torch.split(rows, sizes, dim)[: len(self.sizes)]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put all rows, (kv_heads, total_rows, head_size), at their sessions' frontiers."""
        parts = zip(self.spans, self.apart(keys, 1), self.apart(values, 1), strict=True)
        for span, new_keys, new_values in parts:
            span.new_keys[layer].copy_(new_keys)
            span.new_values[layer].copy_(new_values)


def _positions(cache: StageCache, rows: int) -> range:
    return range(cache.frontier, cache.frontier + rows)


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
    packed.write(layer, key[0], value[0])
    outputs = []
    for span, rows in zip(packed.spans, packed.apart(query, 2), strict=True):
        keys, values = span.seen(layer, sliding_window)
        outputs.append(_attend(rows, keys, values, span.mask(sliding_window), scaling, softcap))
    if packed.filler:
        outputs.append(outputs[0].new_zeros((1, packed.filler, *outputs[0].shape[2:])))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Of (1, heads, rows, head_size) over (kv_heads, keys, head_size): (1, rows, heads, head_size)."""
    if softcap is not None:
        return _attend_capped(query, keys, values, mask, scaling, softcap).transpose(1, 2)
    _, heads, rows, head_size = query.shape
    if mask is None:
        # One row: the query heads that share a key head become its rows, which spares the repeat.
        folded = query.reshape(1, keys.shape[0], -1, head_size)
        output = scaled_dot_product_attention(folded, keys[None], values[None], scale=scaling)
        return output.reshape(1, rows, heads, head_size)
    output = scaled_dot_product_attention(
        query,
        keys[None],
        values[None],
        attn_mask=mask,
        scale=scaling,
        enable_gqa=heads != keys.shape[0],
    )
    return output.transpose(1, 2)


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
