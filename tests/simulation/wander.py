"""Random histories of a `Bag`, each from its seed alone.

Hypothesis searches better, and makes what it finds small; but what it tries depends on the modules that are
imported. Planted bugs are hunted here, where the same seeds always give the same histories.
"""

from __future__ import annotations

from random import Random

from edge_agent.decode import Use
from tests.simulation.bag import DISASTERS, SESSIONS, WORKERS, Bag, short_chunks

STEPS = 80
# How often a history does each of these.
ACTS: dict[str, int] = {
    "generate": 30,
    "push": 5,
    "open_early": 1,
    "deliver": 8,
    "deliver_in_order": 30,
    "lose": 4,
    "double": 6,
    "arrive_late": 6,
    "forward": 20,
    "wait": 6,
    "go_well": 8,
    "disaster": 4,
}
WAITS_S = (0.06, 0.3, 0.6, 1.1)


def wander(seed: int) -> Bag:
    """One history, checked at its end.

    Raises:
        AssertionError: something did not hold.
    """
    random = Random(f"wander/{seed}")
    uses: tuple[Use, ...] = ("unsure", "always")
    # A history that does some things often and others rarely gets further than one that does all of them.
    often = [1 + weight * random.choice([0, 1, 1, 4]) for weight in ACTS.values()]
    names = random.choice([SESSIONS, SESSIONS[:1]])
    with short_chunks():
        bag = Bag(random.choice(uses), random.choice([0, 1, 4, 16]))
        for act in random.choices(list(ACTS), often, k=STEPS):
            _do(bag, act, random.choice(names), random)
        bag.check()
        bag.end_fairly()
    return bag


def _do(bag: Bag, act: str, name: str, random: Random) -> None:
    worker = random.choice(WORKERS)
    match act:
        case "generate" | "push" | "open_early":
            getattr(bag, act)(name)
        case "deliver" if bag.letters:
            bag.deliver(random.randrange(len(bag.letters)), worker)
        case "lose" | "double" if bag.letters:
            getattr(bag, act)(random.randrange(len(bag.letters)))
        case "arrive_late" if bag.late:
            bag.arrive_late(random.randrange(len(bag.late)), worker)
        case "deliver_in_order":
            bag.deliver_in_order(worker, random.randint(1, 8))
        case "forward":
            bag.forward(worker)
        case "wait":
            bag.wait(random.choice(WAITS_S))
        case "go_well":
            bag.go_well(name, worker, random.randint(1, 3))
        case "disaster":
            bag.disaster(random.choice(DISASTERS), worker, name)
