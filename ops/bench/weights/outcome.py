"""The report of `bench weights`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.bench.report import BenchReport, BenchTable, Cell, Row
from ops.bench.weights.agreement import AgreementResult
from ops.bench.weights.speed import SpeedResult

NOTES = (
    "ms: the seven matrices of one Llama layer (MLP 2.75 × hidden, 4 query heads to a key head).",
    "agreement: share of float32's choices along its own answers. same answers: decoded freely to the end.",
    "rows apart: no row's result changes, to the bit, beside another row's outlier of 1e5.",
)
# Decoding for one, and for as many as a worker often has at once.
_NAMED_ROWS = (1, 8)


def report_of(
    speeds: Sequence[SpeedResult], agreements: Sequence[AgreementResult], settings: Mapping[str, Any]
) -> BenchReport:
    """Tables and summary."""
    columns = ["one layer", *(f"{name} ms" for name in dict.fromkeys(each.precision for each in speeds))]
    memory = BenchTable(
        "memory of a layer",
        ["weights", "MiB", "rows apart"],
        [_memory_row(each) for each in speeds],
    )
    quality = BenchTable(
        "agreement with float32",
        ["weights", "decided tokens", "agreement %", "same answers %"],
        [_agreement_row(each) for each in agreements],
    )
    figures = _agreed(agreements) | _ratios(speeds)
    return BenchReport("weights", settings, columns, _speed_rows(speeds), figures, NOTES, [memory, quality])


def broken_promises(speeds: Sequence[SpeedResult], agreements: Sequence[AgreementResult]) -> list[str]:
    """What must hold and does not, in words."""
    mixed = [each for each in speeds if not each.apart]
    unlike = [each for each in agreements if each.precision == "float32" and _differs(each)]
    return [
        *(f"{each.precision} at {each.hidden}: an outlier reached another row" for each in mixed),
        *(f"{each.bundle}: float32 does not agree with itself" for each in unlike),
    ]


def _differs(result: AgreementResult) -> bool:
    return result.agreement < 1 or result.same_answers < 1


def _speed_rows(speeds: Sequence[SpeedResult]) -> list[Row]:
    """A line for each width and number of rows, a column for each precision."""
    lines: dict[str, dict[str, Cell]] = {}
    for each in speeds:
        for count, found in each.milliseconds.items():
            name = f"hidden {each.hidden}, {count} row{'s' if count > 1 else ''}"
            lines.setdefault(name, {"one layer": name})[f"{each.precision} ms"] = found
    return list(lines.values())


def _memory_row(speed: SpeedResult) -> Row:
    apart = "yes" if speed.apart else "NO"
    return {"weights": f"hidden {speed.hidden}, {speed.precision}", "MiB": speed.mib, "rows apart": apart}


def _agreement_row(result: AgreementResult) -> Row:
    return {
        "weights": f"{result.bundle} {result.precision}",
        "decided tokens": result.tokens,
        "agreement %": 100 * result.agreement,
        "same answers %": 100 * result.same_answers,
    }


def _agreed(agreements: Sequence[AgreementResult]) -> dict[str, float]:
    """Each precision's worst agreement over the bundles."""
    worst: dict[str, float] = {}
    for each in agreements:
        name = f"{each.precision}_weights_agreement"
        worst[name] = min(worst.get(name, 1.0), round(each.agreement, 5))
    return worst


def _ratios(speeds: Sequence[SpeedResult]) -> dict[str, float]:
    """Time over float32's."""
    exact = {each.hidden: each.milliseconds for each in speeds if each.precision == "float32"}
    return {
        f"{each.precision}_over_float32_{each.hidden}_rows_{count}": round(
            each.milliseconds[count].median / exact[each.hidden][count].median, 4
        )
        for each in speeds
        if each.precision != "float32"
        for count in _NAMED_ROWS
    }
