"""A family's reference model beside its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from ops.prepare import prepare
from shared.model.bundle import Bundle
from tests.parity.cases import Case
from tests.parity.checkpoints import save_checkpoint
from tests.parity.staged import StagedModel


@dataclass(frozen=True)
class Prepared:
    """The unsplit model, and the same model saved, prepared and loaded by the real path."""

    case: Case
    reference: Any
    bundle: Bundle
    staged: StagedModel

    @classmethod
    def make(cls, case: Case, folder: Path) -> Self:
        """Save the case's checkpoint, prepare it with two exits, and load every stage."""
        reference = case.model()
        checkpoint = save_checkpoint(reference, folder / "checkpoint")
        bundle = prepare(checkpoint, [2, 4], None, folder / "bundle")
        return cls(case, reference, bundle, StagedModel(bundle))

    def reference_logits(self, token_ids: list[int]) -> torch.Tensor:
        """(positions, vocab) of the unsplit model."""
        with torch.inference_mode():
            return self.reference(torch.tensor([token_ids])).logits[0]
