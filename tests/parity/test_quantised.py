"""Weights in eight and four bits on every family: near the exact model, and no session touches another."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from ops.prepare import prepare
from shared.model.linear import Int4Linear, Int8Linear
from shared.model.precision import precision_named
from shared.model.stage import Segment
from tests.parity.cases import VOCAB
from tests.parity.prepared import Prepared
from tests.parity.staged import StagedModel, StagedSession, forward_packed

KINDS = {"int8": Int8Linear, "int4": Int4Linear}
# Of the last logits. Random layers of width 48 spread errors far more than trained ones do.
BOUNDS = {"int8": 0.1, "int4": 0.6}
OUTLIER = 1e5


def text(tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(3, VOCAB), k=tokens)


def staged(prepared: Prepared, name: str) -> StagedModel:
    precision = precision_named(name)
    return StagedModel(prepared.bundle, precision.dtype, precision.linear)


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_near_the_unsplit_models(prepared: Prepared, name: str) -> None:
    prompt = text(24, 1)
    model = staged(prepared, name)
    logits = StagedSession(model, prompt).logits(model.last)
    assert 0 < error(logits, prepared.reference_logits(prompt)) < BOUNDS[name]


@pytest.mark.parametrize("name", KINDS)
def test_every_linear_layer_is_replaced(prepared: Prepared, name: str) -> None:
    for stage in staged(prepared, name).stages:
        for layer in stage._layers:
            parts = list(layer.modules())
            assert not any(isinstance(part, nn.Linear) for part in parts)
            assert sum(isinstance(part, KINDS[name]) for part in parts) >= 4


@pytest.mark.parametrize("name", KINDS)
def test_packed_sessions_have_the_texts_that_they_have_alone(prepared: Prepared, name: str) -> None:
    model = staged(prepared, name)
    prompts = [text(7, seed) for seed in range(3)]
    alone = [StagedSession(model, prompt).logits(model.last) for prompt in prompts]
    sessions = [StagedSession(model, prompt) for prompt in prompts]
    for rung in range(model.last + 1):
        forward_packed(sessions, rung)
    for session, expected in zip(sessions, alone, strict=True):
        assert error(session.logits(model.last), expected) < 0.02


@pytest.mark.parametrize("name", KINDS)
def test_a_sessions_outlier_does_not_reach_its_neighbour(prepared: Prepared, name: str) -> None:
    stage = staged(prepared, name).stages[-1]
    rows = torch.randn(5, stage.hidden_size, generator=torch.Generator().manual_seed(2))
    wild = rows.clone()
    wild[:, 3] = OUTLIER
    alone = stage.forward(rows, [Segment(stage.new_cache(), 5)])
    both = [Segment(stage.new_cache(), 5), Segment(stage.new_cache(), 5)]
    assert error(stage.forward(torch.cat([wild, rows]), both)[5:], alone) < 0.005


def test_a_bundle_in_eight_bits_is_served_from_its_own_digits(
    prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its digits are those of the whole bundle's weights, so the model is the same."""
    folder = tmp_path_factory.mktemp("int8")
    checkpoint = prepared.bundle.path.parent / "checkpoint"
    precision = precision_named("int8")
    bundle = prepare(checkpoint, [2, 4], None, folder / "bundle", dtype="int8")
    small = StagedModel(bundle, precision.dtype, precision.linear)
    rows = torch.randn(4, small.stages[-1].hidden_size, generator=torch.Generator().manual_seed(2))
    stages = small.stages[-1], staged(prepared, "int8").stages[-1]
    from_digits, from_floats = (stage.forward(rows, [Segment(stage.new_cache(), 4)]) for stage in stages)
    # Norms are bf16 in the one and fp32 in the other.
    assert error(from_digits, from_floats) < 0.05
