"""Time over the round trip, a panel for each rate, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ops.bench.paper.edge import CLOUD_ONLY, OURS
from ops.bench.paper.wan import Crossing, Curve
from shared.errors import ConfigError

_PANEL_INCHES: Final = (4.2, 4.6)


def draw_wan(path: Path, title: str, curves: Sequence[Curve], crossings: Sequence[Crossing]) -> None:
    """Write a plot in the format of the file's name (.svg, .png).

    Args:
        path: of the picture.
        title: above it.
        curves: the rows.
        crossings: marked where a row crosses the cloud-only one.

    Raises:
        ConfigError: matplotlib is not installed, or does not know the format.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError("--plot needs matplotlib: pip install 'antiphon[bench]'") from None
    rates = list(dict.fromkeys(curve.mbit_s for curve in curves))
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(rates), height), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    for axes, rate in zip(panels, rates, strict=True):
        _panel(axes, rate, [curve for curve in curves if curve.mbit_s == rate])
        _mark(axes, [c for c in crossings if c.mbit_s == rate], curves)
    panels[0].set_ylabel("one answer, s")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:
        raise ConfigError(f"--plot {path}: {error}. Name a .svg or .png file.") from error


def _panel(axes: Any, rate: float, curves: Sequence[Curve]) -> None:
    axes.set(title=f"{rate:g} Mbit/s", xlabel="round trip, ms", xscale="log", yscale="log")
    ticks = [rtt_ms for rtt_ms, _ in curves[0].points]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    for curve in curves:
        thick = curve.name in OURS or curve.name == CLOUD_ONLY
        line = "--" if curve.name == CLOUD_ONLY else "-"
        points = zip(*curve.points, strict=True)
        axes.plot(*points, marker=".", linestyle=line, linewidth=2.2 if thick else 1.1, label=curve.name)
    axes.grid(alpha=0.3)


def _mark(axes: Any, crossings: Sequence[Crossing], curves: Sequence[Curve]) -> None:
    """A ring where a row and the cloud-only one are as fast as each other."""
    for crossing in crossings:
        if CLOUD_ONLY in (crossing.name, crossing.other):
            time_s = _time_at(curves, CLOUD_ONLY, crossing)
            axes.plot([crossing.rtt_ms], [time_s], marker="o", markersize=9, fillstyle="none", color="black")


def _time_at(curves: Sequence[Curve], name: str, crossing: Crossing) -> float:
    """A curve's time at a crossing, between its nearest points."""
    curve = next(each for each in curves if each.name == name and each.mbit_s == crossing.mbit_s)
    for (left, low), (right, high) in pairwise(curve.points):
        if left <= crossing.rtt_ms <= right:
            return float(low + (high - low) * (crossing.rtt_ms - left) / (right - left))
    return curve.points[-1][1]
