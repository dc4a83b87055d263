"""The report of a run."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Final

from ops.bench.report import BenchReport, BenchTable, Row, Samples
from ops.bench.transport.measure import (
    AIOMQTT,
    OWN,
    PAHO,
    SESSION_STATES,
    SESSIONS,
    STATES,
    STEP,
    TCP,
    Measured,
    Plan,
    Which,
    brokers_here,
    measure,
)
from ops.bench.transport.question import size_of
from ops.bench.transport.stages import Stages

_COLUMNS: Final = ("round trip", "broker", "QoS", "states B", "µs", "over TCP")
_NOTES: Final = (
    "TCP, aiomqtt and paho are bare echoes, own echo is our transport.",
    "All carry the bytes of a step up and of its reply down.",
    "Steps and replies travel at QoS 0.",
    "Ratios are of medians, round by round.",
)


async def bench(plan: Plan, *, embedded: bool) -> BenchReport:
    """Measure and report.

    Args:
        plan: how much.
        embedded: the embedded broker alone.

    Raises:
        LinkError: an answer was not its question's.
    """
    brokers = brokers_here(embedded=embedded)
    measured = await measure(plan, brokers)
    stages = await Stages.measured(size_of(SESSION_STATES))
    loop = type(asyncio.get_running_loop()).__module__
    return BenchReport(
        "transport",
        {**plan._asdict(), "brokers": brokers, "event_loop": loop},
        _COLUMNS,
        [_row(measured, which) for which in sorted(measured.trips_s, key=_order)],
        _summary(measured, brokers),
        _NOTES,
        [_ratio_table(measured, brokers), _sessions_table(measured, brokers), stages.table()],
    )


def _order(which: Which) -> tuple[str, int, int]:
    return which.broker, which.states, which.qos


def _row(measured: Measured, which: Which) -> Row:
    tcp = Which(TCP, "", 0, which.states)
    return {
        "round trip": which.what,
        "broker": which.broker,
        "QoS": which.qos if which.broker else None,
        "states B": which.states,
        "µs": Samples.of([trip_s * 1e6 for trip_s in measured.all_s(which)]),
        "over TCP": median(measured.ratios(which, tcp)) if which.broker else None,
    }


def _ratio_table(measured: Measured, brokers: list[str]) -> BenchTable:
    rows: list[Row] = [
        {
            "broker": broker,
            "states B": states,
            **{f"over {echo}": _ratio(measured, broker, states, echo) for echo in (AIOMQTT, PAHO, OWN)},
        }
        for broker in brokers
        for states in STATES
    ]
    return BenchTable("a step's round trip over an echo's, QoS 0", list(rows[0]), rows)


def _ratio(measured: Measured, broker: str, states: int, echo: str) -> Samples:
    step, other = (Which(what, broker, 0, states) for what in (STEP, echo))
    return Samples.of(measured.ratios(step, other))


def _summary(measured: Measured, brokers: list[str]) -> dict[str, float]:
    """The worst size and broker counts."""
    return {
        "step_over_echo": _worst(measured, AIOMQTT, brokers),
        "step_over_paho_echo": _worst(measured, PAHO, brokers),
        "grouped_over_alone_16": min(median(_gains(measured, broker)) for broker in brokers),
    }


def _worst(measured: Measured, echo: str, brokers: list[str]) -> float:
    return max(_ratio(measured, broker, states, echo).median for broker in brokers for states in STATES)


def _gains(measured: Measured, broker: str) -> list[float]:
    rates = zip(measured.per_second[broker, True], measured.per_second[broker, False], strict=True)
    return [grouped / alone for grouped, alone in rates]


def _sessions_table(measured: Measured, brokers: list[str]) -> BenchTable:
    rows: list[Row] = [
        {
            "broker": broker,
            "grouped /s": Samples.of(measured.per_second[broker, True]),
            "alone /s": Samples.of(measured.per_second[broker, False]),
            "grouped over alone": Samples.of(_gains(measured, broker)),
        }
        for broker in brokers
    ]
    title = f"round trips a second of {SESSIONS} sessions at once, {SESSION_STATES} B of states each"
    return BenchTable(title, list(rows[0]), rows)
