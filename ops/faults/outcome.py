"""What one run came to."""

from __future__ import annotations

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """One run of a fault.

    Attributes:
        fault: its name. seed: of its dice. sessions: questions asked at once.
        struck: whether the fault came while answers were being made.
        answers: that came.
        mismatches: how answers differ from the right ones, one text for each that does.
        lost_or_doubled: tokens of streams, and answers, that are missing or there twice.
        failures: why there is no answer, or a degraded one where nobody had to go on alone.
        degraded_tokens: that the edge said alone.
        recovery_s: the longest time between two tokens of an answer.
        peak_mib: by member, the most memory of its process.
        longest_wait_s: in which an asker heard nothing, from its question to its answer.
        overruns: waits and memory beyond their bounds, one text for each.
    """

    fault: str
    seed: int
    sessions: int
    struck: bool
    answers: int
    mismatches: list[str]
    lost_or_doubled: int
    failures: list[str]
    degraded_tokens: int
    recovery_s: float
    peak_mib: dict[str, float]
    longest_wait_s: float = 0.0
    overruns: list[str] = []

    @property
    def good(self) -> bool:
        """Whether everything is as it has to be."""
        return not (self.mismatches or self.lost_or_doubled or self.failures or self.overruns)
