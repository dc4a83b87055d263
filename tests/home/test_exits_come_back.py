"""The home model's exits, thrown away, come back as good as those that it was trained with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ops.home.write_text import write_text
from ops.tuning.report import Report
from ops.tuning.tune import Output, Tuning
from shared.bundles import bundle_path
from shared.model.bundle import Bundle
from tests.tuning_texts import plan_for, spoil_exits

# It learns for half a minute of one core, which others may want too.
pytestmark = pytest.mark.timeout(300)

POINTS = 0.03
REQUESTS = 3_000
SETTINGS = {
    "field": "answer",
    "prompt_field": "prompt",
    "tokens": 60_000,
    "batch_tokens": 384,
    "context": 128,
    "rate": 5e-3,
}


def tuned(bundle: Path, text: Path, run: Path, **changes: int) -> Report:
    opened = Bundle.open(bundle)
    tuning = Tuning(opened, plan_for(opened, [text], **{**SETTINGS, **changes}), run, held_out_tokens=2_000)
    assert tuning.go(checkpoint_s=1e9)
    return tuning.finish(Output(run / "out"))


def test_random_exits_of_the_home_model_come_within_three_points_of_its_own(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    text = tmp_path / "home.jsonl"
    write_text(text, REQUESTS, seed=1)
    shutil.copytree(bundle_path("home"), tmp_path / "bare")
    spoil_exits(tmp_path / "bare", signs=True)
    own = tuned(
        bundle_path("home"), text, tmp_path / "own", tokens=1
    )  # "before" are the jointly trained ones
    back = tuned(tmp_path / "bare", text, tmp_path / "back")
    for joint, random in zip(own.exits, back.exits, strict=True):
        assert random.before.agreement < 0.1
        assert random.after.agreement >= joint.before.agreement - POINTS
