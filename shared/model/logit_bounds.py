"""Between which numbers a logit lies, however it is computed.

Two computations of one logit differ by the rounding of their sums. Whoever computes a few logits instead of
all, or the same ones from eight-bit weights, has to know by how much, to be sure of the same decision.

    |rounded sum - sum| <= n u / (1 - n u) * sum of |terms|,     u = 2^-24, n terms in any order
    sum of |terms|      <= |row of the LM head| * |normed hidden state|              (Cauchy-Schwarz)

Source: N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import linear

from shared.model.heads import ExitHead

Singles = npt.NDArray[np.float32]

_SUM_ROUNDING = 2.0**-24  # every kernel that we use sums in fp32, whatever the weights are
# A finish divides, takes a tanh and multiplies: three roundings, each of one unit or less.
_FINISH_ROUNDINGS = 4


class Bounds(NamedTuple):
    """Some tokens' logits, (tokens,), or (rows, tokens). Arrays: their operations start sooner than tensors'.

    Attributes:
        logits: as they were computed.
        low: the head's own logits are not below these,
        high: and not above these.
    """

    logits: Singles
    low: Singles
    high: Singles

    def of(self, row: int, tokens: Any = slice(None)) -> Bounds:
        """One row's, of all tokens or of those at some places."""
        return Bounds(self.logits[row, tokens], self.low[row, tokens], self.high[row, tokens])


def exact_bounds(head: ExitHead, normed: Tensor, ids: Tensor) -> Bounds:
    """The logits of a few tokens from the head's own weights; only rounding is uncertain.

    Args:
        head: whose.
        normed: what its LM head multiplies, (rows, hidden).
        ids: (tokens,) int64.

    Returns:
        Bounds of (rows, tokens).
    """
    weights = head.matrix.index_select(0, ids)
    return finished_bounds(head, *_product(normed, weights), _addition(head, normed, ids))


def finished_bounds(head: ExitHead, sums: Singles, slack: Singles, addition: Addition | None) -> Bounds:
    """Bounds after a low-rank addition and what the family does to its logits.

    Args:
        head: whose.
        sums: products with the LM head, (rows, tokens).
        slack: how far the head's own sums may be from these, not counting that they are stored rounded.
        addition: what is added to them.
    """
    # Half the gap between neighbouring numbers of the dtype in which the head stores its logits.
    unit = np.float32(torch.finfo(head.matrix.dtype).eps / 2)
    sizes: Any = np.abs(sums)
    if addition is not None:
        sizes += np.abs(addition.term) + np.abs(sums + addition.term)
        sums, slack = sums + addition.term, slack + addition.slack
    slack = slack + sizes * (unit + unit)
    if not head.parts.is_finishing:
        return Bounds(sums, sums - slack, sums + slack)
    logits, low, high = (_finished(head, each) for each in (sums, sums - slack, sums + slack))
    spare = np.maximum(np.abs(low), np.abs(high)) * (np.float32(_FINISH_ROUNDINGS) * unit)
    return Bounds(logits, low - spare, high + spare)


class Addition(NamedTuple):
    """What a low-rank addition adds to some logits, and how far two computations of it may differ.

    Both are (rows, tokens).
    """

    term: Singles
    slack: Singles


def whole_addition(head: ExitHead, normed: Tensor) -> Addition | None:
    """The low-rank addition to the whole vocabulary's logits for (rows, hidden), if the head has one."""
    return _addition(head, normed, None)


def _addition(head: ExitHead, normed: Tensor, ids: Tensor | None) -> Addition | None:
    down, up = head.parts.lora_down, head.parts.lora_up
    if down is None or up is None:
        return None
    weights = up.weight if ids is None else up.weight.index_select(0, ids)
    return Addition(*_product(down(normed), weights))


def _product(rows: Tensor, weights: Tensor) -> tuple[Singles, Singles]:
    """Every row times every row of weights, (rows, tokens), and how far two such computations may differ."""
    reach = np.outer(array(lengths(rows)), array(lengths(weights)))
    return array(linear(rows, weights)), reach * np.float32(2 * sum_rounding(rows.shape[1]))


def _finished(head: ExitHead, logits: Singles) -> Singles:
    return array(head.parts.finished(torch.from_numpy(logits)))


def array(numbers: Tensor) -> Singles:
    """A tensor's numbers in fp32."""
    values: Singles = numbers.float().numpy()
    return values


def sum_rounding(terms: int) -> float:
    """The relative error of a sum of products: more than its additions and one multiplication each."""
    return (terms + 8) * _SUM_ROUNDING / (1 - (terms + 8) * _SUM_ROUNDING)


def lengths(rows: Tensor) -> Tensor:
    """Euclidean lengths of (rows, columns), (rows,) fp32."""
    found: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32)
    return found
