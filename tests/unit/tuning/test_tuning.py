"""Tuning runs on a tiny model: they learn, they come back, and they leave the rest alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from ops.tuning.backbone import Backbone
from ops.tuning.checkpoint import Progress
from ops.tuning.heads import make_heads
from ops.tuning.losses import GOALS
from ops.tuning.pieces import Piece
from ops.tuning.report import Report, table
from ops.tuning.scores import score
from ops.tuning.tune import Output, Tuning
from shared.errors import BundleError, ConfigError
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE, MANIFEST_FILE
from tests.parity.staged import StagedModel, StagedSession
from tests.tuning_texts import plan_for, write_text

NEVER_S = 1e9


def tuning(bundle: Bundle, text: Path, run: Path, **changes: Any) -> Tuning:
    return Tuning(bundle, plan_for(bundle, [text], **changes), run, held_out_tokens=300)


def tune(bundle: Bundle, text: Path, run: Path, out: Path | None = None, **changes: Any) -> Report:
    going = tuning(bundle, text, run, **changes)
    assert going.go(checkpoint_s=NEVER_S)
    return going.finish(Output(out))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", ["distill", "next-token"])
def test_the_loss_falls(bundle: Bundle, text: Path, tmp_path: Path, loss: str) -> None:
    seen: list[Progress] = []
    going = tuning(bundle, text, tmp_path / "run", loss=loss, head="mlp", tokens=10_000, rate=5e-3)
    going.go(checkpoint_s=NEVER_S, report=seen.append)
    for layer in (2, 4):
        assert seen[-1].losses[layer] < 0.8 * seen[0].losses[layer]


@pytest.mark.parametrize("form", ["norm", "mlp", "lora"])
def test_random_exits_come_to_agree_with_the_full_model(
    bundle: Bundle, text: Path, tmp_path: Path, form: str
) -> None:
    report = tune(bundle, text, tmp_path / "run", head=form, tokens=40_000, rate=5e-3)
    deepest = report.exits[-1]
    assert deepest.after.agreement > deepest.before.agreement + 0.05
    assert deepest.after.nll < deepest.before.nll
    for each in report.exits:
        assert each.after.agreement >= each.before.agreement
    assert report.tokens >= 40_000
    assert report.held_out_tokens >= 300
    assert "→" in str(table(report).columns[2]._cells)


def test_a_run_that_stops_and_goes_on_ends_as_one_that_did_not(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    unbroken = tuning(bundle, text, tmp_path / "one", head="mlp", tokens=6000)
    unbroken.go(checkpoint_s=NEVER_S)
    finished = False
    sessions = 0
    while not finished:
        steps = iter((False, False, True))
        broken = tuning(bundle, text, tmp_path / "two", head="mlp", tokens=6000)
        finished = broken.go(checkpoint_s=NEVER_S, stop=lambda: next(steps))  # noqa: B023
        sessions += 1
    assert sessions > 3
    assert broken.progress.position == unbroken.progress.position
    assert same(broken.weights(), unbroken.weights())


def test_equal_plans_give_equal_weights_and_another_seed_others(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    weights = []
    for index, seed in enumerate((3, 3, 4)):
        going = tuning(bundle, text, tmp_path / str(index), head="lora", seed=seed)
        going.go(checkpoint_s=NEVER_S)
        weights.append(going.weights())
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_an_exit_learns_the_same_alone_as_beside_others(bundle: Bundle, text: Path, tmp_path: Path) -> None:
    both = tuning(bundle, text, tmp_path / "both")
    both.go(checkpoint_s=NEVER_S)
    alone = tuning(bundle, text, tmp_path / "alone", layers=(4,))
    alone.go(checkpoint_s=NEVER_S)
    assert torch.equal(alone.weights()["4.norm.weight"], both.weights()["4.norm.weight"])


def test_exits_that_were_not_chosen_keep_head_and_threshold(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    """A tuned exit's threshold was found for another head: it answers nothing until calibrated anew."""
    old = load_file(bundle.path / EXITS_FILE)
    tune(bundle, text, tmp_path / "run", layers=(4,), head="mlp")
    tuned = Bundle.open(bundle.path)
    tuned.verify()
    assert torch.equal(load_file(tuned.path / EXITS_FILE)["exits.2.norm.weight"], old["exits.2.norm.weight"])
    assert [entry.head for entry in tuned.manifest.exits] == ["norm", "mlp"]
    assert tuned.thresholds == [0.8, 1.0]


