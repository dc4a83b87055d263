"""Opening, checking and loading a bundle: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from shared.errors import BundleError
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE, MANIFEST_FILE
from tests.parity.cases import VOCAB


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def names_in(path: Path) -> set[str]:
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


def layers_in(path: Path) -> set[int]:
    return {int(name.split(".")[1]) for name in names_in(path) if name.startswith("layers.")}


def test_a_bundle_knows_its_model_without_reading_weights(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    assert (bundle.name, bundle.kind) == ("checkpoint", "text")
    assert (bundle.hidden_size, bundle.vocab_size, bundle.max_positions) == (48, VOCAB, 512)
    assert bundle.partition.exits == (2, 4)
    assert bundle.thresholds == [1.0, 1.0]
    assert bundle.temperatures == [1.0, 1.0]


def test_each_file_holds_only_its_own_layers(bundle_folder: Path) -> None:
    assert layers_in(bundle_folder / EDGE_FILE) == {0, 1, 2, 3}
    assert layers_in(bundle_folder / CLOUD_FILE) == {4, 5}
    assert "embed.weight" not in names_in(bundle_folder / CLOUD_FILE)
    assert names_in(bundle_folder / EXITS_FILE) == {"exits.2.norm.weight", "exits.4.norm.weight"}


def test_the_edge_loads_where_no_cloud_file_is(bundle_folder: Path) -> None:
    (bundle_folder / CLOUD_FILE).unlink()
    bundle = Bundle.open(bundle_folder)
    assert [stage.plan.end_layer for stage in load_edge(bundle).stages] == [2, 4]
    bundle.verify()
    with pytest.raises(BundleError, match="can't serve that side"):
        load_cloud(bundle)


def test_the_cloud_loads_where_no_edge_file_is(bundle_folder: Path) -> None:
    (bundle_folder / EDGE_FILE).unlink()
    (bundle_folder / EXITS_FILE).unlink()
    bundle = Bundle.open(bundle_folder)
    assert load_cloud(bundle).stage.plan.first_layer == 4
    with pytest.raises(BundleError, match="can't serve that side"):
        load_edge(bundle)


def test_the_tokenizer_brings_its_chat_template(bundle_folder: Path) -> None:
    tokenizer = Bundle.open(bundle_folder).tokenizer()
    ids = tokenizer.encode("turn on the kitchen lights")
    assert tokenizer.decode(ids) == "turn on the kitchen lights"
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert prompt == "<user>hi<assistant>"


def test_both_sides_read_the_same_digest_and_thresholds_do_not_change_it(bundle_folder: Path) -> None:
    digest = Bundle.open(bundle_folder).digest
    exits = json.loads((bundle_folder / MANIFEST_FILE).read_text())["exits"]
    edit_manifest(bundle_folder, exits=[{**entry, "threshold": 0.5} for entry in exits])
    tuned = Bundle.open(bundle_folder)
    assert tuned.thresholds == [0.5, 0.5]
    assert tuned.digest == digest
    assert len(bytes.fromhex(digest)) == 32


def test_other_exit_heads_are_the_same_bundle_to_a_pool(bundle_folder: Path) -> None:
    """Retuned exits need no new workers: the cloud never sees them."""
    digest = Bundle.open(bundle_folder).digest
    tensors = {name: value + 1.0 for name, value in load_file(bundle_folder / EXITS_FILE).items()}
    replace_weights(bundle_folder, EXITS_FILE, tensors)
    assert Bundle.open(bundle_folder).digest == digest


@pytest.mark.parametrize(
    "head",
    [
        {"head": "lora"},
        {"head": "lora", "rank": 0},
        {"head": "norm", "rank": 4},
        {"head": "lora", "rank": 4, "lm_head": "own"},
    ],
)
def test_an_exit_whose_form_contradicts_itself_is_refused(bundle_folder: Path, head: dict[str, Any]) -> None:
    exits = json.loads((bundle_folder / MANIFEST_FILE).read_text())["exits"]
    edit_manifest(bundle_folder, exits=[exits[0], {**exits[1], **head}])
    with pytest.raises(BundleError, match="exit after layer 4 contradicts itself"):
        Bundle.open(bundle_folder)


@pytest.mark.parametrize("name", [EDGE_FILE, EXITS_FILE, CLOUD_FILE, "tokenizer/tokenizer.json"])
def test_a_file_cut_short_is_refused_at_opening(bundle_folder: Path, name: str) -> None:
    file = bundle_folder / name
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(BundleError, match=r"instead of .* cut short\? Copy the bundle again"):
        Bundle.open(bundle_folder)


@pytest.mark.parametrize("name", [EDGE_FILE, EXITS_FILE, CLOUD_FILE, "tokenizer/tokenizer.json"])
def test_a_changed_byte_is_found_by_verify(bundle_folder: Path, name: str) -> None:
    file = bundle_folder / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="has changed since it was prepared"):
        Bundle.open(bundle_folder).verify()


def test_a_missing_tokenizer_file_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "tokenizer/tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        Bundle.open(bundle_folder)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle.*antiphon model prepare"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format_version": 99}, "format 99"),
        ({"surprise": 1}, "malformed"),
        ({"kind": "song"}, "malformed"),
        ({"partition": {"layers": 6, "exits": [4, 2], "split": 4}}, "contradict"),
        ({"partition": {"layers": 6, "exits": [2, 9], "split": 9}}, "outside the model"),
        ({"exits": []}, "exit heads differ"),
        ({"config": {}}, "lacks hidden_size"),
        ({"files": {}}, "names no cloud.safetensors or edge.safetensors or exits"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    bundle_folder: Path, changes: dict[str, Any], says: str
) -> None:
    edit_manifest(bundle_folder, **changes)
    with pytest.raises(BundleError, match=says):
        Bundle.open(bundle_folder)


def test_a_manifest_may_not_point_outside_its_folder(bundle_folder: Path) -> None:
    files = json.loads((bundle_folder / MANIFEST_FILE).read_text())["files"]
    edit_manifest(bundle_folder, files={**files, "../secret": files[EDGE_FILE]})
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.open(bundle_folder)


def replace_weights(folder: Path, file: str, tensors: dict[str, torch.Tensor]) -> None:
    """A whole safetensors file with other content, and a manifest that agrees with its size."""
    save_file(tensors, folder / file)
    files = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    files[file]["size_bytes"] = (folder / file).stat().st_size
    edit_manifest(folder, files=files)


def test_a_weight_of_another_shape_is_named_at_loading(bundle_folder: Path) -> None:
    tensors = load_file(bundle_folder / EDGE_FILE)
    tensors["layers.1.mlp.up_proj.weight"] = torch.zeros(8, 8)
    replace_weights(bundle_folder, EDGE_FILE, tensors)
    with pytest.raises(BundleError, match=r"layers\.1\.mlp\.up_proj\.weight is \(8, 8\), not \(64, 48\)"):
        load_edge(Bundle.open(bundle_folder))


def test_a_missing_weight_is_named_at_loading(bundle_folder: Path) -> None:
    tensors = load_file(bundle_folder / EXITS_FILE)
    del tensors["exits.2.norm.weight"]
    replace_weights(bundle_folder, EXITS_FILE, tensors)
    with pytest.raises(BundleError, match=r"lacks exits\.2\.norm\.weight"):
        load_edge(Bundle.open(bundle_folder))


def test_a_file_that_is_no_safetensors_is_refused_at_loading(bundle_folder: Path) -> None:
    file = bundle_folder / EDGE_FILE
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(BundleError, match="no whole safetensors file"):
        load_edge(Bundle.open(bundle_folder))
