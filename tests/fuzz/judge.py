"""Runs a target on one input after the other and keeps count."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import msgspec

from shared.errors import AntiphonError
from tests.fuzz.target import Target

# An input is a kilobyte or two: what needs seconds of processor time for it grows out of proportion.
MAX_INPUT_S = 3.0
# The corpus has been seen by then, imports and caches are done: what still grows is kept per input.
WARM_EXECUTIONS = 2_000
MAX_GROWTH_MIB = 256.0


class Tally(msgspec.Struct):
    """What came of a run.

    Attributes:
        engine: who chose the inputs: `atheris` (led by coverage) or `mutation` (blind).
        decoded: inputs that were taken. refused: those that ended in an error of ours.
        crashes: inputs that ended otherwise, took `MAX_INPUT_S`, or memory that grew past bounds.
        slowest_ms: processor time of the slowest input.
        peak_mib: largest resident memory. growth_mib: of it, since `WARM_EXECUTIONS`.
    """

    target: str
    engine: str
    executions: int = 0
    decoded: int = 0
    refused: int = 0
    crashes: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    peak_mib: float = 0.0
    growth_mib: float = 0.0
    failure: str = ""


class InputError(Exception):
    """An input that breaks its target; where it was kept is in the message."""


class Judge:
    """One target's executions.

    Args:
        target: what runs.
        engine: for the tally.
        kept: folder for an input that breaks it.
    """

    def __init__(self, target: Target, engine: str, kept: Path) -> None:
        self.target = target
        self.tally = Tally(target.name, engine)
        self._kept = kept
        self._warm_mib = 0.0
        self._started_s = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Execute once.

        Raises:
            InputError: it broke.
        """
        tally, started_s = self.tally, time.process_time()
        tally.executions += 1
        try:
            self.target.check(data)
            tally.decoded += 1
        except AntiphonError:
            tally.refused += 1
        except Exception as error:
            raise self._broken(data, f"{type(error).__name__}: {error}") from error
        took_s = time.process_time() - started_s
        tally.slowest_ms = max(tally.slowest_ms, took_s * 1000)
        if took_s > MAX_INPUT_S:
            raise self._broken(data, f"{took_s:.1f} s of processor time for {len(data)} bytes")
        if tally.executions == WARM_EXECUTIONS:
            self._warm_mib = peak_mib()

    def finish(self) -> Tally:
        """The tally; memory that grew counts as a crash."""
        tally = self.tally
        tally.seconds = time.monotonic() - self._started_s
        tally.peak_mib = peak_mib()
        tally.growth_mib = tally.peak_mib - self._warm_mib if self._warm_mib else 0.0
        if tally.growth_mib > MAX_GROWTH_MIB:
            tally.crashes += 1
            tally.failure = f"memory grew by {tally.growth_mib:.0f} MiB"
        return tally

    def _broken(self, data: bytes, what: str) -> InputError:
        self._kept.mkdir(parents=True, exist_ok=True)
        path = self._kept / f"{self.target.name}.bin"
        path.write_bytes(data)
        self.tally.crashes += 1
        self.tally.failure = f"{' '.join(what.split())[:200]} (input: {path})"
        return InputError(f"{self.target.name}: {self.tally.failure}")


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage still counts what the parent had before this program was started
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