def test_a_head_of_the_same_form_goes_on_and_one_of_another_form_keeps_its_norm(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    tune(bundle, text, tmp_path / "one", head="mlp")
    tuned = Bundle.open(bundle.path)
    stored = load_file(tuned.path / EXITS_FILE)
    again = make_heads(tuned, plan_for(tuned, [text], head="mlp"), "cpu")
    assert all(
        torch.equal(value, stored[f"exits.{layer}.{name}"])
        for layer, head in again.items()
        for name, value in head.state_dict().items()
    )
    other = make_heads(tuned, plan_for(tuned, [text], head="lora"), "cpu")
    assert torch.equal(other[2].norm.get_parameter("weight"), stored["exits.2.norm.weight"])


def test_a_fresh_low_rank_head_says_what_the_norm_alone_says(bundle: Bundle, text: Path) -> None:
    edge = load_edge(bundle)
    rows = torch.randn(4, bundle.hidden_size)
    heads = make_heads(bundle, plan_for(bundle, [text], head="lora"), "cpu")
    for head, served in zip(heads.values(), edge.heads, strict=True):
        torch.testing.assert_close(head(rows, served.lm_head).detach(), served.logits(rows))


def test_a_new_bundle_is_whole_and_the_old_one_untouched(bundle: Bundle, text: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.is_file()}
    tune(bundle, text, tmp_path / "run", out=tmp_path / "new")
    new = Bundle.open(tmp_path / "new")
    new.verify()
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.is_file()} == before
    for same_file in (EDGE_FILE, CLOUD_FILE, "tokenizer/tokenizer.json"):
        assert (new.path / same_file).read_bytes() == (bundle.path / same_file).read_bytes()
    assert (new.path / EXITS_FILE).read_bytes() != (bundle.path / EXITS_FILE).read_bytes()
    assert {path.name for path in new.path.iterdir()} == {path.name for path in bundle.path.iterdir()}


