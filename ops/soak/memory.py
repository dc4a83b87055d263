"""How much memory the processes of an installation have, over time."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ops.faults.rig import Rig
from ops.soak.trend import Sample, slope_of
from shared.errors import LinkError

INTERVAL_S: Final = 5.0
_PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
# A process that grows by a limit's worth in an hour must be told from one that fills its caches.
LEAST_SPAN_S: Final = 300.0

Process = tuple[str, int]
"""Name in the installation, process id: a restart makes another process of the same name."""


class Trend(msgspec.Struct, frozen=True):
    """What the memory of a role did.

    Attributes:
        role: `edge`, `worker`, `broker` or `redis`.
        processes: that lived beyond their warm-up. samples: of these, after it. span_s: that they lived so.
        peak_mib: the most that one process had.
        mib_per_h: growth. low, high: its 95 % interval; None: too few independent samples.
        judged: whether it was watched for long enough to be judged.
    """

    role: str
    processes: int
    samples: int
    span_s: float
    peak_mib: float
    mib_per_h: float | None
    low: float | None
    high: float | None
    judged: bool


class MemoryLog:
    """Resident memory by process.

    Args:
        warm_up_s: at the beginning of each process is not looked at: it fills what it needs.
    """

    def __init__(self, warm_up_s: float) -> None:
        self._warm_up_s = warm_up_s
        self._series: defaultdict[Process, list[Sample]] = defaultdict(list)

    def note(self, process: Process, at_s: float, mib: float) -> None:
        """Take one sample."""
        self._series[process].append(Sample(at_s, mib))

    def trends(self) -> list[Trend]:
        """One for each role, by its name."""
        return [self._trend(role) for role in sorted({_role(process) for process in self._series})]

    def _trend(self, role: str) -> Trend:
        whole = [samples for process, samples in self._series.items() if _role(process) == role]
        warm = [samples for samples in map(self._warm, whole) if len(samples) > 1]
        slope, span_s = slope_of(warm), sum(samples[-1].at_s - samples[0].at_s for samples in warm)
        low, high = (None, None) if slope is None else (slope.low, slope.high)
        return Trend(
            role,
            processes=len(warm),
            samples=sum(map(len, warm)),
            span_s=span_s,
            peak_mib=max(sample.mib for samples in whole for sample in samples),
            mib_per_h=None if slope is None else slope.mib_per_h,
            low=low,
            high=high,
            judged=low is not None and span_s >= LEAST_SPAN_S,
        )

    def _warm(self, samples: Sequence[Sample]) -> list[Sample]:
        return [sample for sample in samples if sample.at_s - samples[0].at_s >= self._warm_up_s]


async def watch(rig: Rig, log: MemoryLog, clock: Callable[[], float], interval_s: float = INTERVAL_S) -> None:
    """Sample every process of a rig until cancelled."""
    while True:
        for name, pid in pids(rig).items():
            mib = resident_mib(pid)
            if mib:
                log.note((name, pid), clock(), mib)
        await asyncio.sleep(interval_s)


def pids(rig: Rig) -> Mapping[str, int]:
    """Of everything that runs now, by name."""
    found: dict[str, int] = {}
    for name, server in (("broker", rig.broker), ("redis", rig.redis)):
        if server is not None and server.running and server.process is not None:
            found[name] = server.process.pid
    for name in rig.stack.members:
        try:
            found[name] = rig.pid(name)
        except LinkError:
            continue  # it is down just now
    return found


def resident_mib(pid: int) -> float:
    """The resident memory of a process; 0 when it is gone. Source: proc(5), statm."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_MIB
    except (OSError, IndexError):
        return 0.0


def _role(process: Process) -> str:
    return process[0].partition("-")[0]
