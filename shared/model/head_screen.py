"""An LM head in eight bits beside the exact one: says of nearly every token that it can't be the choice.

A logit is a product of a row of the LM head and a normed hidden state. Both are split into eight bits and
a remainder. The eight bits are multiplied as integers, exactly; what the remainders could add is bounded:

    row * x  =  row8 * x8  +  row8 * (x - x8)  +  (row - row8) * x
    |row * x - row8 * x8|  <=  |row8| |x - x8|  +  |row - row8| |x|                   (Cauchy-Schwarz)

So each token gets an interval that holds its logit. A token whose interval ends below another's beginning
is out, and a few exact rows decide among the rest.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared.model.heads import ExitHead
from shared.model.logit_bounds import (
    Bounds,
    Singles,
    array,
    finished_bounds,
    lengths,
    sum_rounding,
    whole_addition,
)
from shared.model.weights import quantise_rows, restore_rows

# Rows that are quantised at once: the fp32 copies of 4,096 rows of 2,048 are 32 MiB each.
_ROWS_AT_ONCE = 4096
# Lengths are rounded as well: this is more than that.
_SPARE = 1.001
_LEVELS = 127
# What sums of a handful of fp32 numbers round by, relative to their largest.
_FEW_ROUNDINGS = 16 * 2.0**-24
# Share of a row that its eight bits may lack; more, and the next eight are worth a second product.
_COARSE = 0.015


class HeadScreen:
    """The eight-bit copy of one LM head; heads that share the matrix share this.

    Args:
        matrix: the LM head, (vocab, hidden), any float dtype, on the CPU.
    """

    @torch.inference_mode()
    def __init__(self, matrix: Tensor) -> None:
        vocab = len(matrix)
        self._rows = torch.empty(matrix.shape, dtype=torch.int8)  # (vocab, hidden)
        self._scales = np.empty(vocab, np.float32)
        self._lengths = np.empty(vocab, np.float32)  # of the rows as eight bits give them back
        self._missing = np.empty(vocab, np.float32)  # lengths of what those rows lack
        for start in range(0, vocab, _ROWS_AT_ONCE):
            self._fill(slice(start, start + _ROWS_AT_ONCE), matrix)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the copy takes."""
        return sum(each.nbytes for each in (self._rows, self._scales, self._lengths, self._missing))

    def bounds(self, head: ExitHead, normed: Tensor) -> Bounds:
        """Every token's logit by eight bits, and between which numbers the head's own lies.

        Args:
            head: a head over this matrix.
            normed: what its LM head multiplies, (1, hidden).

        Returns:
            Bounds of the whole vocabulary, (1, vocab).
        """
        row = normed.float()
        length = float(lengths(row)) * _SPARE
        sums, missing = self._multiply(row, length)
        rounding = 2 * sum_rounding(row.shape[1]) + _FEW_ROUNDINGS
        # A row is no longer than what was kept of it and what was not, together.
        slack = self._missing * (length * (1 + rounding)) + self._lengths * (missing + rounding * length)
        return finished_bounds(head, sums[None], slack[None], whole_addition(head, normed))

    def _fill(self, part: slice, matrix: Tensor) -> None:
        exact = matrix[part].float()
        rows, scales = quantise_rows(exact)
        restored = restore_rows(rows, scales)
        self._rows[part], self._scales[part] = rows, scales.numpy()
        self._lengths[part] = lengths(restored).numpy() * _SPARE
        self._missing[part] = lengths(exact - restored).numpy() * _SPARE

    def _multiply(self, row: Tensor, length: float) -> tuple[Singles, float]:
        """(vocab,) products with a row of eight bits, and the length of what those lack of `row`.

        Where a few large numbers leave little for the others, the remainder gets eight bits as well.
        """
        digits, left, scale = _eight_bits(row)
        sums = self._products(digits)
        sums *= scale
        missing = float(lengths(left))
        if missing > _COARSE * length:
            digits, left, scale = _eight_bits(left)
            sums += self._products(digits) * np.float32(scale)
            missing = float(lengths(left))
        sums *= self._scales
        return sums, missing * _SPARE

    def _products(self, digits: Tensor) -> Singles:
        """Integer products, (vocab,): exact, as they stay below 2^31 up to 133,000 columns."""
        return array(torch._int_mm(digits, self._rows.t())[0])  # noqa: SLF001  the only integer product there is


def _eight_bits(row: Tensor) -> tuple[Tensor, Tensor, float]:
    """Digits in ±127 of `row`, what is left of it, and the digits' unit."""
    scale = float(row.abs().max()) / _LEVELS or 1.0
    digits = (row / scale).round_()
    return digits.to(torch.int8), row - digits * scale, scale


def screening_is_fast() -> bool:
    """Whether this CPU multiplies bytes in one instruction; elsewhere eight bits cost more than they save."""
    return bool(torch.cpu._is_vnni_supported())  # noqa: SLF001  torch has no public question for it
