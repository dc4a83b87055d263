"""Which way a token is drawn, and that nothing but its cost depends on that."""

from __future__ import annotations

import pytest
import torch

from shared.model.chooser import Chooser, choosers_for, screening_pays
from shared.model.draws import Wanted, draw_rows
from shared.model.head_screen import HeadScreen
from shared.model.sampling import GREEDY, draw
from shared.model.wanted_draws import draw_wanted
from shared.wire.messages import Sampling
from tests.unit.model.exit_heads import exit_head, row_towards

VOCAB, HIDDEN = 2048, 128
ALLOWED = [3, 70, 700, 1900]


@pytest.fixture
def chooser() -> Chooser:
    head = exit_head(VOCAB, HIDDEN)
    return Chooser(head, screen=HeadScreen(head.matrix))


def row(pull: float = 1.0):
    return row_towards(exit_head(VOCAB, HIDDEN), 70, pull, seed=1)


def test_a_sure_row_needs_the_screen_alone(chooser: Chooser):
    drawn = chooser.draw(row(), GREEDY, 4, threshold=0.8)
    assert drawn.token == 70
    assert drawn.confidence > 0.8
    assert chooser.ways == {"screen": 1}


def test_few_allowed_tokens_need_their_own_rows_alone(chooser: Chooser):
    assert chooser.draw(row(), GREEDY, 4, allowed=ALLOWED, threshold=0.8).token == 70
    assert chooser.draw(row(), Sampling(0.7, 0, 1.0, 5), 4, allowed=ALLOWED).token in ALLOWED
    assert chooser.ways == {"few": 2}


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(temperature=0.8), None),
        (Sampling(temperature=0.8, top_k=2), ALLOWED),
        (Sampling(temperature=0.8, top_p=0.9), ALLOWED),
        (GREEDY, list(range(0, VOCAB, 2))),
    ],
    ids=["free sampling", "top-k", "top-p", "half the vocabulary"],
)
def test_what_needs_all_logits_gets_them(chooser: Chooser, sampling, allowed):
    logits = exit_head(VOCAB, HIDDEN).logits(row(0.1))[0]
    assert chooser.draw(row(0.1), sampling, 4, allowed=allowed) == draw(logits, sampling, 4, allowed=allowed)
    assert chooser.ways == {"whole": 1}


def test_a_confidence_at_the_threshold_is_left_to_the_whole_head(chooser: Chooser):
    at = draw(exit_head(VOCAB, HIDDEN).logits(row(0.2))[0], GREEDY, 4).confidence
    assert chooser.draw(row(0.2), GREEDY, 4, threshold=at).confidence == at
    assert chooser.ways == {"whole": 1}


def test_other_measures_meet_thresholds_with_all_logits(chooser: Chooser):
    head = exit_head(VOCAB, HIDDEN)
    by_margin = Chooser(head, 1.0, "margin", HeadScreen(head.matrix))
    expected = draw(head.logits(row())[0], GREEDY, 4, measure="margin")
    assert by_margin.draw(row(), GREEDY, 4, threshold=0.5) == expected
    assert by_margin.ways == {"whole": 1}
    by_margin.draw(row(), GREEDY, 4)
    assert by_margin.ways == {"whole": 1, "screen": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_left_to_the_whole_head(chooser: Chooser, value):
    broken = row()
    broken[0, 3] = value
    chooser.draw(broken, GREEDY, 4, threshold=0.5)
    chooser.draw(broken, GREEDY, 4, allowed=ALLOWED, threshold=0.5)
    assert chooser.ways == {"whole": 2}


def test_a_tiny_temperature_draws_the_most_probable_of_few(chooser: Chooser):
    for temperature in (1e-3, 1e-30, 1e-308):
        assert chooser.draw(row(), Sampling(temperature, 0, 1.0, 1), 4, allowed=ALLOWED).token == 70


def test_a_screen_knows_a_head_that_was_stored_in_eight_bits_without_any_doubt():
    head = exit_head(VOCAB, HIDDEN)
    scale = head.lm_head.abs().amax(dim=1, keepdim=True) / 127
    head.lm_head = (head.lm_head / scale).round() * scale
    bounds = HeadScreen(head.matrix).bounds(head, head.parts.normed(row()))
    plain = HeadScreen(exit_head(VOCAB, HIDDEN).matrix).bounds(head, head.parts.normed(row()))
    assert (bounds.high - bounds.low).mean() < 0.7 * (plain.high - plain.low).mean()


def test_heads_of_one_matrix_share_a_screen_and_small_ones_have_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.model.chooser._SCREEN_FROM_BYTES", VOCAB * HIDDEN * 4)
    monkeypatch.setattr("shared.model.chooser.screening_is_fast", lambda: True)
    large, small = exit_head(VOCAB, HIDDEN), exit_head(VOCAB - 1, HIDDEN)
    assert screening_pays(large.matrix)
    assert not screening_pays(small.matrix)
    first, second, third = choosers_for([large, large, small], (1.0,) * 3, ("max_probability",) * 3)
    assert first._screen is second._screen is not None
    assert third._screen is None


WANTED = [
    Wanted(4, GREEDY, tuple(ALLOWED)),
    Wanted(9, GREEDY),
    Wanted(5, Sampling(0.9, 0, 1.0, 3), (5, 70, 71, 2000)),
    Wanted(6, Sampling(0.9, 3, 1.0, 3), tuple(ALLOWED)),
    Wanted(7, Sampling(0.9, 0, 1.0, 3)),
    Wanted(8, GREEDY, (3,)),
]


def test_a_workers_rows_are_drawn_as_from_all_logits():
    head = exit_head(VOCAB, HIDDEN)
    rows = torch.cat([row_towards(head, 70, 0.2, seed) for seed in range(len(WANTED))])
    drawn, expected = draw_wanted(head, rows, WANTED), draw_rows(head.logits(rows), WANTED)
    assert [each.token for each in drawn] == [each.token for each in expected]
    assert [each.confidence for each in drawn] == pytest.approx([e.confidence for e in expected], abs=1e-5)
    assert draw_wanted(head, rows[:0], []) == []


@pytest.mark.parametrize("number", range(len(WANTED)))
def test_a_workers_row_that_is_not_finite_is_no_token(number):
    head = exit_head(VOCAB, HIDDEN)
    rows = torch.cat([row(), torch.full((1, HIDDEN), float("nan"))])
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        draw_wanted(head, rows, [WANTED[0], WANTED[number]])
