"""Quality against cloud requests, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ops.quality.report import Row
from shared.errors import ConfigError

_LINES: Final = {"edge alone": "none", "one threshold": "-", "calibrated": "-"}
# Names stand above or below their points, so that two groups don't write over each other.
_BESIDE: Final = {"edge alone": -10.0, "one threshold": -9.0, "calibrated": 5.0}


def draw_plot(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write a plot in the format of the file's name (.svg, .png).

    Raises:
        ConfigError: matplotlib is not installed, or does not know the format.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError("--plot needs matplotlib: pip install 'antiphon[bench]'") from None
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="cloud requests per token, %", ylabel=_label(rows[0]))
    axes.set_xscale("symlog", linthresh=1.0)  # what matters happens below ten percent, and at zero
    axes.set_xticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100], ["0", "0.5", "1", "2", "5", "10", "20", "50", "100"])
    axes.axhline(100.0 * _quality(rows[0]), color="grey", linestyle="--", label=rows[0].setting)
    for name, group in _groups(rows[1:]).items():
        points = [(100.0 * row.request_rate, 100.0 * _quality(row)) for row in group]
        axes.plot(*zip(*points, strict=True), marker="o", label=name, linestyle=_LINES[name])
        for row, point in zip(group, points, strict=True):
            axes.annotate(row.setting, point, (5, _BESIDE[name]), textcoords="offset points", fontsize=7)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    try:
        figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:
        raise ConfigError(f"--plot {path}: {error}. Name a .svg or .png file.") from error


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.quality is not None:
            name = "calibrated"
        elif row.setting.startswith("θ"):
            name = "one threshold"
        else:
            name = "edge alone"
        groups.setdefault(name, []).append(row)
    return groups


def _quality(row: Row) -> float:
    if row.exact is not None:
        return row.exact
    return row.agreement if row.rouge_l is None else row.rouge_l


def _label(row: Row) -> str:
    return "exact actions, %" if row.exact is not None else "ROUGE-L against the full model, %"
