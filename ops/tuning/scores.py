"""How good exits are on held-out text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ops.tuning.backbone import Backbone
from ops.tuning.pieces import Piece

_BINS: Final = 15  # as Guo et al., On Calibration of Modern Neural Networks (2017)

Logits = Callable[[Tensor], Tensor]
"""Hidden states (rows, hidden) to logits (rows, vocab) in fp32."""


class ExitScore(msgspec.Struct, frozen=True):
    """One exit on held-out text.

    Attributes:
        agreement: share of rows whose most probable token is the full model's.
        nll: of the text's next token, in nats per token.
        calibration_error: expected difference between confidence (largest probability, at temperature 1)
            and agreement, over 15 bins of confidence.
    """

    agreement: float
    nll: float
    calibration_error: float


class Scores(msgspec.Struct, frozen=True):
    """All exits on the same text.

    Attributes:
        rows: how many tokens were foretold.
        full_nll: the full model's, in nats per token.
        exits: by layer.
    """

    rows: int
    full_nll: float
    exits: dict[int, ExitScore]


def score(
    backbone: Backbone, heads: Mapping[int, Logits], pieces: Sequence[Piece], batch_tokens: int
) -> Scores:
    """Measure `heads` on `pieces`, reading at most about `batch_tokens` at once."""
    tallies = {layer: _Tally() for layer in heads}
    full = _Tally()
    for group in _groups(pieces, batch_tokens):
        seen = backbone.run(group)
        for rows in backbone.chunks(len(seen.targets)):
            final, targets = backbone.final_logits(seen.last[rows]), seen.targets[rows]
            choice = final.argmax(-1)
            full.add(final, choice, targets)
            for layer, logits in heads.items():
                tallies[layer].add(logits(seen.exits[layer][rows]), choice, targets)
    exits = {layer: tally.score() for layer, tally in tallies.items()}
    return Scores(full.rows, full.score().nll, exits)


def _groups(pieces: Sequence[Piece], tokens: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece.ids)
        if size >= tokens:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Tally:
    """Sums over rows, in double precision."""

    def __init__(self) -> None:
        self.rows = 0
        self._agreed = 0
        self._nll = 0.0
        self._gaps = torch.zeros(_BINS, dtype=torch.float64)  # confidence minus agreement, summed

    @torch.inference_mode()
    def add(self, logits: Tensor, choice: Tensor, targets: Tensor) -> None:
        """Count rows: (rows, vocab) logits, the full model's choice and the text's token, (rows,) each."""
        confidence, guess = logits.softmax(-1).max(-1)
        agrees = guess == choice
        bins = (confidence * _BINS).long().clamp(max=_BINS - 1).cpu()
        gaps = (confidence.double() - agrees.double()).cpu()
        self.rows += len(targets)
        self._agreed += int(agrees.sum())
        self._nll += float(cross_entropy(logits, targets, reduction="sum"))
        self._gaps.index_add_(0, bins, gaps)

    def score(self) -> ExitScore:
        """The means."""
        rows = max(1, self.rows)
        return ExitScore(self._agreed / rows, self._nll / rows, float(self._gaps.abs().sum()) / rows)
