"""A staged model equals the unsplit one, whatever was lazy, rolled back or packed on the way."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parity.cases import CASES, VOCAB, Case
from tests.parity.prepared import Prepared
from tests.parity.staged import StagedSession, forward_packed

TOLERANCE = 1e-4
PROMPT_TOKENS = 40


def text(tokens: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(3, VOCAB), k=tokens)


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


def test_staged_logits_equal_the_unsplit_models(prepared: Prepared) -> None:
    prompt = text(PROMPT_TOKENS)
    session = StagedSession(prepared.staged, prompt)
    assert_close(session.logits(prepared.staged.last), prepared.reference_logits(prompt))


def test_staged_greedy_text_equals_generate(prepared: Prepared) -> None:
    prompt = text(PROMPT_TOKENS)
    session = StagedSession(prepared.staged, prompt)
    for _ in range(64):
        session.token_ids.append(session.next_token(prepared.staged.last))
    with torch.inference_mode():
        expected = prepared.reference.generate(torch.tensor([prompt]), max_new_tokens=64, do_sample=False)
    assert session.token_ids == expected[0].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_lazy_catch_up_after_early_exits_leaves_no_trace(prepared: Prepared, seed: int) -> None:
    """Tokens that exit early leave holes above; the chunk that fills them must equal no hole at all."""
    choice = random.Random(seed)
    session = StagedSession(prepared.staged, text(12, seed))
    for _ in range(40):
        session.token_ids.append(session.next_token(choice.choice([0, 0, 0, 1, 1, prepared.staged.last])))
    assert_close(session.logits(prepared.staged.last), prepared.reference_logits(session.token_ids))


def test_catch_up_in_ragged_chunks_equals_one_pass(prepared: Prepared) -> None:
    tokens = text(60, 5)
    session = StagedSession(prepared.staged, tokens)
    choice = random.Random(5)
    end = 0
    while end < len(tokens):
        end = min(len(tokens), end + choice.randint(1, 17))
        session.catch_up(choice.randrange(len(prepared.staged.stages)), end)
    assert_close(session.logits(prepared.staged.last), prepared.reference_logits(tokens))


@pytest.mark.parametrize("position", [0, 1, 8, 9, 10, 33, 49, 50])
def test_rollback_to_any_position_and_on_equals_never_having_been_there(
    prepared: Prepared, position: int
) -> None:
    """Also back over positions that had left a sliding window, with rungs that had got differently far."""
    session = StagedSession(prepared.staged, text(50, 1))
    session.catch_up(prepared.staged.last, 44)
    session.catch_up(1, 47)
    session.catch_up(0)
    session.truncate(position)
    session.token_ids += text(30, 2)
    assert_close(session.logits(prepared.staged.last), prepared.reference_logits(session.token_ids))


def test_packed_sessions_equal_each_alone(prepared: Prepared) -> None:
    """Prefill chunks and single decode rows of sessions of different lengths, in the same forwards."""
    lengths = [1, 37, 5, 64, 12]
    together = [StagedSession(prepared.staged, text(n, n)) for n in lengths]
    alone = [StagedSession(prepared.staged, text(n, n)) for n in lengths]
    for turn in range(6):
        for rung in range(len(prepared.staged.stages)):
            forward_packed(together, rung)
        for index, (packed, single) in enumerate(zip(together, alone, strict=True)):
            assert_close(packed.logits(prepared.staged.last), single.logits(prepared.staged.last))
            more = text(1 if index % 2 else turn + 1, 100 * turn + index)
            packed.token_ids += more
            single.token_ids += more


def test_each_exit_head_speaks_for_the_layers_below_it(prepared: Prepared) -> None:
    """An exit's first form is the model's own norm and head over that depth's hidden states."""
    prompt = text(20, 3)
    session = StagedSession(prepared.staged, prompt)
    for rung, exit_layer in enumerate(prepared.bundle.partition.exits):
        shallow = copy.deepcopy(prepared.reference)
        shallow.model.layers = shallow.model.layers[:exit_layer]
        with torch.inference_mode():
            expected = shallow(torch.tensor([prompt]), use_cache=False).logits[0]
        assert_close(session.logits(rung), expected)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["write", "ask", "roll back"]), st.integers(0, 20)), max_size=12))
def test_no_order_of_writing_asking_and_rolling_back_changes_what_a_text_means(
    prepared: Prepared, moves: list[tuple[str, int]]
) -> None:
    session = StagedSession(prepared.staged, text(3, 9))
    for move, amount in moves:
        if move == "write":
            session.token_ids += text(amount, amount)
        elif move == "ask":
            session.catch_up(amount % len(prepared.staged.stages))
        else:
            session.truncate(max(1, len(session.token_ids) - amount))
    assert_close(session.logits(prepared.staged.last), prepared.reference_logits(session.token_ids))


FEATURES = [
    pytest.param(case, off, id=f"{case.name}-{name}") for case in CASES for name, off in case.features.items()
]


@pytest.mark.parametrize(("case", "switched_off"), FEATURES)
def test_the_features_of_these_models_really_bite(case: Case, switched_off: dict[str, object]) -> None:
    """If switching a feature off changed nothing, parity would say nothing about it."""
    prompt = torch.tensor([text(PROMPT_TOKENS)])
    with_feature, without = case.model(), case.model(**switched_off)
    without.load_state_dict(with_feature.state_dict())
    with torch.inference_mode():
        difference = (with_feature(prompt).logits - without(prompt).logits).abs().max()
    assert difference > 100 * TOLERANCE
