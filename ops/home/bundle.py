"""From a training run to the bundle that ships, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from transformers import LlamaConfig, PreTrainedTokenizerFast

from ops.home.model import EXITS, ExitModel
from ops.prepare import INT8, prepare
from shared.model.bundle import Bundle
from shared.model.manifest import CLOUD_FILE, EDGE_FILE, EXITS_FILE, TOKENIZER_FOLDER
from shared.model.weights import read_all

# The smallest form that loses nothing measurable: see docs/home-model.md.
_STORED_AS: Final = INT8


def make_bundle(run: Path, out: Path, *, dtype: str = _STORED_AS, force: bool = False) -> Bundle:
    """Cut a trained home model at its deepest exit; its exits wait for `antiphon model calibrate`.

    Args:
        run: the run's folder, with its checkpoint and exits.safetensors.
        out: the bundle's folder.
        dtype: as `prepare` takes it.
        force: replace an existing one.

    Raises:
        BundleError: the run has no checkpoint yet, or `out` exists.
    """
    return prepare(
        run,
        EXITS,
        EXITS[-1],
        out,
        name="home",
        kind="home",
        dtype=dtype,
        force=force,
    )


def open_bundle(folder: Path) -> tuple[ExitModel, PreTrainedTokenizerFast]:
    """Put a home bundle's two halves together again, in fp32, for exams."""
    bundle = Bundle.open(folder)
    files = (EDGE_FILE, EXITS_FILE, CLOUD_FILE)
    parts = {name: value for file in files for name, value in read_all(folder / file).items()}
    model = ExitModel(LlamaConfig(**bundle.manifest.config), bundle.partition.exits)
    weights = {
        f"lm.model.{name}": value for name, value in parts.items() if name.startswith(("layers.", "norm."))
    }
    weights |= {f"norms.{layer}.weight": parts[f"exits.{layer}.norm.weight"] for layer in model.exits}
    weights |= dict.fromkeys(("lm.model.embed_tokens.weight", "lm.lm_head.weight"), parts["embed.weight"])
    model.load_state_dict(weights | {"sense_map": model.sense_map})
    return model.eval(), PreTrainedTokenizerFast.from_pretrained(folder / TOKENIZER_FOLDER)
