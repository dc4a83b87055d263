"""Waits and memory have bounds in every run; a run beyond them is no good one."""

from __future__ import annotations

import msgspec
import pytest

from ops.faults.bounds import ROOM_MIB, ROOM_S, limit_s, overruns
from ops.faults.outcome import Outcome

CALM = {"edge": 300.0, "worker-1": 310.0}
GOOD = Outcome("any", 0, 1, True, 1, [], 0, [], 0, 0.1, {})


def test_a_wait_may_be_as_long_as_the_deadline_and_what_the_fault_takes() -> None:
    most_s = limit_s(deadline_s=3.0, holds_s=2.0)
    assert most_s == pytest.approx(5.0 + ROOM_S)
    assert overruns(most_s, most_s, {}, {}) == []
    assert "nothing was heard for 40.0 s" in overruns(40.0, most_s, {}, {})[0]


def test_the_bound_is_far_below_what_ends_a_run_without_it() -> None:
    from ops.faults.catalog import FAULTS
    from ops.faults.run import ANSWER_TIMEOUT_S

    waits = [limit_s(6.0, fault.holds_s) for fault in FAULTS.values()]
    assert max(waits) < ANSWER_TIMEOUT_S


def test_a_member_may_take_more_than_in_calm_but_not_without_end() -> None:
    assert overruns(0.0, 1.0, {"edge": 300.0 + ROOM_MIB, "worker-1": 310.0}, CALM) == []
    (words,) = overruns(0.0, 1.0, {"edge": 300.0, "worker-1": 311.0 + ROOM_MIB}, CALM)
    assert words.startswith("worker-1 took")


def test_a_member_that_does_not_run_takes_nothing() -> None:
    assert overruns(0.0, 1.0, {"edge": 0.0, "worker-1": 0.0}, CALM) == []


def test_a_run_beyond_its_bounds_is_not_good() -> None:
    assert GOOD.good
    assert not msgspec.structs.replace(GOOD, overruns=["edge took 900 MiB"]).good
