"""The soak's report: what was answered, what struck, what memory did, and whether all is well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ops.soak.memory import Trend
from ops.soak.storm import Strikes
from ops.soak.tally import Tally

WRONG: Final = ("mismatches", "failed_answers", "lost_or_doubled", "failed_recoveries")
"""Figures that have to be 0."""

_KIB_PER_MIB: Final = 1024
_MIN_PER_H: Final = 60
_COUNTED: Final = ("answers", "tokens", *WRONG, "degraded_answers", "degraded_tokens")


class SoakReport(msgspec.Struct, frozen=True):
    """A whole soak.

    Attributes:
        machine, commit: where and by which code. versions: of the servers.
        settings: the soak's options.
        kinds: answers by kind of question.
        faults: how often each one struck, came too late, or could not be made.
        memory: what each role's processes did.
        verdict: `PASS` or `FAIL`. reasons: for the latter.
        errors: what was wrong, the first few.
        summary: flat figures.
    """

    machine: dict[str, str | int]
    commit: str
    versions: dict[str, str]
    settings: dict[str, Any]
    kinds: dict[str, int]
    faults: dict[str, Strikes]
    memory: list[Trend]
    verdict: str
    reasons: list[str]
    errors: list[str]
    summary: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return not self.reasons


def reasons_to_fail(
    tally: Tally, faults: dict[str, Strikes], memory: Sequence[Trend], limit_mib_per_h: float
) -> list[str]:
    """What is wrong, in words; empty when all is well."""
    reasons = [f"{tally.count[figure]} {figure.replace('_', ' ')}" for figure in WRONG if tally.count[figure]]
    if not tally.count["answers"]:
        reasons.append("nothing was answered")
    if not any(strikes.struck for strikes in faults.values()):
        reasons.append("no fault struck")
    return [*reasons, *_growths(memory, limit_mib_per_h)]


def summary_of(tally: Tally, faults: dict[str, Strikes], memory: Sequence[Trend]) -> dict[str, float]:
    """Flat figures; a role whose memory was not watched for long enough has no slope."""
    figures = {figure: float(tally.count[figure]) for figure in _COUNTED}
    figures["faults"] = float(sum(strikes.struck for strikes in faults.values()))
    figures |= {f"{trend.role}_peak_mib": round(trend.peak_mib, 1) for trend in memory}
    slopes = {trend.role: trend.mib_per_h for trend in memory if trend.judged and trend.mib_per_h is not None}
    figures |= {f"{role}_mib_per_h": round(slope, 2) for role, slope in slopes.items()}
    if slopes:
        figures["max_rss_slope_kib_per_min"] = round(max(slopes.values()) * _KIB_PER_MIB / _MIN_PER_H, 2)
    return figures


def _growths(memory: Sequence[Trend], limit_mib_per_h: float) -> Iterator[str]:
    for trend in memory:
        if trend.judged and trend.low is not None and trend.low > limit_mib_per_h:
            yield (
                f"{trend.role} grows by {trend.mib_per_h:.1f} MiB/h, at least {trend.low:.1f}; "
                f"the limit is {limit_mib_per_h:g}"
            )
