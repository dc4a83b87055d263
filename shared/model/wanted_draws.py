"""What a worker draws from one forward: each row's token, from as little of the LM head as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from shared.model.choice import choose
from shared.model.chooser import are_few
from shared.model.draws import Wanted, all_finite, draw_rows
from shared.model.heads import ExitHead
from shared.model.logit_bounds import exact_bounds
from shared.model.sampling import Draw

# Rows that are multiplied by all of their grammars' tokens at once: (rows, tokens) numbers are held.
_ROWS_AT_ONCE: Final = 32


@torch.inference_mode()
def draw_wanted(head: ExitHead, rows: Tensor, wanted: Sequence[Wanted]) -> list[Draw]:
    """Draw a token from each row, as `draw_rows` does from all logits.

    Rows whose grammar allows a few tokens need only those tokens' rows of the LM head; they take the whole
    one where rounding could change the token.

    Args:
        head: the model's own.
        rows: (rows, hidden), as the stage returns them.
        wanted: one for each row.

    Raises:
        FloatingPointError: logits are not finite; a draw from them would be a confident lie.
    """
    few = [index for index, want in enumerate(wanted) if want.allowed and _are_few(head, want)]
    drawn: dict[int, Draw] = {}
    for start in range(0, len(few), _ROWS_AT_ONCE):
        part = few[start : start + _ROWS_AT_ONCE]
        found = _among_few(head, rows[part], [wanted[index] for index in part])
        drawn |= {index: each for index, each in zip(part, found, strict=True) if each is not None}
    rest = [index for index in range(len(wanted)) if index not in drawn]
    drawn |= zip(rest, _from_all(head, rows[rest], [wanted[index] for index in rest]), strict=True)
    return [drawn[index] for index in range(len(wanted))]


def _are_few(head: ExitHead, want: Wanted) -> bool:
    return are_few(head, want.allowed, want.sampling)


def _among_few(head: ExitHead, rows: Tensor, wanted: Sequence[Wanted]) -> list[Draw | None]:
    """Draws from the rows of all tokens that any of them allows; None where all logits are needed."""
    ids = np.unique(np.concatenate([np.asarray(want.allowed, dtype=np.int64) for want in wanted]))
    bounds = exact_bounds(head, head.parts.normed(rows), torch.from_numpy(ids))
    drawn = []
    for row, want in enumerate(wanted):
        allowed = np.asarray(want.allowed, dtype=np.int64)
        own = bounds.of(row, np.searchsorted(ids, allowed))
        drawn.append(choose(own, want.sampling, want.position, ids=allowed))
    return drawn


def _from_all(head: ExitHead, rows: Tensor, wanted: Sequence[Wanted]) -> list[Draw]:
    if not wanted:
        return []
    logits = head.logits(rows)
    if not all_finite(logits):
        msg = "the logits hold NaN or infinity"
        raise FloatingPointError(msg)
    return draw_rows(logits, wanted)
