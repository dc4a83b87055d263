"""What benches share: cores, memory."""

from __future__ import annotations

import asyncio
import os

import pytest

from ops.bench.cores import Cores, Pinned, own_cores, pin
from ops.bench.memory import memory_of
from shared.config import load

pinning = pytest.mark.skipif(not own_cores(), reason="this system does not pin")


@pytest.fixture
def everywhere():
    """Leave the test's process where it may run."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


@pinning
def test_edge_and_worker_get_cores_of_their_own_or_none_at_all():
    cores = Cores.choose()

    assert cores.edge != cores.worker or cores == Cores(None, None)


@pinning
@pytest.mark.usefixtures("everywhere")
def test_one_core_is_not_shared_out():
    pin(own_cores()[0])

    assert Cores.choose() == Cores(None, None)
    assert Cores.choose().words == "not pinned"


@pinning
@pytest.mark.usefixtures("everywhere")
async def test_a_pinned_role_runs_on_its_core():
    seen = []

    async def role(_settings, _stop) -> None:
        seen.append(os.sched_getaffinity(0))

    core = own_cores()[-1]
    await Pinned(role, core)(load({}, environ={}), asyncio.Event())

    assert seen == [{core}]


def test_memory_tells_peak_private_and_mapped_apart():
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    memory = memory_of()

    assert memory.peak >= memory.private >= 64
    assert memory.mapped > 0


def test_memory_of_a_process_that_is_gone_is_an_error():
    with pytest.raises(OSError, match="No such file"):
        memory_of(2**22 + 1)
