"""What one edge may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.quota import BURST_S, Quota, Rates
from shared.wire.codec import MAX_MESSAGE_BYTES

PLENTY = Rates("tenant", 1 << 40, 1 << 40)


def quota(
    steps_per_s: int = 10, bytes_per_s: int = 1 << 20, max_edges: int = 8, tenant: Rates = PLENTY
) -> Quota:
    return Quota(Rates("edge", steps_per_s, bytes_per_s), tenant, max_edges=max_edges)


def test_a_burst_passes_and_then_the_rate_holds():
    limits = quota(steps_per_s=10)
    assert [limits.take("hub", 1, 0.0) for _ in range(20)] == [None] * 20
    capped = limits.take("hub", 1, 0.0)
    assert capped is not None
    assert capped.setting == "worker.steps_per_s_per_edge"
    assert capped.retry_after_s == pytest.approx(0.1)
    assert "worker.steps_per_s_per_edge = 10" in str(capped)
    assert limits.take("hub", 1, 0.05) is not None
    assert limits.take("hub", 1, 0.11) is None


def test_bytes_are_counted_too_and_what_does_not_pass_uses_nothing_up():
    limits = quota(steps_per_s=4, bytes_per_s=1 << 20)
    assert limits.take("hub", 2 << 20, 0.0) is None
    for _ in range(20):
        capped = limits.take("hub", 1 << 20, 0.0)
        assert capped is not None
        assert capped.setting == "worker.bytes_per_s_per_edge"
        assert capped.retry_after_s == pytest.approx(1.0)
    assert [limits.take("hub", 0, 0.0) for _ in range(7)] == [None] * 7


def test_the_largest_message_passes_whatever_the_rate():
    assert quota(bytes_per_s=1).take("hub", MAX_MESSAGE_BYTES, 0.0) is None


def test_edges_do_not_share_their_room():
    limits = quota(steps_per_s=1)
    while limits.take("greedy", 1, 0.0) is None:
        pass
    assert limits.take("modest", 1, 0.0) is None


def test_all_edges_together_have_a_limit_of_their_own():
    limits = quota(tenant=Rates("tenant", 3, 1 << 20))
    assert [limits.take(f"edge-{number}", 1, 0.0) for number in range(6)] == [None] * 6
    capped = limits.take("edge-7", 1, 0.0)
    assert capped is not None
    assert (capped.setting, capped.limit) == ("worker.steps_per_s_per_tenant", 3)
    assert "this tenant is over" in str(capped)
    assert limits.take("edge-7", 1, capped.retry_after_s + 1e-6) is None


def test_what_an_edge_may_not_send_uses_nothing_of_its_tenants_room_up():
    limits = quota(steps_per_s=1, tenant=Rates("tenant", 4, 1 << 20))
    for _ in range(100):
        limits.take("greedy", 1, 0.0)
    assert [limits.take("modest", 1, 0.0) for _ in range(2)] == [None, None]


def test_bytes_of_all_edges_are_counted_too():
    limits = quota(tenant=Rates("tenant", 100, 1 << 20))
    assert [limits.take(edge, 1 << 20, 0.0) for edge in "ab"] == [None, None]
    capped = limits.take("c", 1 << 20, 0.0)
    assert capped is not None
    assert capped.setting == "worker.bytes_per_s_per_tenant"


def test_the_edges_that_are_remembered_are_bounded_and_those_in_use_stay():
    limits = quota(steps_per_s=1, max_edges=2)
    while limits.take("greedy", 1, 0.0) is None:
        pass
    for number in range(10):
        limits.take(f"edge-{number}", 1, 0.0)
        assert limits.take("greedy", 1, 0.0) is not None
    assert len(limits) == 2


def test_a_clock_that_steps_back_gives_nothing():
    limits = quota(steps_per_s=1)
    while limits.take("hub", 1, 100.0) is None:
        pass
    assert limits.take("hub", 1, 0.0) is not None
    assert limits.take("hub", 1, 0.5) is not None


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5000)), max_size=80))
def test_no_more_than_burst_and_rate_ever_passes_and_the_wait_it_names_is_enough(steps):
    limits, now_s, passed, load = quota(steps_per_s=5, bytes_per_s=1 << 20), 0.0, 0, 0
    for pause_s, nbytes in steps:
        now_s += pause_s
        capped = limits.take("hub", nbytes, now_s)
        if capped is not None:
            now_s += capped.retry_after_s + 1e-6
            assert limits.take("hub", nbytes, now_s) is None
        passed, load = passed + 1, load + nbytes
        assert passed <= 5 * (now_s + BURST_S) + 1e-3
        assert load <= (1 << 20) * (now_s + BURST_S) + 1.0
