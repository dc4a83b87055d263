"""What a stage refuses, and that a refusal moves no frontier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ops.prepare import prepare
from shared.errors import ContextTooLongError
from shared.model.bundle import Bundle
from shared.model.loading import EdgeModel, load_cloud, load_edge
from shared.model.stage import Segment
from tests.parity.cases import case_named
from tests.parity.checkpoints import save_checkpoint
from tests.parity.staged import StagedModel, StagedSession


@pytest.fixture
def edge(bundle_folder: Path) -> EdgeModel:
    return load_edge(Bundle.open(bundle_folder))


def tokens(count: int) -> torch.Tensor:
    return torch.arange(3, 3 + count)


def test_only_the_first_stage_takes_tokens(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    stages = [*load_edge(bundle).stages, load_cloud(bundle).stage]
    assert [stage.takes_tokens for stage in stages] == [True, False, False]


def test_hidden_states_are_rows_of_the_models_width_and_logits_are_fp32(bundle_folder: Path) -> None:
    edge = load_edge(Bundle.open(bundle_folder), torch.bfloat16)
    rows = edge.stages[0].forward(tokens(5), [Segment(edge.stages[0].new_cache(), 5)])
    assert (rows.shape, rows.dtype) == ((5, 48), torch.bfloat16)
    logits = edge.heads[0].logits(rows[-1:])
    assert (logits.shape, logits.dtype) == ((1, 320), torch.float32)


def test_a_cache_costs_what_the_stage_says(edge: EdgeModel) -> None:
    cache = edge.stages[0].new_cache()
    edge.stages[0].forward(tokens(64), [Segment(cache, 64)])
    assert cache.nbytes == edge.stages[0].cache_bytes(64)


@pytest.mark.parametrize("shape", [(4,), (6,), (5, 48), (1, 5)])
def test_inputs_that_do_not_fit_the_segments_are_refused(edge: EdgeModel, shape: tuple[int, ...]) -> None:
    cache = edge.stages[0].new_cache()
    with pytest.raises(ValueError, match="don't fit"):
        edge.stages[0].forward(torch.ones(shape, dtype=torch.int64), [Segment(cache, 5)])
    assert cache.frontier == 0


def test_an_empty_segment_is_refused(edge: EdgeModel) -> None:
    with pytest.raises(ValueError, match="don't fit"):
        edge.stages[0].forward(tokens(0), [Segment(edge.stages[0].new_cache(), 0)])


def test_one_cache_in_two_segments_is_refused(edge: EdgeModel) -> None:
    cache = edge.stages[0].new_cache()
    with pytest.raises(ValueError, match="two segments"):
        edge.stages[0].forward(tokens(2), [Segment(cache, 1), Segment(cache, 1)])


def test_a_text_longer_than_the_models_positions_is_refused_untouched(edge: EdgeModel) -> None:
    stage, cache = edge.stages[0], edge.stages[0].new_cache()
    stage.forward(tokens(300), [Segment(cache, 300)])
    with pytest.raises(ContextTooLongError, match="513 tokens are more than this model's 512"):
        stage.forward(tokens(213), [Segment(cache, 213)])
    assert cache.frontier == 300


def test_long_rope_is_served_up_to_where_its_frequencies_would_change(tmp_path: Path) -> None:
    """Beyond it every cached key would have to be rotated anew, in stages on two machines."""
    checkpoint = save_checkpoint(case_named("phi3").model(), tmp_path / "checkpoint")
    assert prepare(checkpoint, [2], None, tmp_path / "bundle").max_positions == 256


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "granite"])
def test_embeddings_are_scaled_bit_for_bit_as_the_family_does_it(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    """Gemma rounds its scale to the weights' dtype first; Granite does not."""
    reference = case_named(name).model().to(dtype)
    checkpoint = save_checkpoint(reference, tmp_path / "checkpoint")
    stage = load_edge(prepare(checkpoint, [2], None, tmp_path / "bundle"), dtype).stages[0]
    with torch.inference_mode():
        expected = reference.model.embed_tokens(tokens(300)) * getattr(
            reference.config, "embedding_multiplier", 1
        )
        assert stage._embed is not None
        assert torch.equal(stage._embed(tokens(300)), expected)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3_text", "granite"])
def test_bf16_equals_the_reference_in_bf16_scaled_embeddings_included(tmp_path: Path, name: str) -> None:
    reference = case_named(name).model().to(torch.bfloat16)
    checkpoint = save_checkpoint(reference, tmp_path / "checkpoint")
    bundle = prepare(checkpoint, [2], None, tmp_path / "bundle")
    assert bundle.manifest.dtype == "bfloat16"
    session = StagedSession(StagedModel(bundle, torch.bfloat16), tokens(24).tolist())
    with torch.inference_mode():
        expected = reference(tokens(24)[None]).logits[0].float()
    # Attention sums in another order than the reference's; a wrong scale would differ by units.
    difference = (session.logits(session.model.last) - expected).abs()
    assert difference.mean() < 0.05 * expected.abs().mean()
