"""Drawing for many rows is drawing for each."""

from __future__ import annotations

import pytest
import torch

from shared.model.draws import Wanted, draw_rows
from shared.model.sampling import GREEDY, draw
from shared.wire.messages import Sampling

VOCAB = 50
KINDS = [
    Wanted(3, GREEDY),
    Wanted(4, GREEDY, (1, 7, 9)),
    Wanted(5, Sampling(temperature=0.8, seed=4)),
    Wanted(6, Sampling(temperature=1.2, top_k=5, seed=9), (2, 3)),
    Wanted(7, GREEDY),
]


@pytest.mark.parametrize(
    "wanted", [KINDS, KINDS[:1], KINDS[2:4], []], ids=["mixed", "greedy", "other", "none"]
)
def test_each_row_is_drawn_as_if_it_were_alone(wanted: list[Wanted]) -> None:
    logits = torch.randn(len(wanted), VOCAB, generator=torch.Generator().manual_seed(2)) * 3
    expected = [
        draw(row, want.sampling, want.position, allowed=want.allowed or None)
        for row, want in zip(logits, wanted, strict=True)
    ]
    drawn = draw_rows(logits, wanted)
    assert [each.token for each in drawn] == [each.token for each in expected]
    assert [each.confidence for each in drawn] == pytest.approx([each.confidence for each in expected])


def test_of_equal_logits_the_same_token_is_taken_in_a_batch_and_alone() -> None:
    logits = torch.zeros(3, VOCAB)
    (alone,) = draw_rows(logits[:1], [Wanted(1, GREEDY)])
    assert [each.token for each in draw_rows(logits, [Wanted(1, GREEDY)] * 3)] == [alone.token] * 3
