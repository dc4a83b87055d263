"""The last stage as workers run it, on each device and with weights laid out for batches: the same logits."""

from __future__ import annotations

import pytest
import torch

from shared.model.loading import load_cloud
from shared.model.prepacked import PrepackedLinear, can_prepack
from shared.model.stage import Segment
from tests.parity.prepared import Prepared
from tests.parity.staged import StagedSession
from tests.parity.test_parity import assert_close, text


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    found = torch.device(request.param)
    if found.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    if found.type == "cpu" and not can_prepack(found, torch.float32):
        pytest.skip("torch comes without oneDNN here")
    return found


def test_a_workers_stage_equals_the_unsplit_model_in_packed_chunks(
    prepared: Prepared, device: torch.device
) -> None:
    """Sessions of different lengths in the same forwards, in chunks that end anywhere."""
    linear = PrepackedLinear.load if device.type == "cpu" else None
    cloud = load_cloud(prepared.bundle, device=str(device), linear=linear)
    prompts = [text(37, 1), text(20, 2)]
    below = [StagedSession(prepared.staged, prompt) for prompt in prompts]
    caches = [cloud.stage.new_cache() for _ in prompts]
    outputs = [torch.empty(0, cloud.stage.hidden_size) for _ in prompts]
    for session in below:
        session.catch_up(prepared.staged.last - 1)
    for _ in range(4):
        rows = [
            each.outputs[-2][cache.frontier : cache.frontier + 10]
            for each, cache in zip(below, caches, strict=True)
        ]
        live = [index for index, each in enumerate(rows) if len(each)]
        segments = [Segment(caches[index], len(rows[index])) for index in live]
        out = cloud.stage.forward(torch.cat([rows[index] for index in live]), segments)
        for index, part in zip(live, torch.split(out, [len(rows[index]) for index in live]), strict=True):
            outputs[index] = torch.cat([outputs[index], part.cpu()])
    for prompt, output in zip(prompts, outputs, strict=True):
        logits = cloud.head.logits(output.to(device)).cpu()
        assert_close(logits, prepared.reference_logits(prompt))
