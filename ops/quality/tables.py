"""Calibrations and quality reports for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from ops.quality.report import Row
from shared.model.calibration import Calibration
from shared.model.confidence import Measure

if TYPE_CHECKING:  # it loads torch, and `antiphon model info` shows a table
    from ops.quality.outcome import MeasureScore

_NOTE = (
    "cloud: tokens that the cloud decided, one request each. time, FLOPs: the cloud's, as shares of those of "
    "a cloud that answers alone on the same engine; a request catches up on many rows in one forward, which "
    "is cheap in time, not in FLOPs. B up: bytes of states per token."
)
_FORCED = "forced"  # much the same in all rows: told once where a terminal has no room for it


def report_note(rows: Sequence[Row], refusals: int) -> str:
    """What the report's columns mean.

    Args:
        rows: the report's.
        refusals: how many requests are to be refused.
    """
    acted = (
        f" acted: answers that act, of the {refusals} requests that are to be refused." if refusals else ""
    )
    forced = _percent(rows[0].forced_share, digits=0)
    return (
        f"{_NOTE}{acted} To {forced} of the full model's tokens the grammar left no alternative; such forced "
        "tokens count in no column."
    )


def report_table(title: str, rows: Sequence[Row]) -> Table:
    """The quality report, a row for each way to answer."""
    table = _table(title)
    table.add_column("setting", no_wrap=True)
    columns = [name for name in _columns(rows) if name != _FORCED]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = _cells(row)
        table.add_row(row.setting, *(cells[name] for name in columns))
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """The same for a page."""
    columns = _columns(rows)
    lines = [["setting", *columns], ["---", *["--:"] * len(columns)]]
    for row in rows:
        cells = _cells(row)
        lines.append([row.setting, *(cells[name] for name in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(title: str) -> Table:
    """A table that fits eighty columns."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns in which some row has anything to say."""
    found = [_cells(row) for row in rows]
    return [name for name in found[0] if any(cells[name] for cells in found)]


def _cells(row: Row) -> dict[str, str]:
    return {
        "exact": _percent(row.exact),
        "natural": _percent(row.natural_exact),
        "ROUGE-L": "" if row.rouge_l is None else f"{row.rouge_l:.3f}",
        "acted": "" if row.wrong_actions_on_refusals is None else str(row.wrong_actions_on_refusals),
        "agrees": _percent(row.agreement, digits=2),
        **{rung: _percent(share) for rung, share in row.exit_shares.items()},
        "time": _percent(row.cloud_time_share.median),
        "FLOPs": _percent(row.cloud_flop_share),
        "B up": "" if row.uplink_bytes_per_token is None else f"{row.uplink_bytes_per_token:.0f}",
        _FORCED: _percent(row.forced_share, digits=0),
    }


def _percent(value: float | None, digits: int = 1) -> str:
    if value is None:
        return ""
    return "100%" if value == 1.0 else f"{value:.{digits}%}"


def level_table(calibration: Calibration) -> Table:
    """What each promise costs."""
    table = _table(
        f"promises with a confidence of {calibration.confidence:g}, tested on {calibration.documents} texts, "
        f"{calibration.tokens} tokens, codec {calibration.codec}"
    )
    rungs = list(calibration.levels[0].exit_shares) if calibration.levels else []
    for name in ("quality", "thresholds", "agrees", *rungs, "B up", "cloud µs"):
        table.add_column(name, justify="right", no_wrap=True)
    for level in calibration.levels:
        table.add_row(
            f"{level.agreement:g}",
            " ".join(f"{threshold:g}" for threshold in level.thresholds),
            _percent(level.measured_agreement, digits=2),
            *(_percent(level.exit_shares[rung]) for rung in rungs),
            f"{level.uplink_bytes_per_token:.0f}",
            f"{level.cloud_us_per_token:.0f}",
        )
    return table


def codec_table(calibration: Calibration) -> Table:
    """What each codec costs."""
    table = _table("codecs, on the full model's answers to testing texts")
    table.add_column("codec")
    for name in ("bytes per token", "cloud's tokens unchanged"):
        table.add_column(name, justify="right")
    for score in calibration.codecs:
        table.add_row(score.name, str(score.bytes_per_token), _percent(score.agreement, digits=2))
    return table


def measure_table(found: Mapping[Measure, MeasureScore], exits: Sequence[int], agreement: float) -> Table:
    """How well each measure tells right guesses from wrong ones.

    Args:
        found: the scores.
        exits: their layers.
        agreement: at which requests were counted.
    """
    table = _table("confidence measures, on the tuning texts")
    table.add_column("measure")
    for layer in exits:
        table.add_column(f"AUROC, exit {layer}", justify="right")
    table.add_column(f"no request, at {agreement:g}", justify="right")
    for measure, score in found.items():
        areas = (f"{area:.4f}" for area in score.areas)
        table.add_row(measure, *areas, f"{score.kept:.1%}")
    return table


def measure_sentence(found: Mapping[Measure, MeasureScore]) -> str:
    """Which measure tells right guesses from wrong ones best, over all exits."""
    means = {measure: sum(score.areas) / len(score.areas) for measure, score in found.items()}
    best, *others = sorted(means, key=lambda measure: -means[measure])
    rest = ", ".join(f"{measure} {means[measure]:.4f}" for measure in others)
    return f"{best} separates best: its mean AUROC is {means[best]:.4f}, of the others {rest}"
