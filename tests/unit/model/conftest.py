"""A small checkpoint and its bundle, made once; tests that spoil one work on a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ops.prepare import prepare
from tests.parity.cases import case_named
from tests.parity.checkpoints import save_checkpoint


@pytest.fixture(scope="session")
def _pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pristine")
    checkpoint = save_checkpoint(case_named("llama").model(), folder / "checkpoint")
    prepare(checkpoint, [2, 4], None, folder / "bundle")
    return folder


@pytest.fixture
def checkpoint(_pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_pristine / "checkpoint", tmp_path / "checkpoint"))


@pytest.fixture
def bundle_folder(_pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_pristine / "bundle", tmp_path / "bundle"))
