"""From checkpoint to bundle: every kind of checkpoint that is taken, and every one that is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from ops.prepare import TRAINED_THRESHOLD, prepare
from shared.errors import BundleError, TopicError, UnsupportedModelError
from shared.model.bundle import Bundle
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE
from shared.model.weights import quantise_rows, restore_rows
from tests.parity.cases import case_named, shake_norms
from tests.parity.checkpoints import save_checkpoint, save_tokenizer
from tests.parity.staged import StagedModel, StagedSession

TOKENS = list(range(3, 40))
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def staged_logits(bundle: Any) -> torch.Tensor:
    session = StagedSession(StagedModel(bundle), TOKENS)
    return session.logits(session.model.last)


def reference_logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([TOKENS])).logits[0]


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(checkpoint / WEIGHTS)
    change(tensors)
    save_file(tensors, checkpoint / WEIGHTS, metadata={"format": "pt"})


def test_a_sharded_checkpoint_gives_the_same_bundle_as_a_single_file(
    checkpoint: Path, tmp_path: Path
) -> None:
    sharded = save_checkpoint(case_named("llama").model(), tmp_path / "sharded", shard_size="150KB")
    assert len(list(sharded.glob("model-*.safetensors"))) >= 2
    bundle = prepare(sharded, [2, 4], None, tmp_path / "b1")
    single = prepare(checkpoint, [2, 4], None, tmp_path / "b2")
    torch.testing.assert_close(staged_logits(bundle), staged_logits(single), atol=0, rtol=0)


def test_preparing_twice_gives_the_same_digest_and_another_cut_another(
    checkpoint: Path, tmp_path: Path
) -> None:
    digests = [
        prepare(checkpoint, exits, None, tmp_path / str(index)).digest
        for index, exits in enumerate([[2, 4], [4, 2], [2, 3]])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_one_exit_many_exits_and_a_later_split_all_equal_the_model(checkpoint: Path, tmp_path: Path) -> None:
    expected = reference_logits(case_named("llama").model())
    for index, (exits, split) in enumerate([([1], None), ([1, 2, 3, 4, 5], None), ([1], 4)]):
        bundle = prepare(checkpoint, exits, split, tmp_path / str(index))
        torch.testing.assert_close(staged_logits(bundle), expected, atol=1e-4, rtol=0)
    assert bundle.partition.exits == (1, 4)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_tied_heads_are_stored_once_at_the_edge_and_untied_ones_as_they_are(
    tmp_path: Path, name: str
) -> None:
    model = case_named(name).model()
    bundle = prepare(save_checkpoint(model, tmp_path / "checkpoint"), [2], None, tmp_path / "bundle")
    stored = load_file(bundle.path / EDGE_FILE)
    assert bundle.manifest.tied_head == model.config.tie_word_embeddings == ("lm_head.weight" not in stored)
    assert "lm_head.weight" in load_file(bundle.path / CLOUD_FILE)


def test_a_tied_configuration_over_a_different_head_is_taken_as_untied(
    checkpoint: Path, tmp_path: Path
) -> None:
    """As transformers itself does it."""
    edit_json(checkpoint / "config.json", tie_word_embeddings=True)
    bundle = prepare(checkpoint, [2], None, tmp_path / "bundle")
    assert not bundle.manifest.tied_head
    torch.testing.assert_close(
        staged_logits(bundle), reference_logits(case_named("llama").model()), atol=1e-4, rtol=0
    )


def test_a_tied_checkpoint_may_name_its_matrix_by_the_head(tmp_path: Path) -> None:
    model = case_named("qwen3").model()
    checkpoint = save_checkpoint(model, tmp_path / "checkpoint")
    edit_weights(checkpoint, lambda w: w.update({"lm_head.weight": w.pop("model.embed_tokens.weight")}))
    bundle = prepare(checkpoint, [2], None, tmp_path / "bundle")
    torch.testing.assert_close(staged_logits(bundle), reference_logits(model), atol=1e-4, rtol=0)


def test_an_untied_checkpoint_without_head_is_refused_with_both_fixes(
    checkpoint: Path, tmp_path: Path
) -> None:
    edit_weights(checkpoint, lambda w: w.pop("lm_head.weight"))
    with pytest.raises(BundleError, match=r"tie_word_embeddings.*or download the missing shard"):
        prepare(checkpoint, [2], None, tmp_path / "bundle")


def test_trained_exit_norms_are_used_where_the_checkpoint_has_them(checkpoint: Path, tmp_path: Path) -> None:
    trained = torch.linspace(0.5, 1.5, 48)
    save_file({"exit.2.norm.weight": trained}, checkpoint / "exits.safetensors")
    stored = load_file(prepare(checkpoint, [2, 4], None, tmp_path / "bundle").path / EXITS_FILE)
    assert torch.equal(stored["exits.2.norm.weight"], trained)
    # The exit that nobody trained leaves every token to the cloud.
    assert Bundle.open(tmp_path / "bundle").thresholds == [TRAINED_THRESHOLD, 1.0]
    assert torch.equal(stored["exits.4.norm.weight"], load_file(checkpoint / WEIGHTS)["model.norm.weight"])


def test_thresholds_and_temperatures_are_kept_for_each_exit(checkpoint: Path, tmp_path: Path) -> None:
    bundle = prepare(
        checkpoint,
        [2, 4],
        None,
        tmp_path / "bundle",
        thresholds=[0.9, 0.7],
        temperatures=[1.5, 1.1],
        kind="home",
    )
    assert (bundle.thresholds, bundle.temperatures, bundle.kind) == ([0.9, 0.7], [1.5, 1.1], "home")
    with pytest.raises(BundleError, match="1 thresholds for 2 exits"):
        prepare(checkpoint, [2, 4], None, tmp_path / "other", thresholds=[0.9])


def test_the_name_is_one_that_topics_can_hold(checkpoint: Path, tmp_path: Path) -> None:
    named = checkpoint.rename(checkpoint.with_name("My Model+3.2 #1"))
    assert prepare(named, [2], None, tmp_path / "bundle").name == "My-Model-3.2-1"
    with pytest.raises(TopicError, match="model name"):
        prepare(named, [2], None, tmp_path / "other", name="a/b")


def test_another_dtype_halves_the_files(checkpoint: Path, tmp_path: Path) -> None:
    whole = prepare(checkpoint, [2], None, tmp_path / "whole")
    half = prepare(checkpoint, [2], None, tmp_path / "half", dtype="bfloat16")
    assert half.manifest.dtype == "bfloat16"
    assert half.manifest.files[EDGE_FILE].size_bytes < 0.6 * whole.manifest.files[EDGE_FILE].size_bytes
    with pytest.raises(BundleError, match="Use one of: float32"):
        prepare(checkpoint, [2], None, tmp_path / "other", dtype="int3")


def test_generation_settings_name_the_tokens_that_end_an_answer(checkpoint: Path, tmp_path: Path) -> None:
    edit_json(checkpoint / "config.json", eos_token_id=2)
    (checkpoint / "generation_config.json").unlink(missing_ok=True)
    assert prepare(checkpoint, [2], None, tmp_path / "b1").eos_token_ids == (2,)
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert prepare(checkpoint, [2], None, tmp_path / "b2").eos_token_ids == (2, 7)


def test_progress_ends_at_the_whole(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepare(
        checkpoint, [2], None, tmp_path / "bundle", progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_an_existing_folder_is_kept_unless_forced(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    prepare(checkpoint, [2], None, out)
    with pytest.raises(BundleError, match=r"exists.*--force"):
        prepare(checkpoint, [3], None, out)
    assert prepare(checkpoint, [3], None, out, force=True).partition.exits == (3,)


def test_a_failed_preparation_leaves_nothing_and_spoils_nothing(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "bundle"
    before = prepare(checkpoint, [2], None, out).digest

    def fail(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(checkpoint, [3], None, out, force=True, progress=fail)
    assert Bundle.open(out).digest == before
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def test_gemma3_with_vision_gives_its_language_model(tmp_path: Path) -> None:
    # transformers' own multimodal class ignores the logit cap, and no published Gemma 3 has one.
    text = case_named("gemma3_text").config(final_logit_softcapping=None)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    torch.manual_seed(3)
    config = Gemma3Config(text_config=text.to_dict(), vision_config=vision, mm_tokens_per_image=4)
    model = Gemma3ForConditionalGeneration(config).eval()
    shake_norms(model)
    bundle = prepare(save_checkpoint(model, tmp_path / "checkpoint"), [2], None, tmp_path / "bundle")
    assert bundle.manifest.family == "gemma3_text"
    torch.testing.assert_close(staged_logits(bundle), reference_logits(model), atol=1e-4, rtol=0)


LEGACY_CONFIGS = {
    "llama": {
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        "torch_dtype": "float32",
    },
    "phi3": {
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.2, 1.4], "long_factor": [2.0, 3.0, 4.0]},
    },
    "gemma3_text": {"rope_theta": 1000000.0, "rope_local_base_freq": 500.0, "rope_scaling": None},
    "qwen2": {"rope_theta": 2000.0, "rope_scaling": {"type": "linear", "factor": 3.0}},
}


@pytest.mark.parametrize("name", LEGACY_CONFIGS)
def test_configurations_as_published_before_transformers_5_mean_the_same(tmp_path: Path, name: str) -> None:
    checkpoint = save_checkpoint(case_named(name).model(), tmp_path / "checkpoint")
    path = checkpoint / "config.json"
    modern = json.loads(path.read_text())
    del modern["rope_parameters"], modern["transformers_version"]
    path.write_text(json.dumps({**modern, **LEGACY_CONFIGS[name]}))
    reference = AutoModelForCausalLM.from_pretrained(checkpoint)
    bundle = prepare(checkpoint, [2], None, tmp_path / "bundle")
    torch.testing.assert_close(staged_logits(bundle), reference_logits(reference), atol=1e-4, rtol=0)
    plain = case_named(name).model()
    assert (reference_logits(plain) - reference_logits(reference)).abs().max() > 0.01


def test_weights_saved_without_the_outer_models_prefix_are_found(tmp_path: Path) -> None:
    model = case_named("qwen3").model()
    checkpoint = save_checkpoint(model.model, tmp_path / "checkpoint")
    assert "layers.0.mlp.up_proj.weight" in load_file(checkpoint / WEIGHTS)
    bundle = prepare(checkpoint, [2], None, tmp_path / "bundle")
    torch.testing.assert_close(staged_logits(bundle), reference_logits(model), atol=1e-4, rtol=0)


def test_rotary_frequencies_stored_by_old_checkpoints_are_left_out(checkpoint: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_weights(checkpoint, lambda w: w.update({name: torch.ones(6)}))
    bundle = prepare(checkpoint, [2], None, tmp_path / "bundle")
    assert not any("inv_freq" in stored for stored in load_file(bundle.path / EDGE_FILE))


def remove(*names: str) -> Callable[[Path], None]:
    def spoil(checkpoint: Path) -> None:
        for name in names:
            (checkpoint / name).unlink()

    return spoil


def change_config(**changes: Any) -> Callable[[Path], None]:
    return lambda checkpoint: edit_json(checkpoint / "config.json", **changes)


def cut_short(checkpoint: Path) -> None:
    file = checkpoint / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])


def break_header(checkpoint: Path) -> None:
    file = checkpoint / WEIGHTS
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def only_pickles(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "pytorch_model.bin")


def index_names_a_missing_shard(checkpoint: Path) -> None:
    (checkpoint / INDEX).write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def index_points_outside(checkpoint: Path) -> None:
    (checkpoint / INDEX).write_text('{"weight_map": {"a": "../other.safetensors"}}')


def broken_json(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("{")


def broken_tokenizer(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text('{"model": 3}')


def lose_a_weight(checkpoint: Path) -> None:
    edit_weights(checkpoint, lambda w: w.pop("model.layers.3.mlp.up_proj.weight"))


def add_a_bias(checkpoint: Path) -> None:
    edit_weights(checkpoint, lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(48)}))


def store_as_integers(checkpoint: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(checkpoint, lambda w: w.update({name: w[name].to(torch.int8)}))


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (remove("config.json"), BundleError, r"config\.json is missing. Give a whole"),
        (broken_json, BundleError, "can't be read as JSON"),
        (remove("tokenizer.json"), BundleError, r"no tokenizer\.json.*save_pretrained"),
        (broken_tokenizer, BundleError, "no tokenizer that can be read"),
        (remove(WEIGHTS), BundleError, "Download the weights"),
        (only_pickles, BundleError, "Convert them to safetensors"),
        (cut_short, BundleError, "cut short"),
        (break_header, BundleError, "no whole safetensors file"),
        (index_names_a_missing_shard, BundleError, "Download the checkpoint's shards again"),
        (index_points_outside, BundleError, "outside the folder"),
        (lose_a_weight, BundleError, r"lacks layers\.3\.mlp\.up_proj\.weight"),
        (add_a_bias, BundleError, r"no place for, such as layers\.0\.self_attn\.q_proj\.bias"),
        (store_as_integers, UnsupportedModelError, "stored as I8.*unquantised"),
        (
            change_config(model_type="mamba"),
            UnsupportedModelError,
            "'mamba' are not supported. Use one of: llama",
        ),
        (change_config(num_hidden_layers=5), BundleError, r"no place for, such as layers\.5"),
        (change_config(vocab_size=321), BundleError, r"is \(320, 48\), but config.json asks for \(321, 48\)"),
        (change_config(quantization_config={"bits": 4}), UnsupportedModelError, "quantised"),
        (change_config(hidden_size="wide"), UnsupportedModelError, "transformers refuses"),
    ],
)
def test_a_checkpoint_that_can_not_be_used_is_refused_with_what_to_do(
    checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None], error: type[BundleError], says: str
) -> None:
    spoil(checkpoint)
    with pytest.raises(error, match=says):
        prepare(checkpoint, [2], None, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no folder"):
        prepare(tmp_path / "nowhere", [2], None, tmp_path / "bundle")


_MEASURE = """
import sys
from pathlib import Path
import transformers.models.llama.modeling_llama  # part of every run, so not of what is measured
from ops.prepare import prepare
def peak_bytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
before = peak_bytes()
prepare(Path(sys.argv[1]), [4, 8], None, Path(sys.argv[2]))
print(peak_bytes() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_peak_memory_stays_near_the_largest_shard(tmp_path: Path) -> None:
    """A checkpoint of ten shards never lies in memory whole."""
    checkpoint = tmp_path / "checkpoint"
    case = case_named("llama")
    wide = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_key_value_heads": 4}
    case.model(**wide, initializer_range=0.0).save_pretrained(checkpoint, max_shard_size="20MB")
    save_tokenizer(checkpoint)
    shards = [path.stat().st_size for path in checkpoint.glob("model-*.safetensors")]
    assert len(shards) >= 8
    command = [sys.executable, "-c", _MEASURE, str(checkpoint), str(tmp_path / "bundle")]
    measured = subprocess.run(command, capture_output=True, text=True, check=True)
    grown_bytes = int(measured.stdout.split()[0])
    assert grown_bytes < 2 * max(shards) < 0.2 * sum(shards)


def test_eight_bits_quarter_the_matrices_and_stay_near_the_model(checkpoint: Path, tmp_path: Path) -> None:
    whole = prepare(checkpoint, [2], None, tmp_path / "whole", dtype="float32")
    small = prepare(checkpoint, [2], None, tmp_path / "small", dtype="int8")
    assert small.manifest.dtype == "int8"
    assert small.manifest.files[EDGE_FILE].size_bytes < 0.35 * whole.manifest.files[EDGE_FILE].size_bytes
    exact, near = staged_logits(whole), staged_logits(small)
    assert torch.nn.functional.cosine_similarity(near, exact).mean() > 0.99
    assert small.digest != whole.digest


@given(st.integers(0, 2**31), st.sampled_from([1e-30, 1e-3, 1.0, 1e5]))
def test_a_row_in_eight_bits_is_off_by_half_a_step_at_most(seed: int, size: float) -> None:
    matrix = torch.randn(5, 33, generator=torch.Generator().manual_seed(seed)) * size
    matrix[2] = 0.0
    matrix[3, 7] *= 1_000  # an outlier spoils its own row alone
    rows, scale = quantise_rows(matrix)
    off = (restore_rows(rows, scale) - matrix).abs().amax(dim=1)
    assert bool((off <= 0.5001 * scale).all())
    assert torch.equal(restore_rows(rows, scale)[2], matrix[2])
