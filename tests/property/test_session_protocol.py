"""The session protocol's own machines against everything a network may do: any order, loss, doubling, delay.

Two sessions of an edge, with several questions on their way each, and two workers, without an event loop: the
messages lie in a `Bag`. Rules deliver, drop, double and delay them in any order; time passes by a rule. The
tokens depend on every row of a cache, so that texts equal to the fault-free ones prove that every cache was
right.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation.bag import DISASTERS, SESSIONS, WORKERS, Bag, short_chunks
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.wander import WAITS_S, wander

NAMES, MEMBERS = st.sampled_from(SESSIONS), st.sampled_from(WORKERS)
# A planted bug takes a few hundred histories at most.
HUNTED = 4_000


class SessionProtocol(RuleBasedStateMachine):
    """The bag, the two sides, and the rules of a network without rules."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = Bag("unsure", 0)
        self.open = ExitStack()
        self.open.enter_context(short_chunks())

    @initialize(use=st.sampled_from(["unsure", "always"]), lookahead=st.sampled_from([0, 1, 4, 16]))
    def begin(self, use, lookahead: int) -> None:
        self.bag = Bag(use, lookahead)

    @rule(name=NAMES, times=st.integers(1, 4))
    def generate(self, name: str, times: int) -> None:
        for _ in range(times):
            self.bag.generate(name)

    @rule(name=NAMES)
    def push(self, name: str) -> None:
        self.bag.push(name)

    @rule(name=NAMES)
    def open_early(self, name: str) -> None:
        self.bag.open_early(name)

    @precondition(lambda self: self.bag.letters)
    @rule(data=st.data(), worker=MEMBERS)
    def deliver(self, data: st.DataObject, worker: str) -> None:
        self.bag.deliver(self._place(data), worker)

    @precondition(lambda self: self.bag.letters)
    @rule(worker=MEMBERS, count=st.integers(1, 8))
    def deliver_in_order(self, worker: str, count: int) -> None:
        self.bag.deliver_in_order(worker, count)

    @precondition(lambda self: self.bag.letters)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.bag.lose(self._place(data))

    @precondition(lambda self: self.bag.letters and len(self.bag.late) < 100)
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        """The copy lies aside and comes at any time, or never."""
        self.bag.double(self._place(data))

    @precondition(lambda self: self.bag.late)
    @rule(data=st.data(), worker=MEMBERS)
    def arrive_late(self, data: st.DataObject, worker: str) -> None:
        self.bag.arrive_late(data.draw(st.integers(0, len(self.bag.late) - 1)), worker)

    @rule(worker=MEMBERS)
    def forward(self, worker: str) -> None:
        self.bag.forward(worker)

    @rule(passed_s=st.sampled_from(WAITS_S))
    def wait(self, passed_s: float) -> None:
        self.bag.wait(passed_s)

    @rule(name=NAMES, worker=MEMBERS, rounds=st.integers(1, 3))
    def go_well(self, name: str, worker: str, rounds: int) -> None:
        self.bag.go_well(name, worker, rounds)

    @rule(kind=st.sampled_from(DISASTERS), worker=MEMBERS, name=NAMES)
    def disaster(self, kind: str, worker: str, name: str) -> None:
        self.bag.disaster(kind, worker, name)

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.bag.check()

    def teardown(self) -> None:
        """The network becomes fair: what is asked ends, and what is asked anew is answered."""
        try:
            self.bag.end_fairly()
        finally:
            self.open.close()

    def _place(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.bag.letters) - 1))


TestSessionProtocol = SessionProtocol.TestCase
TestSessionProtocol.settings = settings(
    stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@pytest.mark.parametrize("seed", range(4))
def test_what_has_to_hold_holds_in_histories_that_are_always_the_same(seed: int):
    asked_ahead = discarded = 0
    for each in range(seed * 100, seed * 100 + 100):
        for edge in wander(each).edges.values():
            asked_ahead += edge.core.ahead
            discarded += edge.loop.discarded
    assert asked_ahead > 50
    assert discarded > 50


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_machine_finds_a_planted_bug(mutant: Mutant):
    """A search that finds nothing proves little unless it would have found something."""
    with mutant.planted():
        assert any(goes_wrong(seed) for seed in range(HUNTED))


def goes_wrong(seed: int) -> bool:
    try:
        wander(seed)
    except Exception:  # noqa: BLE001  whichever way it shows
        return True
    return False
