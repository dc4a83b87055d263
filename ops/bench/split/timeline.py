"""One token's way, piece by piece: where the split's overhead sits."""

from __future__ import annotations

from statistics import median
from typing import Final

from ops.bench.report import BenchTable, Row
from ops.bench.split.measure import CaseResult

COLUMNS: Final = ("piece", "split ms", "unsplit ms", "overhead ms")


def timeline(result: CaseResult) -> BenchTable:
    """The pieces of a token in the order in which they happen; medians, so they need not quite add up."""
    alone = result.unsplit_pieces_ms
    split = {
        piece: median(each.pieces_ms[piece] for each in result.rounds) for piece in ("edge", "away", "cloud")
    }
    total = median(each.split_ms for each in result.rounds)
    unsplit = median(each.unsplit_ms for each in result.rounds)
    stages = split["edge"] - alone["codec"]
    rows = [
        _row("edge: stages", stages, alone["edge"]),
        _row("edge: encoding, and decoding in the cloud", alone["codec"], 0.0),
        _row("edge: decode loop, threads, text", total - split["edge"] - split["away"], 0.0),
        _row("wire, broker, the worker's loop and queue", split["away"] - split["cloud"], 0.0),
        _row("cloud: stage, head and draw", split["cloud"], alone["cloud"]),
        _row("whole token", total, unsplit),
    ]
    return BenchTable(f"one token, {result.case.name}", COLUMNS, rows)


def _row(piece: str, split_ms: float, unsplit_ms: float) -> Row:
    return {
        "piece": piece,
        "split ms": split_ms,
        "unsplit ms": unsplit_ms or None,
        "overhead ms": split_ms - unsplit_ms,
    }
