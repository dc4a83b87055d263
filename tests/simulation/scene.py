"""A calm day to which a test adds the one thing that goes wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from tests.simulation.storm import Storm
from tests.simulation.weather import Net, Weather

S = TypeVar("S", bound=Storm)

CALM = Net(longest_s=0.02, lost=0.0, doubled=0.0, refused=0.0, late=0.0, redelivered=0.0)


def calm_weather(seed: int, net: Net = CALM, **changes: Any) -> Weather:
    """Three workers, patient edges, room for everybody."""
    weather = Weather(
        seed=seed,
        bounded=True,
        net=net,
        workers=3,
        edges=2,
        sessions=4,
        new_tokens=12,
        chunk_rows=8,
        max_sessions=8,
        kv_budget_rows=10_000,
        max_waiting=4_096,
        slow_store=0.0,
        failing_store=0.0,
        forward_s=0.01,
        breaking=0.0,
    )
    return replace(weather, **changes)


def run_well(storm: S) -> S:
    """Let it pass; a story that goes wrong is told."""
    storm.run()
    assert not storm.wrong, "\n".join([*storm.trace.lines()[-60:], str(storm.weather), *storm.wrong])
    return storm
