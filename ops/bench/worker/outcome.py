"""From what was measured to a report, and whether it holds what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from ops.bench.report import BenchReport, BenchTable, Row
from ops.bench.worker.measure import Level, Measured
from shared.model.bundle import Bundle
from shared.model.cache import StageCache

# Random logits may come so near to one another that rounding decides; more than that is an error.
MOST_DIFFERENT: Final = 0.001
_COLUMNS: Final = (
    "workers",
    "sessions",
    "tokens/s",
    "over 1 session",
    "p50 ms",
    "p99 ms",
    "p99 / p50",
    "steps",
)

_NOTES: Final = (
    "Each session is an edge of its own without a model, which sends a row as soon as it was answered.",
    "One by one: the same worker, each forward one session's. Tokens are the same in all rows.",
)


def kv_bytes(bundle: Bundle, tokens: int) -> int:
    """Of a session's cache in the cloud, room not yet used included."""
    config = bundle.manifest.config
    layers = len(bundle.partition.cloud_stage.layers)
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    cache = StageCache(layers, config["num_key_value_heads"], head_size, torch.float32)
    cache.reserve(tokens)
    return cache.nbytes


def report_of(measured: Measured, settings: Mapping[str, Any], pins: str) -> BenchReport:
    """Tables, notes and summary."""
    return BenchReport(
        "worker",
        settings,
        _COLUMNS,
        _rows(measured.levels),
        _summary(measured),
        [*_NOTES, pins],
        [_prefill_table(measured), _memory_table(measured)],
    )


def texts_differ(measured: Measured) -> bool:
    """Whether a session was told other tokens because of whom it shared its forwards with."""
    drawn = measured.drawn
    return drawn.different > max(1, MOST_DIFFERENT * drawn.compared)


def _rows(levels: list[Level]) -> list[Row]:
    first = {level.way: level for level in reversed(levels)}  # of each way, its smallest level
    return [
        {
            "workers": level.way,
            "sessions": level.sessions,
            "tokens/s": level.tokens_per_s,
            "over 1 session": _ratio(level.tokens_per_s, first[level.way].tokens_per_s),
            "p50 ms": level.p50_ms,
            "p99 ms": level.p99_ms,
            "p99 / p50": _ratio(level.p99_ms, level.p50_ms),
            "steps": level.steps,
        }
        for level in levels
    ]


def _ratio(value: float, base: float) -> float:
    """0 where nothing was measured."""
    return value / base if base else 0.0


def _summary(measured: Measured) -> dict[str, float]:
    packed = {level.sessions: level for level in measured.levels if level.way == "packed"}
    apart = {level.sessions: level for level in measured.levels if level.way == "one by one"}
    two = {level.sessions: level for level in measured.levels if level.way == "packed, 2 workers"}
    prefill, memory = measured.prefill, measured.memory
    return {
        "throughput_8_over_1": _ratio(packed[8].tokens_per_s, packed[1].tokens_per_s),
        "p99_over_p50_8": _ratio(packed[8].p99_ms, packed[8].p50_ms),
        "packed_over_one_by_one_8": _ratio(packed[8].tokens_per_s, apart[8].tokens_per_s),
        "two_workers_over_one_8": _ratio(two[8].tokens_per_s, packed[8].tokens_per_s),
        "p99_beside_prefill_over_p50": _ratio(prefill.beside.p99_ms, prefill.without.p50_ms),
        "kv_bytes_per_session": memory.kv_bytes,
        "different_tokens": measured.drawn.different,
        "compared_tokens": measured.drawn.compared,
    }


def _prefill_table(measured: Measured) -> BenchTable:
    prefill = measured.prefill
    columns = ("stepping", "sessions", "tokens/s", "p50 ms", "p99 ms", "prompt tokens", "prompt s")
    rows: list[Row] = [
        {
            "stepping": level.way,
            "sessions": level.sessions,
            "tokens/s": level.tokens_per_s,
            "p50 ms": level.p50_ms,
            "p99 ms": level.p99_ms,
        }
        for level in (prefill.without, prefill.beside)
    ]
    rows[1] = {**rows[1], "prompt tokens": prefill.tokens, "prompt s": prefill.seconds}
    return BenchTable("sessions that step while a long prompt is read", columns, rows)


def _memory_table(measured: Measured) -> BenchTable:
    memory = measured.memory
    columns = ("a session", "tokens", "KV KiB", "process KiB", "sessions")
    row: Row = {
        "a session": "of its context",
        "tokens": memory.tokens,
        "KV KiB": memory.kv_bytes / 1024,
        "process KiB": memory.process_bytes / 1024,
        "sessions": memory.sessions,
    }
    return BenchTable("memory of a session at its worker", columns, [row])
