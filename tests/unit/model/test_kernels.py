"""Forwards come in few numbers of rows, so that a process that meets them all stays as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.forward_sizes import filled, largest_within
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud
from shared.model.prepacked import PrepackedLinear, can_prepack
from shared.model.stage import Segment

GROWTH = """
import resource, sys
import torch
from pathlib import Path
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud
from shared.model.prepacked import PrepackedLinear
from shared.model.stage import Segment

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

torch.set_num_threads(1)
stage = load_cloud(Bundle.open(Path(sys.argv[1])), linear=PrepackedLinear.load).stage

def meet(counts):
    for count in counts:
        stage.forward(torch.ones(count, stage.hidden_size), [Segment(stage.new_cache(), count)])

meet([1, 256])
before = resident_mib()
meet(range(2, 256))
print(resident_mib() - before)
"""


@given(st.integers(1, 100_000))
def test_rows_are_filled_by_less_than_half(rows: int) -> None:
    assert rows <= filled(rows) < 1.5 * rows
    assert filled(filled(rows)) == filled(rows)


@given(st.integers(1, 100_000))
def test_the_largest_size_within_is_a_size_and_the_next_one_is_too_large(rows: int) -> None:
    within = largest_within(rows)
    assert filled(within) == within <= rows
    assert within == rows or filled(within + 1) > rows


def test_a_worker_s_batches_come_in_few_sizes() -> None:
    assert len({filled(rows) for rows in range(1, 513)}) <= 20


@pytest.mark.skipif(not can_prepack(torch.device("cpu"), torch.float32), reason="torch comes without oneDNN")
def test_a_worker_that_meets_every_number_of_rows_does_not_grow(bundle_folder: Path) -> None:
    """Unfilled it takes some 500 MiB, filled 32: some twenty kernels a shape."""
    run = [sys.executable, "-c", GROWTH, str(bundle_folder)]
    done = subprocess.run(
        run,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert float(done.stdout) < 100


@pytest.mark.parametrize("counts", [(5,), (1, 4), (3, 2, 9)])
def test_rows_of_nobody_change_no_others(bundle_folder: Path, counts: tuple[int, ...]) -> None:
    bundle = Bundle.open(bundle_folder)
    plain, packed = load_cloud(bundle).stage, load_cloud(bundle, linear=PrepackedLinear.load).stage
    rows = torch.randn(sum(counts), plain.hidden_size, generator=torch.Generator().manual_seed(1))
    outputs = []
    for stage in (plain, packed):
        caches = [stage.new_cache() for _ in counts]
        outputs.append(stage.forward(rows, [Segment(*each) for each in zip(caches, counts, strict=True)]))
        assert [cache.frontier for cache in caches] == list(counts)
    assert outputs[1].shape == rows.shape
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4)
