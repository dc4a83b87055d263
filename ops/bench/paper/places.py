"""What runs where: cores, settings of a run, and how both sides open the same bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.home.home import load_home
from edge_agent.service import DEMO_HOME
from edge_agent.task import Task, task_for
from shared.config import BrokerSection
from shared.model.bundle import Bundle

TENANT: Final = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """One model's run; both sides get the same.

    Attributes:
        bundle: its folder.
        weights: what the layers' weights are kept in, as in `edge.weights`.
        thresholds: one for each exit.
        broker_port: where the broker listens.
        edge_core, cloud_core: where each side computes; None: wherever there is room.
    """

    bundle: Path
    weights: str
    thresholds: tuple[float, ...]
    broker_port: int
    edge_core: int | None
    cloud_core: int | None

    def task(self, bundle: Bundle) -> Task:
        """What prompts mean; a home model is asked in the demo's home."""
        return task_for(bundle, load_home(DEMO_HOME) if bundle.kind == "home" else None)


def broker_at(port: int) -> BrokerSection:
    """A broker on this host."""
    return BrokerSection(port=port)


def two_cores() -> tuple[int | None, int | None]:
    """A core for each side, where there are two."""
    if not hasattr(os, "sched_getaffinity"):  # Linux alone has it
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def stay_on(cores: Sequence[int | None]) -> None:
    """Keep this thread, and those that it starts, on some cores."""
    wanted = [core for core in cores if core is not None]
    if wanted:
        os.sched_setaffinity(0, wanted)
