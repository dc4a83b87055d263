"""`bench start` at a tiny size: the real commands as fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.bench.cores import Cores
from ops.bench.random_llama import LlamaShape, random_bundle
from ops.bench.start.launch import launched, phases_of
from ops.bench.start.measure import ROLES, StartCase, measure_start
from ops.bench.start.outcome import report_of
from shared.errors import LinkError
from shared.model.bundle import Bundle
from tests.waiting import eventually

SHAPE = LlamaShape(64, 128, 4, (1, 2), 320)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(SHAPE, tmp_path_factory.mktemp("start") / "bundle")


async def test_a_start_is_measured_from_nothing_to_warm(bundle: Bundle, tmp_path: Path):
    case = StartCase("tiny", bundle.path, "w5 w6 w7", rounds=1, warm=2)
    result = await measure_start(case, tmp_path, Cores.choose(), embedded=True, on_round=lambda *_: None)
    (start,) = result.starts

    assert start.launch_to_token_s > start.ready_s["edge"] > 0
    assert len(start.warm_ms) == 2
    for role in ROLES:
        assert start.memory[role].peak > start.memory[role].mapped > 0
        assert case.weights_mib(role) > 0
    assert report_of([result], {}).summary["first_token_warm_ms_tiny"] > 0


@pytest.mark.parametrize("role", ROLES)
def test_a_start_taken_apart_names_its_steps_in_order(role: str, bundle: Bundle):
    phases = phases_of(role, bundle.path, None)
    names = [phase.name for phase in phases]

    assert names[:4] == ["interpreter", "command line", "torch", "transformers, our modules"]
    assert names[-2:] == ["first forward", "second forward"]
    peaks = [phase.memory.peak for phase in phases]
    assert peaks == sorted(peaks)


def test_a_start_that_fails_is_told(tmp_path: Path):
    with pytest.raises(LinkError, match="the edge's start failed"):
        phases_of("edge", tmp_path / "nothing", None)


async def test_a_process_that_ends_by_itself_has_no_memory_to_tell(tmp_path: Path):
    with launched(["--config", str(tmp_path / "no.toml"), "edge", "serve"]) as process:
        await eventually(lambda: process._process.poll() is not None, 60.0, "the process ends")
        with pytest.raises(LinkError, match="ended by itself"):
            process.memory()
