"""The report as a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.quality.plot import draw_plot
from ops.quality.range import Range
from ops.quality.report import Row
from shared.errors import ConfigError

pytest.importorskip("matplotlib", reason="comes with the extra bench")


def row(setting: str, rate: float, quality: float | None = None) -> Row:
    shares = {"edge-1": 1.0 - rate, "cloud": rate}
    return Row(
        setting, (0.5,), quality, 0.9, None, None, 0.95, shares, rate, 0.5, Range.of([rate]), rate, 10.0, 0
    )


ROWS = [row("full model", 1.0), row("edge-1 alone", 0.0), row("θ 0.9", 0.1), row("quality 0.99", 0.05, 0.99)]


def test_every_setting_is_named_in_the_picture(tmp_path: Path):
    draw_plot(tmp_path / "plot.svg", "home", ROWS)
    drawn = (tmp_path / "plot.svg").read_text()
    for each in ROWS[1:]:
        assert f"<!-- {each.setting} -->" in drawn


def test_a_format_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"Name a \.svg or \.png"):
        draw_plot(tmp_path / "plot.docx", "home", ROWS)
