"""What reports and calibrations say in words and tables."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from ops.quality.outcome import MeasureScore
from ops.quality.range import Range
from ops.quality.report import Row
from ops.quality.tables import measure_sentence, report_note, report_table

SHARES = {"edge-1": 0.8876, "edge-2": 0.0624, "cloud": 0.05}
ROW = Row(
    setting="quality 0.995",
    thresholds=(0.5, 0.5),
    quality=0.995,
    exact=0.9251,
    natural_exact=0.8971,
    rouge_l=None,
    agreement=0.99876,
    exit_shares=SHARES,
    request_rate=0.05,
    forced_share=0.51,
    cloud_time_share=Range.of([0.1234]),
    cloud_flop_share=0.4567,
    uplink_bytes_per_token=1234.0,
    invalid_actions=0,
    wrong_actions_on_refusals=12,
)


def test_the_widest_report_fits_eighty_columns_and_counts_wrong_actions():
    out = StringIO()
    Console(file=out, width=80).print(report_table("home", [ROW]))
    assert "…" not in out.getvalue()
    assert "acted" in out.getvalue()


def test_the_note_tells_of_how_many_refusals_and_how_many_forced_tokens():
    note = report_note([ROW], 40)
    assert "of the 40 requests that are to be refused" in note
    assert "51% of the full model's tokens" in note
    assert "refused" not in report_note([ROW], 0)


def test_the_measure_that_separates_best_is_the_one_with_the_largest_mean_area():
    found = {
        "max_probability": MeasureScore((0.9, 0.8), 0.5),
        "margin": MeasureScore((0.8, 0.95), 0.4),
        "entropy": MeasureScore((0.7, 0.7), 0.9),
    }
    said = measure_sentence(found)
    assert said.startswith("margin separates best: its mean AUROC is 0.8750")
    assert said.endswith("max_probability 0.8500, entropy 0.7000")
