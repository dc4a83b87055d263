"""A small bundle whose exits are random, and a text; tests get copies of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ops.prepare import prepare
from shared.model.bundle import Bundle
from tests.parity.cases import case_named
from tests.parity.checkpoints import save_checkpoint
from tests.tuning_texts import spoil_exits, write_text


@pytest.fixture(scope="session")
def _tunable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tunable")
    checkpoint = save_checkpoint(case_named("llama").model(), folder / "checkpoint")
    prepare(checkpoint, [2, 4], None, folder / "bundle", name="tiny", thresholds=[0.8, 0.9])
    spoil_exits(folder / "bundle")
    write_text(folder / "text.jsonl", 900)
    return folder


@pytest.fixture
def bundle(_tunable: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(_tunable / "bundle", tmp_path / "bundle"))


@pytest.fixture
def text(_tunable: Path) -> Path:
    return _tunable / "text.jsonl"
