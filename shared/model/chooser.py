"""Draws an exit's token without multiplying by its whole LM head, where that changes no decision.

A head costs as much as several layers when the vocabulary is large. What it is asked for is little: a token,
and whether its confidence is above a threshold. The ways to the answer, cheapest first:

    way       when                                          what is multiplied
    -------   -------------------------------------------   ------------------------------------------
    few       a grammar allows a few tokens                  their rows alone
    screen    any token may come, greedy, on a fast CPU      the head in eight bits, then some exact rows
    whole     all else, and whenever the others can't tell   the LM head

`few` and `screen` know between which numbers the head's own logits lie (`logit_bounds.py`). They answer only
if token and decision are the same wherever in there the logits are (`choice.py`); else the whole head is
asked. So the text is the whole head's. The confidence that is reported is an estimate, on the right side of
the threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.model.choice import choose
from shared.model.confidence import MAX_PROBABILITY, Measure
from shared.model.head_screen import HeadScreen, screening_is_fast
from shared.model.heads import ExitHead
from shared.model.logit_bounds import Bounds, exact_bounds
from shared.model.sampling import Draw, draw
from shared.wire.messages import Sampling

Way = Literal["few", "screen", "whole"]

# Rows are gathered before they are multiplied: copying more than this share costs more than it saves.
_FEW_SHARE: Final = 1 / 8
# Rows that a screen may leave to the exact head. More mean that nothing stands out.
_MOST_EXACT: Final = 256
# Tokens this far below the best, in confidence's own units (nats), say nearly nothing about it.
_NEAR_NATS: Final = 8.0
# An LM head that stays in a core's caches is multiplied as soon as a screen is done.
_SCREEN_FROM_BYTES: Final = 16 * 2**20


class Chooser:
    """Draws the tokens of one exit.

    Args:
        head: the exit's.
        temperature: divides its logits before the confidence is taken (calibration).
        measure: what its confidence is. All but the largest probability take the whole head when a
            threshold is at stake.
        screen: its LM head in eight bits; None: not used.

    Attributes:
        ways: how often each way gave the answer.
    """

    def __init__(
        self,
        head: ExitHead,
        temperature: float = 1.0,
        measure: Measure = MAX_PROBABILITY,
        screen: HeadScreen | None = None,
    ) -> None:
        self.ways: Counter[Way] = Counter()
        self._head = head
        self._temperature = temperature
        self._measure = measure
        self._screen = screen

    @torch.inference_mode()
    def draw(
        self,
        row: Tensor,
        sampling: Sampling,
        position: int,
        *,
        allowed: Sequence[int] | None = None,
        threshold: float | None = None,
    ) -> Draw:
        """Draw the token at `position`: the same one as from all logits.

        Args:
            row: what the stage says of the position before, (1, hidden).
            sampling: temperature, top-k, top-p and seed.
            position: of the token to be drawn.
            allowed: the only ids that may be drawn, ascending, and that the confidence is about; None: all.
            threshold: what the confidence will be compared with: the returned one is above it exactly if
                that of all logits is. None: nothing; then the confidence is an estimate.

        Returns:
            The token and the exit's confidence.
        """
        way = self._way(sampling, allowed, threshold)
        drawn = None
        if way != "whole":
            bounds, ids = self._bounds(row, allowed, narrow=threshold is not None)
            drawn = bounds and choose(
                bounds,
                sampling,
                position,
                ids=ids,
                temperature=self._temperature,
                measure=self._measure,
                threshold=threshold,
            )
        self.ways[way if drawn else "whole"] += 1
        return drawn or self._from_all(row, sampling, position, allowed)

    def _way(self, sampling: Sampling, allowed: Sequence[int] | None, threshold: float | None) -> Way:
        """The cheapest that is open."""
        if threshold is not None and self._measure != MAX_PROBABILITY:
            return "whole"
        if allowed is not None:
            return "few" if are_few(self._head, allowed, sampling) else "whole"
        return "screen" if self._screen is not None and sampling.temperature == 0.0 else "whole"

    def _bounds(
        self, row: Tensor, allowed: Sequence[int] | None, *, narrow: bool
    ) -> tuple[Bounds | None, npt.NDArray[np.int64] | None]:
        """Bounds of the tokens that may be drawn, and their ids; None: of the whole vocabulary."""
        normed = self._head.parts.normed(row)
        if allowed is None:
            return self._screened(normed, narrow=narrow), None
        ids = np.asarray(allowed, dtype=np.int64)
        return exact_bounds(self._head, normed, torch.from_numpy(ids)).of(0), ids

    def _screened(self, normed: Tensor, *, narrow: bool) -> Bounds | None:
        """Bounds of the whole vocabulary, those near the best as narrow as exact weights make them.

        Args:
            normed: what the LM head multiplies, (1, hidden).
            narrow: whether all that counts for the confidence is near, or only what may be the best.

        Returns:
            None: too many tokens are near.
        """
        assert self._screen is not None
        wide = self._screen.bounds(self._head, normed).of(0)
        ids = self._worth_exact(wide, narrow=narrow)
        if not 0 < len(ids) <= _MOST_EXACT:
            return None
        exact = exact_bounds(self._head, normed, torch.from_numpy(ids)).of(0)
        for all_bounds, narrow_ones in zip(wide, exact, strict=True):
            all_bounds[ids] = narrow_ones
        return wide

    def _worth_exact(self, wide: Bounds, *, narrow: bool) -> npt.NDArray[np.int64]:
        floor = wide.low.max()
        if narrow:
            ids = np.flatnonzero(wide.high >= floor - _NEAR_NATS * self._temperature)
            if len(ids) <= _MOST_EXACT:
                return ids
        return np.flatnonzero(wide.high >= floor)

    def _from_all(
        self, row: Tensor, sampling: Sampling, position: int, allowed: Sequence[int] | None
    ) -> Draw:
        logits = self._head.logits(row)[0]
        temperature, measure = self._temperature, self._measure
        return draw(
            logits, sampling, position, confidence_temperature=temperature, allowed=allowed, measure=measure
        )


def are_few(head: ExitHead, allowed: Sequence[int], sampling: Sampling) -> bool:
    """Whether a draw among `allowed` can be made from their rows of the LM head, and that is cheaper."""
    kept_by_rank = sampling.temperature > 0.0 and (sampling.top_k > 0 or sampling.top_p < 1.0)
    on_cpu = head.matrix.device.type == "cpu"  # a GPU's head is cheap, and its sums round by other rules
    return on_cpu and not kept_by_rank and len(allowed) <= _FEW_SHARE * len(head.matrix)


def choosers_for(
    heads: Sequence[ExitHead], temperatures: Sequence[float], measures: Sequence[Measure]
) -> list[Chooser]:
    """A chooser for each exit, with screens where they pay; heads that share an LM head share its screen.

    A screen takes a quarter of the memory of an fp32 LM head, half of a bf16 one.

    Args:
        heads: the exits'.
        temperatures: one for each.
        measures: one for each.
    """
    screens: dict[int, HeadScreen] = {}
    for head in heads:
        if screening_pays(head.matrix) and head.matrix.data_ptr() not in screens:
            screens[head.matrix.data_ptr()] = HeadScreen(head.matrix)
    return [
        Chooser(head, temperature, measure, screens.get(head.matrix.data_ptr()))
        for head, temperature, measure in zip(heads, temperatures, measures, strict=True)
    ]


def screening_pays(matrix: Tensor) -> bool:
    """Whether eight bits of an LM head are multiplied so much sooner that the bounds are worth it."""
    on_cpu = matrix.device.type == "cpu" and matrix.is_floating_point()
    return on_cpu and screening_is_fast() and matrix.nbytes >= _SCREEN_FROM_BYTES
