"""A start taken apart: does what a role does before its first token, step by step, and says what each took.

Run it as `python -m ops.bench.start.phases edge BUNDLE LAUNCHED`, the last in seconds of the monotonic clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ops.bench.memory import Memory, memory_of
from ops.garbage import kept_for_good


class Phase(msgspec.Struct, frozen=True):
    """One step.

    Attributes:
        wall_s: that it took. cpu_s: of this process.
        memory: at its end.
    """

    name: str
    wall_s: float
    cpu_s: float
    memory: Memory


class Phases:
    """Steps one after another.

    Args:
        launched_s: when the process was asked for (monotonic).
    """

    def __init__(self, launched_s: float) -> None:
        self.done: list[Phase] = []
        self._wall_s = launched_s
        self._cpu_s = 0.0

    def end(self, name: str) -> None:
        """The step that ends now."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        self.done.append(Phase(name, wall_s - self._wall_s, cpu_s - self._cpu_s, memory_of()))
        self._wall_s, self._cpu_s = wall_s, cpu_s


def edge_steps(phases: Phases, folder: Path) -> None:
    """An edge's start."""
    with kept_for_good():
        _imports(phases)
        import edge_agent.service
    phases.end("transformers, our modules")
    from edge_agent.home.home import load_home
    from edge_agent.task import task_for
    from shared.model.bundle import Bundle
    from shared.model.loading import load_edge

    bundle = Bundle.open(folder)
    model = load_edge(bundle)
    phases.end("weights")
    task_for(bundle, load_home(edge_agent.service.DEMO_HOME) if bundle.kind == "home" else None)
    phases.end("tokenizer, home")
    _forwards(phases, model.stages, model.heads)


def worker_steps(phases: Phases, folder: Path) -> None:
    """A worker's start."""
    with kept_for_good():
        _imports(phases)
        import cloud_worker.service  # noqa: F401
    phases.end("transformers, our modules")
    from shared.model.bundle import Bundle
    from shared.model.loading import load_cloud

    model = load_cloud(Bundle.open(folder))
    phases.end("weights")
    _forwards(phases, [model.stage], [model.head])


def _imports(phases: Phases) -> None:
    import ops.cli  # noqa: F401

    phases.end("command line")
    import torch

    torch.set_num_threads(1)
    phases.end("torch")


def _forwards(phases: Phases, stages: list[Any], heads: list[Any]) -> None:
    """The first forward, which reads the weights, and one like it."""
    from shared.model.warm_up import warm_up

    for name in ("first forward", "second forward"):
        warm_up(stages, heads)
        phases.end(name)


_STEPS: dict[str, Callable[[Phases, Path], None]] = {"edge": edge_steps, "worker": worker_steps}


def main() -> None:
    """Print the steps as JSON."""
    role, folder, launched_s = sys.argv[1:]
    phases = Phases(float(launched_s))
    phases.end("interpreter")
    _STEPS[role](phases, Path(folder))
    sys.stdout.buffer.write(msgspec.json.encode(phases.done))


if __name__ == "__main__":
    main()
