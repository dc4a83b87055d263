"""The uplink's rate, from reply times alone."""

from __future__ import annotations

import math

import pytest

from edge_agent.uplink import Uplink


def told(rate: float, *, round_trip_s: float = 0.03, worker_s: float = 0.004, rounds: int = 20) -> Uplink:
    uplink = Uplink()
    for _ in range(rounds):
        for size in (600, 40_000):
            uplink.observe(size, round_trip_s + worker_s + size / rate, worker_s)
    return uplink


@pytest.mark.parametrize("rate", [1e5, 3.75e6, 1e8])
def test_the_rate_is_what_more_bytes_take_longer(rate: float):
    assert told(rate).bytes_per_s == pytest.approx(rate, rel=1e-3)


def test_nothing_is_told_before_there_are_steps_of_different_sizes():
    uplink = Uplink()
    assert uplink.bytes_per_s is None
    for _ in range(50):
        uplink.observe(600, 0.03)
    assert uplink.bytes_per_s is None


def test_few_replies_tell_nothing():
    uplink = Uplink()
    for size in (600, 60_000, 600):
        uplink.observe(size, 0.03 + size / 1e6)
    assert uplink.bytes_per_s is None


def test_where_size_makes_no_difference_there_is_no_limit():
    uplink = Uplink()
    for index in range(20):
        uplink.observe(600 + 40_000 * (index % 2), 0.03)
    assert uplink.bytes_per_s == math.inf


def test_a_link_that_becomes_slower_is_followed():
    uplink = told(1e7, rounds=50)
    for _ in range(150):
        for size in (600, 40_000):
            uplink.observe(size, 0.03 + size / 1e6)
    assert uplink.bytes_per_s == pytest.approx(1e6, rel=0.1)


def test_a_worker_that_says_it_took_longer_than_the_reply_makes_no_time_negative():
    uplink = Uplink()
    for index in range(20):
        uplink.observe(600 + 40_000 * (index % 2), 0.03, 1.0)
    assert uplink.bytes_per_s == math.inf
