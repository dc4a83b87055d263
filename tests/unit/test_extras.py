"""Extras are honest: each host runs with what its own extra installs, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module that is None in sys.modules can't be imported, as if it were not installed.
WITHOUT = """
import importlib, sys
missing, module = sys.argv[1].split(","), sys.argv[2]
sys.modules.update(dict.fromkeys(missing))
importlib.import_module(module)
"""
TRAINING_ONLY = "hassil,home_assistant_intents"


@pytest.mark.parametrize(
    ("missing", "module"),
    [
        (f"redis,{TRAINING_ONLY}", "edge_agent.service"),
        (f"rapidfuzz,{TRAINING_ONLY}", "cloud_worker.service"),
        (f"redis,rapidfuzz,{TRAINING_ONLY}", "ops.cli"),
        (f"redis,rapidfuzz,{TRAINING_ONLY}", "ops.doctor"),
    ],
)
def test_a_host_starts_without_what_its_extra_leaves_out(missing: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["ops.cli", "shared.config", "shared.log", "shared.context.write_behind"])
def test_what_every_command_imports_loads_no_torch(module: str) -> None:
    """`antiphon --help` has to answer at once."""
    script = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
