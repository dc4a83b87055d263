"""Texts and bundles for exit tuning, made on the spot."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ops.tuning.plan import Plan, TextFile, chosen_rank, exits_sha256
from shared.model.bundle import Bundle, file_sha256
from shared.model.manifest import EXITS_FILE, MANIFEST_FILE

WORDS = ["turn", "on", "the", "kitchen", "lights", "what", "is", "in", "bedroom", "close", "garage", "door"]


def sentence(choice: random.Random) -> str:
    return " ".join(choice.choices(WORDS, k=choice.randint(6, 14)))


def write_text(path: Path, documents: int, seed: int = 0) -> Path:
    """JSON lines with a `text` each."""
    choice = random.Random(seed)
    path.write_text("".join(json.dumps({"text": sentence(choice)}) + "\n" for _ in range(documents)))
    return path


def plan_for(bundle: Bundle, texts: Sequence[Path], **changes: Any) -> Plan:
    """A plan of a few quick steps."""
    given: dict[str, Any] = {"head": "norm", "rank": None, **changes}
    settings: dict[str, Any] = {
        "digest": bundle.digest,
        "exits_sha256": exits_sha256(bundle),
        "layers": bundle.partition.exits,
        "lm_head": "shared",
        "loss": "distill",
        "text": tuple(TextFile(str(path), path.stat().st_size) for path in texts),
        "field": None,
        "prompt_field": None,
        "tokens": 1500,
        "batch_tokens": 256,
        "context": 64,
        "rate": 5e-4,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "seed": 0,
        **given,
        "rank": chosen_rank(given["head"], given["rank"], bundle.hidden_size),
    }
    return Plan(**settings)


def spoil_exits(folder: Path, *, signs: bool = False) -> None:
    """Give every exit a random norm, between 0 and 2, or with random signs, which is far worse."""
    generator = torch.Generator().manual_seed(5)
    draw = torch.randn if signs else torch.rand
    tensors = {
        name: (draw(value.shape, generator=generator) * (1 if signs else 2)).to(value.dtype)
        for name, value in load_file(folder / EXITS_FILE).items()
    }
    save_file(tensors, folder / EXITS_FILE)
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    size, sha256 = (folder / EXITS_FILE).stat().st_size, file_sha256(folder / EXITS_FILE)
    manifest["files"][EXITS_FILE] = {"size_bytes": size, "sha256": sha256}
    path.write_text(json.dumps(manifest))