def test_a_write_that_fails_leaves_the_bundle_as_it_was(
    bundle: Bundle, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = tuning(bundle, text, tmp_path / "run")
    going.go(checkpoint_s=NEVER_S)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ops.tensor_writer.TensorWriter.write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        going.finish(Output())
    monkeypatch.undo()
    Bundle.open(bundle.path).verify()
    again = tuning(bundle, text, tmp_path / "run")
    assert again.go(checkpoint_s=NEVER_S)
    assert again.finish(Output()).exits
    Bundle.open(bundle.path).verify()


def test_new_heads_are_never_trusted_like_the_old_ones_wherever_a_write_is_cut_short(
    bundle: Bundle, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(
        bundle.manifest, exits=tuple(replace(entry, threshold=0.5) for entry in bundle.manifest.exits)
    ).write(bundle.path)
    going = tuning(Bundle.open(bundle.path), text, tmp_path / "run")
    going.go(checkpoint_s=NEVER_S)
    trusted: list[float] = []

    def pulled_plug(fresh: Path, path: Path) -> None:
        fresh.replace(path)
        manifest = json.loads((bundle.path / MANIFEST_FILE).read_text())
        trusted.extend(entry["threshold"] for entry in manifest["exits"])
        raise KeyboardInterrupt

    monkeypatch.setattr("ops.tuning.output.settle", pulled_plug)
    with pytest.raises(KeyboardInterrupt):
        going.finish(Output())
    assert trusted == [1.0, 1.0]


def test_a_loss_that_is_no_number_ends_the_run_before_anything_is_written(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    before = load_file(bundle.path / EXITS_FILE)
    with pytest.raises(ConfigError, match="lower --lr"):
        tuning(bundle, text, tmp_path / "run", rate=1e30, head="mlp").go(checkpoint_s=NEVER_S)
    assert same(load_file(bundle.path / EXITS_FILE), before)


def test_a_finished_run_leaves_no_checkpoint_so_that_exits_can_be_tuned_again(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    tune(bundle, text, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    tune(Bundle.open(bundle.path), text, tmp_path / "run")


def test_bf16_learns_too(bundle: Bundle, text: Path, tmp_path: Path) -> None:
    report = tune(bundle, text, tmp_path / "run", dtype="bfloat16", tokens=20_000, rate=2e-3)
    assert report.exits[-1].after.agreement > report.exits[-1].before.agreement


PIECES = [Piece(list(range(3, 40)), 0), Piece(list(range(50, 70)), 12), Piece([5, 6], 0)]


def test_one_pass_gives_every_exit_what_the_staged_model_gives_it(bundle: Bundle) -> None:
    """Pieces lie side by side in one forward, and none sees another."""
    backbone = Backbone(bundle, torch.float32, "cpu")
    seen = backbone.run(PIECES)
    model = StagedModel(bundle)
    sessions = [(StagedSession(model, piece.ids), piece) for piece in PIECES]

    def rows(rung: int) -> Tensor:
        parts = []
        for session, piece in sessions:
            session.catch_up(rung)
            parts.append(session.outputs[rung][piece.first : len(piece.ids) - 1])
        return torch.cat(parts)

    torch.testing.assert_close(seen.exits[2], rows(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.exits[4], rows(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.last, rows(2), atol=1e-4, rtol=0)
    assert seen.targets.tolist() == [token for piece in PIECES for token in piece.ids[piece.first + 1 :]]


@pytest.mark.parametrize("loss", ["distill", "next-token"])
def test_gradients_are_the_same_in_chunks_of_any_size(bundle: Bundle, text: Path, loss: Any) -> None:
    """A vocabulary too large for all rows at once changes memory, not what is learned."""
    gradients = []
    for rows in (1000, 7):
        backbone = Backbone(bundle, torch.float32, "cpu")
        backbone.chunk_rows = rows
        head = make_heads(bundle, plan_for(bundle, [text]), "cpu")[2]
        seen = backbone.run(PIECES)
        for chunk in backbone.chunks(len(seen.targets)):
            goal = GOALS[loss](backbone, seen, chunk)
            goal(head(seen.exits[2][chunk], backbone.lm_head)).backward()
        gradients.append(head.norm.get_parameter("weight").grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_distillation_is_the_divergence_from_the_full_model(bundle: Bundle) -> None:
    backbone = Backbone(bundle, torch.float32, "cpu")
    seen = backbone.run(PIECES)
    everything = slice(0, len(seen.targets))
    goal = GOALS["distill"](backbone, seen, everything)
    full = load_cloud(bundle).head.logits(seen.last)
    assert float(goal(full)) == pytest.approx(0.0, abs=1e-3)
    other = backbone.exit_heads[2].logits(seen.exits[2])
    expected = kl_div(log_softmax(other, -1), log_softmax(full, -1), reduction="sum", log_target=True)
    assert float(goal(other)) == pytest.approx(float(expected), rel=1e-4)


def test_scores_know_a_perfect_exit_and_an_overconfident_one(bundle: Bundle) -> None:
    backbone = Backbone(bundle, torch.float32, "cpu")
    final = backbone.run(PIECES).last
    choice = load_cloud(bundle).head.logits(final).argmax(-1)
    sure = torch.nn.functional.one_hot(choice, bundle.vocab_size).float() * 100
    wrong = sure.roll(1, dims=1)
    scores = score(backbone, {2: lambda _: sure, 4: lambda _: wrong}, PIECES, 10_000)
    assert scores.rows == len(final)
    assert (scores.exits[2].agreement, scores.exits[4].agreement) == (1.0, 0.0)
    assert scores.exits[2].calibration_error == pytest.approx(0.0, abs=1e-6)
    assert scores.exits[4].calibration_error == pytest.approx(1.0, abs=1e-6)


def test_scores_do_not_depend_on_how_much_is_read_at_once(bundle: Bundle) -> None:
    backbone = Backbone(bundle, torch.float32, "cpu")
    heads = {layer: head.logits for layer, head in backbone.exit_heads.items()}
    at_once, piecewise = (score(backbone, heads, PIECES, tokens) for tokens in (10_000, 2))
    for layer in heads:
        assert piecewise.exits[layer].agreement == at_once.exits[layer].agreement
        assert piecewise.exits[layer].nll == pytest.approx(at_once.exits[layer].nll, rel=1e-4)


def test_a_folder_with_a_run_of_another_plan_is_refused_with_the_setting(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    going = tuning(bundle, text, tmp_path / "run")
    going.go(checkpoint_s=NEVER_S, stop=lambda: True)
    with pytest.raises(ConfigError, match=r"another rate: 0\.0005 there, 0\.01 here.*another --run"):
        tuning(bundle, text, tmp_path / "run", rate=0.01)


def test_a_run_of_a_bundle_that_has_changed_since_is_refused_in_words(
    bundle: Bundle, text: Path, tmp_path: Path
) -> None:
    tuning(bundle, text, tmp_path / "run").go(checkpoint_s=NEVER_S, stop=lambda: True)
    tune(bundle, text, tmp_path / "other run")
    with pytest.raises(ConfigError, match="the bundle has changed since"):
        tuning(Bundle.open(bundle.path), text, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused(bundle: Bundle, text: Path, tmp_path: Path) -> None:
    going = tuning(bundle, text, tmp_path / "run")
    going.go(checkpoint_s=NEVER_S, stop=lambda: True)
    (tmp_path / "run" / "tuning.pt").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="Remove it to start anew"):
        tuning(bundle, text, tmp_path / "run")


def test_a_text_that_is_too_short_is_refused_with_what_is_needed(bundle: Bundle, tmp_path: Path) -> None:
    short = write_text(tmp_path / "short.jsonl", 30)
    with pytest.raises(ConfigError, match=r"too short.*held out.*256 are needed"):
        tuning(bundle, short, tmp_path / "run")


def test_a_bundle_without_cloud_file_can_not_be_tuned(bundle: Bundle, text: Path, tmp_path: Path) -> None:
    (bundle.path / CLOUD_FILE).unlink()
    with pytest.raises(BundleError, match="is missing"):
        tuning(Bundle.open(bundle.path), text, tmp_path / "run")


def test_the_manifest_says_what_form_an_exit_has(bundle: Bundle, text: Path, tmp_path: Path) -> None:
    tune(bundle, text, tmp_path / "run", head="lora", rank=6)
    first = json.loads((bundle.path / MANIFEST_FILE).read_text())["exits"][0]
    assert (first["head"], first["lm_head"], first["rank"]) == ("lora", "shared", 6)
