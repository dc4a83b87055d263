"""One session's keys and values in one stage."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Views: TypeAlias = tuple[Tensor, ...]
"""A view for each layer of a stage, counted from its first."""

BLOCK_TOKENS = 64  # room grows by at least this much, so that decoding seldom allocates
MOST_SPARE_TOKENS = 1024  # and is doubled until it grows by this much


class StageCache:
    """KV cache of one session for one stage's layers.

    Room is taken in blocks and doubled as needed, so a token costs one write per layer and no
    concatenation. The whole history is kept even where layers slide a window over it: a rollback may
    bring back positions that had left the window.
    """

    __slots__ = ("_frontier", "_store")

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        self._store = torch.empty((layers, 2, kv_heads, 0, head_size), dtype=dtype, device=device)
        self._frontier = 0

    @property
    def frontier(self) -> int:
        """The first position that is not processed."""
        return self._frontier

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, room not yet used included."""
        return self._store.nbytes

    def truncate(self, position: int) -> None:
        """Forget `position` and everything after it; a cache that never got there stays as it is."""
        if position < 0:
            raise ValueError(f"position must be 0 or more, not {position}")
        self._frontier = min(self._frontier, position)

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more positions."""
        needed, room = self._frontier + rows, self._store.shape[3]
        if needed <= room:
            return
        blocks = _blocks(max(needed, min(2 * room, room + MOST_SPARE_TOKENS)))
        layers, two, heads, _, width = self._store.shape
        grown = self._store.new_empty((layers, two, heads, blocks * BLOCK_TOKENS, width))
        grown[:, :, :, : self._frontier] = self._store[:, :, :, : self._frontier]
        self._store = grown

    def views(self, start: int, end: int) -> tuple[Views, Views]:
        """Each layer's keys, and values, at positions `[start, end)`: (kv_heads, end - start, head_size).

        What is written there lands in the cache. Valid until more room is reserved.
        """
        keys, values = self._store[:, :, :, start:end].unbind(1)
        return keys.unbind(0), values.unbind(0)

    def advance(self, rows: int) -> None:
        """Move the frontier over rows that every layer has written."""
        self._frontier += rows


def most_room(tokens: int) -> int:
    """The positions that a cache of `tokens` has room for at most."""
    return _blocks(min(2 * tokens, tokens + MOST_SPARE_TOKENS)) * BLOCK_TOKENS


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)


class Segment(NamedTuple):
    """One session's share of a packed forward: `rows` rows that start at its cache's frontier."""

    cache: StageCache
    rows: int
