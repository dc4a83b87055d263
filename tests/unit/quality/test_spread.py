"""What the ladder keeps of logits says what the edge's own draw says."""

from __future__ import annotations

import pytest
import torch

from ops.quality.spread import MEASURES, TEMPERATURES, best_token, spread
from shared.model.sampling import GREEDY, draw

VOCAB = 300


@pytest.mark.parametrize("allowed", [None, (4, 7), (3, 50, 51, 299)])
@pytest.mark.parametrize("scale", [0.5, 5.0, 40.0])
def test_tokens_and_confidences_are_those_of_the_edge(allowed: tuple[int, ...] | None, scale: float):
    logits = scale * torch.randn(VOCAB, generator=torch.Generator().manual_seed(1))
    found = spread(logits.numpy(), allowed, asked=4 if allowed is None else allowed[-1])
    for row, measure in enumerate(MEASURES):
        for column, temperature in enumerate(TEMPERATURES):
            drawn = draw(
                logits, GREEDY, 0, confidence_temperature=temperature, allowed=allowed, measure=measure
            )
            assert found.token == drawn.token == best_token(logits.numpy(), allowed)
            assert found.confidences[row, column] == pytest.approx(drawn.confidence, abs=1e-5)


def test_the_asked_tokens_probability_is_the_softmaxs():
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(2))
    found = spread(logits.numpy(), None, asked=17)
    for column, temperature in enumerate(TEMPERATURES):
        expected = (logits / temperature).log_softmax(-1)[17]
        assert found.log_probabilities[column] == pytest.approx(float(expected), abs=1e-5)
