"""The link's state, who is in the pool, and when a silent step is sent again."""

from __future__ import annotations

import pytest

from broker.presence import Status
from edge_agent.health import LinkHealth, LinkState
from edge_agent.pool import Pool
from edge_agent.reply_time import ReplyTime


def here(digest: str = "d1", birth: int = 1, bundle: str = "m") -> Status:
    return Status(online=True, birth=birth, bundle=bundle, digest=digest)


def gone(birth: int = 1) -> Status:
    return Status(online=False, birth=birth)


# --- health ----------------------------------------------------------------------------------------


def test_a_link_is_offline_without_a_connection_and_degraded_after_a_failure():
    health = LinkHealth()
    assert health.state is LinkState.OFFLINE
    health.on_connection(connected=True)
    assert health.state is LinkState.ONLINE
    health.on_failure(0.0)
    assert health.state is LinkState.DEGRADED
    health.on_connection(connected=False)
    assert health.state is LinkState.OFFLINE


def test_after_a_failure_one_session_at_a_time_tries_and_a_success_lets_all():
    health = LinkHealth(connected=True)
    health.on_failure(0.0)
    assert not health.may_open(0.1)
    assert health.may_open(0.3)
    assert not health.may_open(0.3)
    health.on_success()
    assert health.may_open(0.3)
    assert health.may_open(0.3)


def test_a_session_that_was_taken_lets_the_next_one_try_but_only_an_answer_ends_the_rest():
    """A worker may take sessions and answer none of them."""
    health = LinkHealth(connected=True)
    health.on_failure(0.0)
    assert health.may_open(0.3)
    health.on_taken()
    assert health.state is LinkState.DEGRADED
    assert health.may_open(0.31)
    assert not health.may_open(0.32)


def test_the_rest_between_probes_grows_to_four_seconds_and_no_further():
    health = LinkHealth(connected=True)
    for now_s in range(50):
        health.on_failure(float(now_s))
    assert health.retry_at_s == pytest.approx(49.0 + 4.0)


def test_sessions_that_fail_together_count_as_one_failure():
    health = LinkHealth(connected=True)
    for index in range(8):
        health.on_failure(10.0 + index / 100)
    assert health.failures == 1
    assert health.may_open(10.3)


def test_a_new_connection_clears_the_record():
    health = LinkHealth(connected=True)
    health.on_failure(0.0)
    health.on_connection(connected=False)
    health.on_connection(connected=True)
    assert health.may_open(0.0)


# --- the pool --------------------------------------------------------------------------------------


def test_a_pool_that_was_never_heard_of_is_not_taken_for_empty():
    assert not Pool("m", "d1").deserted


def test_a_pool_is_deserted_when_its_last_worker_has_left():
    pool = Pool("m", "d1")
    pool.hear("w1", here())
    pool.hear("w2", here())
    pool.hear("w1", gone())
    assert not pool.deserted
    pool.hear("w2", gone())
    assert pool.deserted
    assert pool.absence() == "no worker is online"


def test_a_worker_is_there_from_its_birth_to_its_end_if_it_serves_this_bundle():
    pool = Pool("m", "d1")
    assert not pool.has("w1")
    pool.hear("w1", here())
    pool.hear("w2", here("d2"))
    assert pool.has("w1")
    assert not pool.has("w2")
    pool.hear("w1", gone())
    assert not pool.has("w1")


def test_an_old_will_does_not_desert_the_pool():
    pool = Pool("m", "d1")
    pool.hear("w1", here(birth=2))
    assert not pool.hear("w1", gone(birth=1))
    assert not pool.deserted


def test_a_lost_connection_forgets_who_was_there():
    pool = Pool("m", "d1")
    pool.hear("w1", here())
    pool.hear("w1", gone())
    assert pool.deserted
    pool.forget()
    assert not pool.deserted


def test_workers_of_another_bundle_alone_are_named_with_both_digests():
    pool = Pool("m", "d1")
    pool.hear("w1", here("d2"))
    assert pool.deserted
    assert "d1" in pool.absence()
    assert "d2" in pool.absence()
    pool.hear("w2", here("d1"))
    assert pool.absence() == ""


def test_a_worker_upgraded_in_place_is_ours_no_more():
    pool = Pool("m", "d1")
    pool.hear("w1", here("d1"))
    pool.hear("w1", here("d2", birth=2))
    assert pool.deserted


def test_pools_of_other_models_are_none_of_our_business():
    pool = Pool("m", "d1")
    pool.hear("w1", here("d2", bundle="other"))
    assert not pool.deserted


# --- reply times -----------------------------------------------------------------------------------


def test_nothing_known_means_the_longest_time():
    assert ReplyTime().resend_after_s(0.5) == 0.5


def test_steady_replies_shorten_the_time_to_a_floor():
    times = ReplyTime()
    for _ in range(60):
        times.observe(0.002)
    assert times.resend_after_s(0.5) == pytest.approx(0.05)


def test_a_link_that_became_slower_is_followed():
    times = ReplyTime()
    for _ in range(20):
        times.observe(0.01)
    for _ in range(20):
        times.observe(0.2)
    assert 0.2 < times.resend_after_s(1.0) < 0.5


def test_jumping_replies_are_given_more_time_than_their_mean():
    times = ReplyTime()
    for index in range(40):
        times.observe(0.05 if index % 2 else 0.15)
    assert times.mean_s == pytest.approx(0.1, abs=0.02)
    assert times.resend_after_s(10.0) > 0.2
