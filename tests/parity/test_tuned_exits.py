"""Exits of every form on every family: tuned, stored, loaded and decoded by the real path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ops.tuning.tune import Output, Tuning
from shared.model.attention import PackedRows
from shared.model.bundle import Bundle
from shared.model.families import family_of
from shared.model.heads import exit_parts
from shared.model.loading import load_edge
from shared.model.manifest import EDGE_FILE, ExitEntry
from shared.model.stage import Segment
from shared.model.weights import open_weights
from tests.parity.prepared import Prepared
from tests.parity.staged import StagedModel, StagedSession
from tests.tuning_texts import plan_for, write_text

FORMS: dict[str, dict[str, Any]] = {
    "norm": {"head": "norm"},
    "norm-own": {"head": "norm", "lm_head": "own"},
    "mlp": {"head": "mlp"},
    "mlp-own": {"head": "mlp", "lm_head": "own"},
    "lora": {"head": "lora", "rank": 8},
}
PROMPT = list(range(3, 30))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.jsonl", 600)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tunes_on_every_family_and_decodes(
    prepared: Prepared, form: str, text: Path, tmp_path: Path
) -> None:
    """A few steps change every weight of every head, the full model's text stays as it was."""
    bundle = prepared.bundle
    plan = plan_for(bundle, [text], **FORMS[form])
    tuning = Tuning(bundle, plan, tmp_path / "run", held_out_tokens=300)
    first = {name: value.clone() for name, value in tuning.weights().items()}
    assert tuning.go(checkpoint_s=1e9)
    report = tuning.finish(Output(tmp_path / "tuned"))
    assert all(not torch.equal(value, first[name]) for name, value in tuning.weights().items())
    assert [each.layer for each in report.exits] == [2, 4]

    tuned = Bundle.open(tmp_path / "tuned")
    tuned.verify()
    assert tuned.digest == bundle.digest
    assert tuned.thresholds == [1.0, 1.0]
    assert {entry.head for entry in tuned.manifest.exits} == {plan.head}
    served = load_edge(tuned)
    for layer, head in zip(tuned.partition.exits, served.heads, strict=True):
        stored = {f"{layer}.{name}": value for name, value in head.parts.state_dict().items()}
        assert all(torch.equal(value, tuning.weights()[name]) for name, value in stored.items())
    session, before = StagedSession(StagedModel(tuned), PROMPT), StagedSession(prepared.staged, PROMPT)
    assert session.next_token(session.model.last) == before.next_token(before.model.last)
    assert not torch.equal(session.logits(1), before.logits(1))


def test_a_branch_mlp_adds_what_the_layers_own_mlp_adds(prepared: Prepared) -> None:
    """Copied from a layer, norms and residual factor included, the branch is that layer's second half."""
    bundle = prepared.bundle
    family = family_of(bundle.manifest.family)
    config = family.read_config(bundle.manifest.config)
    parts = exit_parts(family, config, ExitEntry(2, head="mlp")).eval().requires_grad_(requires_grad=False)
    layer = family.layer(config, 1)
    with open_weights(bundle.weight_file(EDGE_FILE)) as weights:
        weights.fill(layer, "layers.1", torch.float32)
        for name in ("mlp", "mlp_norm", "mlp_post_norm"):
            source = "mlp" if name == "mlp" else getattr(family, name)
            if source is not None:
                weights.fill(getattr(parts, name), f"layers.1.{source}", torch.float32)
    attention: Any = layer.self_attn
    for weight in attention.o_proj.parameters():
        weight.zero_()  # an attention that adds nothing leaves the MLP alone
    rows = torch.randn(5, bundle.hidden_size, generator=torch.Generator().manual_seed(1))
    stage = prepared.staged.stages[0]
    packed = PackedRows([Segment(stage.new_cache(), 5)], 0, torch.device("cpu"))
    packed.reserve()
    table = family.rotary(config)
    kind = family.rotary_kind(config, 1)
    arguments = (rows[None], packed.positions) if kind is None else (rows[None], packed.positions, kind)
    expected = layer(rows[None], position_embeddings=table(*arguments), attention_mask=None, packed=packed)[0]
    torch.testing.assert_close(rows + parts._branch(parts.mlp, rows), expected, atol=1e-5, rtol=1e-5)
