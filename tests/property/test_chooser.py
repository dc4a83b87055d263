"""Whatever the cheap ways say of a row, the whole head says too."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.model.chooser import Chooser
from shared.model.head_screen import HeadScreen
from shared.model.heads import ExitHead
from shared.model.logit_bounds import exact_bounds
from shared.model.sampling import GREEDY, Draw, draw, gumbel_noise, gumbel_noise_of
from shared.wire.messages import Sampling
from tests.unit.model.exit_heads import cap, exit_head, row_towards, scale_down

VOCAB, HIDDEN = 640, 96
KINDS = {
    "fp32": {},
    "bf16": {"dtype": torch.bfloat16},
    "capped": {"finish": cap},
    "capped-bf16": {"finish": cap, "dtype": torch.bfloat16},
    "scaled": {"finish": scale_down},
    "lora": {"rank": 4},
    "lora-bf16": {"rank": 4, "dtype": torch.bfloat16},
    "own": {"own": True},
}


@lru_cache
def made(kind: str) -> tuple[ExitHead, HeadScreen]:
    head = exit_head(VOCAB, HIDDEN, **KINDS[kind])
    return head, HeadScreen(head.matrix)


kinds = st.sampled_from(sorted(KINDS))
temperatures = st.sampled_from([0.3, 1.0, 2.0])
pulls = st.floats(0.0, 1.5)
seeds = st.integers(0, 2**31)


def whole(head: ExitHead, row: torch.Tensor, sampling: Sampling, **options) -> Draw:
    return draw(head.logits(row)[0], sampling, 7, **options)


@given(kinds, pulls, seeds, temperatures, st.floats(0.0, 1.0))
def test_a_screened_token_and_its_decision_are_the_whole_heads(kind, pull, seed, temperature, threshold):
    head, screen = made(kind)
    row = row_towards(head, seed % VOCAB, pull, seed)
    chooser = Chooser(head, temperature, screen=screen)
    expected = whole(head, row, GREEDY, confidence_temperature=temperature)
    for asked in (threshold, expected.confidence, None):
        drawn = chooser.draw(row, GREEDY, 7, threshold=asked)
        assert drawn.token == expected.token
        if asked is not None:
            assert (drawn.confidence > asked) == (expected.confidence > asked)


@given(
    kinds,
    pulls,
    seeds,
    temperatures,
    st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=70, unique=True).map(sorted),
    st.sampled_from([GREEDY, Sampling(0.8, 0, 1.0, 3), Sampling(1.5, 2, 1.0, 3), Sampling(1.5, 0, 0.9, 3)]),
)
def test_a_token_among_few_and_its_decision_are_the_whole_heads(
    kind, pull, seed, temperature, allowed, sampling
):
    head, _ = made(kind)
    row = row_towards(head, allowed[0], pull, seed)
    chooser = Chooser(head, temperature)
    expected = whole(head, row, sampling, confidence_temperature=temperature, allowed=allowed)
    for asked in (0.5, expected.confidence):
        drawn = chooser.draw(row, sampling, 7, allowed=allowed, threshold=asked)
        assert drawn.token == expected.token
        assert (drawn.confidence > asked) == (expected.confidence > asked)
        assert drawn.confidence == pytest.approx(expected.confidence, abs=2e-2 if "bf16" in kind else 1e-4)


@given(kinds, pulls, seeds, st.sampled_from([0.0, 1.0, 1e4]))
def test_bounds_hold_the_heads_own_logits_even_with_a_few_huge_columns(kind, pull, seed, outlier):
    head, screen = made(kind)
    row = row_towards(head, seed % VOCAB, pull, seed)
    row[0, seed % HIDDEN] += outlier
    normed = head.parts.normed(row)
    own = head.logits(row)[0]
    ids = torch.arange(0, VOCAB, 7)
    for bounds, logits in (
        (screen.bounds(head, normed).of(0), own),
        (exact_bounds(head, normed, ids).of(0), own[ids]),
    ):
        assert bool((bounds.low <= logits.numpy()).all())
        assert bool((logits.numpy() <= bounds.high).all())


@given(seeds, st.integers(0, 2**40), st.lists(st.integers(0, 2000), min_size=1, max_size=50))
@settings(max_examples=50)
def test_noise_of_a_few_tokens_is_that_of_the_whole_vocabulary_bit_for_bit(seed, position, ids):
    few = gumbel_noise_of(torch.tensor(ids).numpy(), seed, position)
    assert few.tolist() == gumbel_noise(seed, position, 2001)[ids].tolist()


@given(seeds)
@settings(max_examples=20)
def test_equal_rows_are_left_to_the_whole_head_which_takes_the_first(seed):
    head = exit_head(64, 32, seed=1)
    head.lm_head[40] = head.lm_head[8]
    row = row_towards(head, 8, 1.0, seed)
    screened = Chooser(head, screen=HeadScreen(head.matrix))
    assert screened.draw(row, GREEDY, 7).token == whole(head, row, GREEDY).token == 8
    assert screened.draw(row, GREEDY, 7, allowed=[8, 40]).token == 8
    assert screened.ways == {"whole": 2}
