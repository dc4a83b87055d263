"""How bad a storm is: every number in it is drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

# How often a wild storm brings each of these.
WILD: dict[str, int] = {
    "kill": 3,
    "freeze": 3,
    "drain": 2,
    "join": 3,
    "partition": 2,
    "broker_down": 1,
    "broker_freeze": 1,
    "store_down": 2,
    "store_emptied": 1,
    "kill_edge": 1,
}
# What an edge with enough patience gets over without a degraded token. A lost connection ends an ask at
# once, and a second death ends a session's use of the cloud: these are not among them.
BOUNDED: dict[str, int] = {"freeze": 3, "drain": 2, "join": 3, "store_down": 2, "store_emptied": 1}


@dataclass(slots=True)
class Net:
    """What happens to a message between a client and the broker; MQTT over TCP is kinder than this.

    Attributes:
        longest_s: a leg's longest delay.
        lost, doubled: how many of the messages.
        refused: how often a client's line is full.
        late: how many leave their place in the order that a connection keeps; on MQTT none does.
        redelivered: how many opens reach a second member of the pool as well.
    """

    longest_s: float
    lost: float
    doubled: float
    refused: float
    late: float
    redelivered: float


@dataclass(slots=True)
class Weather:
    """One storm.

    Attributes:
        seed: all there is to know.
        bounded: whether the edges are patient and the faults such that no token may be degraded.
        faults: when, and what.
    """

    seed: int
    bounded: bool
    net: Net
    workers: int
    edges: int
    sessions: int
    new_tokens: int
    chunk_rows: int
    max_sessions: int
    kv_budget_rows: int
    max_waiting: int
    slow_store: float
    failing_store: float
    forward_s: float
    breaking: float
    faults: list[tuple[float, str]] = field(default_factory=list)

    def stream(self, name: str) -> Random:
        """Numbers for one purpose, so that drawing more for one leaves the others as they are."""
        return Random(f"{self.seed}/{name}")


def draw_weather(seed: int, *, bounded: bool) -> Weather:
    """The storm of a seed."""
    random = Random(f"weather/{seed}/{bounded}")
    often: Callable[[float, float], float] = lambda share, most: (  # noqa: E731
        random.uniform(0, most) if random.random() < share else 0.0
    )
    return Weather(
        seed=seed,
        bounded=bounded,
        net=Net(
            longest_s=random.choice([0.002, 0.02, 0.1]),
            lost=often(0.6, 0.05 if bounded else 0.2),
            doubled=often(0.5, 0.3),
            refused=0.0 if bounded else often(0.2, 0.05),
            late=often(0.5, 0.3),
            redelivered=often(0.3, 0.5),
        ),
        workers=random.randint(1, 3),
        edges=random.randint(1, 3),
        sessions=random.randint(1, 6),
        new_tokens=random.randint(4, 16),
        chunk_rows=random.choice([1, 3, 8, 64]),
        max_sessions=random.choice([1, 2, 8, 8]),
        kv_budget_rows=random.choice([60, 120, 10_000]),
        max_waiting=random.choice([64, 4_096, 4_096]),
        slow_store=often(0.4, 0.5),
        failing_store=often(0.4, 0.5),
        forward_s=random.choice([0.001, 0.01, 0.2]),
        breaking=0.0 if bounded else often(0.2, 0.1),
        faults=_draw_faults(random, BOUNDED if bounded else WILD),
    )


def _draw_faults(random: Random, kinds: dict[str, int]) -> list[tuple[float, str]]:
    count = random.choice([0, 2, 4, 8])
    names = random.choices(list(kinds), list(kinds.values()), k=count)
    times = sorted(random.uniform(0.0, 6.0) for _ in range(count))
    return list(zip(times, names, strict=True))
