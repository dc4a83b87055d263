"""The edge's state machine for one session, without network or time."""

from __future__ import annotations

import pytest

from edge_agent.cloud_session import OUT_OF_TIME, CloudSession, Phase
from edge_agent.patience import Patience
from edge_agent.session_actions import Answered, Failed, SendOpen, SendStep
from edge_agent.states import StateLog
from edge_agent.want import Want
from shared.wire.messages import Busy, Close, DrawnToken, Opened, Refused, Resume, Sampling, Tokens

ROW_BYTES = 16
VOCAB = 100


def make_session(positions: int = 5, attempts: int = 2) -> CloudSession:
    states = StateLog(ROW_BYTES)
    states.append(b"".join(bytes([p]) * ROW_BYTES for p in range(positions)))
    return CloudSession("digest", VOCAB, "fp16", Sampling(), states, Patience(0.5, 1.0, attempts))


def opened(session: CloudSession, frontier: int = 0) -> list:
    return session.on_message(Opened(session.epoch, "w1", frontier), 0.1)


def reply(session: CloudSession, number: int, position: int) -> Tokens:
    return Tokens(session.epoch, number, [DrawnToken(position, 42, 0.5)], 100, 10, 1)


def test_an_ask_opens_then_sends_every_position_from_the_workers_frontier():
    session = make_session()
    (action,) = session.ask([Want(4)], 0.0)
    assert isinstance(action, SendOpen)
    assert action.message.epoch == 1
    (step,) = opened(session, frontier=2)
    assert isinstance(step, SendStep)
    assert (step.worker, step.message.from_position, step.message.count) == ("w1", 2, 3)
    assert step.message.wants == [4]
    assert step.message.states == session.states.rows(2, 5)


def test_the_reply_answers_the_ask_and_the_next_ask_sends_only_what_is_new():
    session = make_session()
    session.ask([Want(3)], 0.0)
    opened(session)
    (answer,) = session.on_message(reply(session, 1, 3), 0.2)
    assert isinstance(answer, Answered)
    assert answer.guess.token == 42
    (step,) = session.ask([Want(4)], 0.3)
    assert (step.message.from_position, step.message.count, step.message.number) == (4, 1, 2)


def test_a_silent_worker_is_sent_the_wanted_step_again_in_the_same_epoch_before_it_is_left():
    states = StateLog(4096)
    states.append(bytes(4096 * 20))
    session = CloudSession("digest", VOCAB, "fp16", Sampling(), states, Patience(0.5, 1.0, 2))
    session.ask([Want(19)], 0.0)
    sent = session.on_message(Opened(1, "w1", 0), 0.0)
    assert session.on_deadline(session.deadline_s - 0.01) == []
    assert session.on_deadline(session.deadline_s) == [sent[-1]]
    (answer,) = session.on_message(reply(session, sent[-1].message.number, 19), 0.9)
    assert isinstance(answer, Answered)
    assert session.epoch == 1


def test_a_missed_deadline_opens_with_the_next_epoch_and_the_late_reply_is_dropped():
    session = make_session()
    session.ask([Want(4)], 0.0)
    opened(session)
    late = reply(session, 1, 4)
    assert isinstance(session.on_deadline(session.deadline_s)[0], SendStep)
    (action,) = session.on_deadline(session.deadline_s)
    assert isinstance(action, SendOpen)
    assert action.message.epoch == 2
    assert session.on_message(late, 2.0) == []
    assert session.phase is Phase.OPENING


def test_attempts_are_bounded_and_the_edge_goes_on_alone():
    session = make_session(attempts=2)
    session.ask([Want(4)], 0.0)
    session.on_deadline(session.deadline_s)
    (failed,) = session.on_deadline(session.deadline_s)
    assert isinstance(failed, Failed)
    assert "no worker" in failed.reason
    assert session.deadline_s is None
    assert isinstance(session.ask([Want(4)], 9.0)[0], SendOpen)


def test_however_many_attempts_are_left_the_edge_waits_no_longer_than_its_deadline():
    session = make_session(attempts=1_000)
    session.ask([Want(4)], 0.0)
    now_s = 0.0
    for _ in range(1_000):
        now_s = session.deadline_s
        actions = session.on_deadline(now_s)
        if isinstance(actions[0], Failed):
            break
    assert actions == [Failed("the cloud did not answer within 3 s: no worker took the session in time")]
    assert now_s == pytest.approx(3.0, abs=0.1)


def test_an_ask_that_meets_an_open_under_way_is_bounded_too():
    session = make_session()
    session.patience = Patience(open_deadline_s=60.0, deadline_s=1.0)
    session.open(0.0)
    session.ask([Want(4)], 5.0)
    assert session.deadline_s == pytest.approx(6.0, abs=0.1)
    assert isinstance(session.on_deadline(session.deadline_s)[0], Failed)


def test_an_answer_whose_own_time_is_over_says_so_and_nothing_of_the_link():
    session = make_session()
    session.ask([Want(3)], 0.0, until_s=0.25)
    opened(session)
    session.on_message(reply(session, 1, 3), 0.2)
    session.ask([Want(4)], 0.2, until_s=0.25)
    assert session.deadline_s == 0.25
    assert session.on_deadline(0.25) == [Failed(OUT_OF_TIME, late=True)]
    assert session.phase is Phase.CLOSED


@pytest.mark.parametrize("taken", [True, False], ids=["worker", "pool"])
def test_a_cloud_that_was_silent_before_the_answers_time_was_over_is_to_blame(taken: bool):
    """Otherwise an edge whose answers have less time than its patience would never find out."""
    session = make_session(attempts=9)
    session.ask([Want(4)], 0.0, until_s=1.5)
    if taken:
        opened(session)
    while not (actions := session.on_deadline(session.deadline_s)) or not isinstance(actions[0], Failed):
        assert session.deadline_s <= 1.5
    assert actions == [Failed(OUT_OF_TIME, late=False)]


def test_an_answer_with_more_time_than_the_edge_has_patience_fails_by_the_patience():
    session = make_session(attempts=1_000)
    session.ask([Want(4)], 0.0, until_s=9.0)
    while not isinstance((actions := session.on_deadline(session.deadline_s))[0], Failed):
        pass
    assert actions == [Failed("the cloud did not answer within 3 s: no worker took the session in time")]


def out_of_time(session: CloudSession) -> None:
    session.on_deadline(2.0)


def out_of_patience(session: CloudSession) -> None:
    session.on_deadline(3.5)


def cut_off(session: CloudSession) -> None:
    session.on_link_lost("away")


def looking_for_another(session: CloudSession) -> None:
    session.on_message(Refused(1, "draining", "elsewhere", retryable=True), 1.0)


def at_rest(session: CloudSession) -> None:
    session.on_message(reply(session, 1, 4), 1.0)


@pytest.mark.parametrize("end", [out_of_time, out_of_patience, cut_off, looking_for_another, at_rest])
def test_the_last_worker_is_told_that_the_session_is_over_also_if_it_was_given_up(end):
    """It may be slow, not dead: it kept the session's seat and cache until their time to live."""
    session = make_session()
    session.ask([Want(4)], 0.0, until_s=2.0)
    opened(session)
    end(session)
    assert session.close() == Close(session.epoch)
    assert session.worker == "w1"
    assert session.deadline_s is None


def test_a_session_that_never_had_a_worker_has_nobody_to_tell():
    session = make_session()
    assert session.close() is None
    session.ask([Want(4)], 0.0)
    assert session.close() is None


def test_the_time_to_send_again_follows_the_links_reply_times():
    session = make_session()
    session.ask([Want(3)], 0.0)
    opened(session)
    for number in range(1, 40):
        session.on_message(reply(session, number, 3), number - 1 + (0.12 if number == 1 else 0.02))
        session.ask([Want(3)], float(number))
    assert session.deadline_s - 39.0 == pytest.approx(0.05, abs=0.02)


def test_a_step_over_which_two_workers_died_gets_no_third():
    session = make_session(attempts=9)
    session.ask([Want(4)], 0.0)
    opened(session)
    assert isinstance(session.on_worker_gone("w1", 0.2, lost=True)[0], SendOpen)
    opened(session)
    (failed,) = session.on_worker_gone("w1", 0.3, lost=True)
    assert "2 workers died" in failed.reason
    assert session.phase is Phase.REFUSED


def test_workers_that_leave_by_themselves_are_no_deaths():
    session = make_session(attempts=9)
    session.ask([Want(4)], 0.0)
    for _ in range(4):
        opened(session)
        assert isinstance(session.on_worker_gone("w1", 0.2)[0], SendOpen)


def test_a_gap_is_filled_from_where_the_worker_is():
    session = make_session()
    session.ask([Want(4)], 0.0)
    opened(session, frontier=4)
    (step,) = session.on_message(Resume(1, 1, 1), 0.2)
    assert (step.message.from_position, step.message.count, step.message.number) == (1, 4, 2)


def test_a_worker_that_never_catches_up_is_left():
    session = make_session()
    session.ask([Want(4)], 0.0)
    actions = opened(session)
    for _ in range(10):
        actions = session.on_message(Resume(session.epoch, actions[-1].message.number, 0), 0.2)
        if isinstance(actions[0], SendOpen):
            break
    assert isinstance(actions[0], SendOpen)


def test_a_dead_worker_is_replaced_at_once():
    session = make_session()
    session.ask([Want(4)], 0.0)
    opened(session)
    assert session.on_worker_gone("another", 0.2) == []
    (action,) = session.on_worker_gone("w1", 0.2)
    assert isinstance(action, SendOpen)


def test_a_final_refusal_ends_the_session_with_its_reason():
    session = make_session()
    session.ask([Want(4)], 0.0)
    (failed,) = session.on_message(Refused(1, "bundle_mismatch", "not my bundle", retryable=False), 0.1)
    assert failed == Failed("not my bundle")
    assert session.ask([Want(4)], 0.2) == [Failed("not my bundle")]


def test_a_busy_pool_is_asked_again_after_the_time_it_names():
    session = make_session()
    session.ask([Want(4)], 0.0)
    assert session.on_message(Busy(1, 0.2), 1.0) == []
    assert session.deadline_s == pytest.approx(1.2)
    assert isinstance(session.on_deadline(1.2)[0], SendOpen)


def test_a_lost_link_fails_the_ask_at_once_and_the_next_ask_opens_anew():
    session = make_session()
    session.ask([Want(4)], 0.0)
    opened(session)
    assert session.on_link_lost("away") == [Failed("away")]
    (action,) = session.ask([Want(4)], 5.0)
    assert action.message.epoch == 2


def test_duplicates_of_every_reply_change_nothing():
    session = make_session()
    session.ask([Want(4)], 0.0)
    opened(session)
    answer = reply(session, 1, 4)
    session.on_message(answer, 0.2)
    assert session.on_message(answer, 0.3) == []
    assert opened(session) == []
    assert session.on_message(Resume(1, 1, 0), 0.4) == []
    assert session.phase is Phase.OPEN


def test_a_long_prompt_goes_up_in_chunks_of_at_most_64_kib():
    states = StateLog(4096)
    states.append(bytes(4096 * 40))
    session = CloudSession("digest", VOCAB, "fp16", Sampling(), states)
    session.ask([Want(39)], 0.0)
    steps = session.on_message(Opened(1, "w1", 0), 0.1)
    assert [step.message.count for step in steps] == [16, 16, 8]
    assert [step.message.wants for step in steps] == [[], [], [39]]
    assert all(len(step.message.states) <= 64 * 1024 for step in steps)


def test_every_chunk_behind_a_lost_one_names_the_gap_and_it_is_filled_once():
    states = StateLog(4096)
    states.append(bytes(4096 * 208))
    session = CloudSession("digest", VOCAB, "fp16", Sampling(), states)
    session.ask([Want(207)], 0.0)
    sent = session.on_message(Opened(1, "w1", 0), 0.1)
    assert len(sent) == 13
    again = session.on_message(Resume(1, sent[3].message.number, 32), 0.2)
    assert again[0].message.from_position == 32
    for late in sent[4:]:
        assert session.on_message(Resume(1, late.message.number, 32), 0.3) == []
    assert session.rows_sent == 208 + 176
    assert session.phase is Phase.ASKING


def test_a_token_that_the_model_does_not_have_is_a_broken_worker():
    session = make_session()
    session.ask([Want(4)], 0.0)
    opened(session)
    (action,) = session.on_message(Tokens(1, 1, [DrawnToken(4, VOCAB, 0.5)]), 0.2)
    assert isinstance(action, SendOpen)
    assert action.message.epoch == 2


def test_a_busy_pool_costs_no_attempt_while_an_open_may_take():
    session = make_session(attempts=2)
    session.ask([Want(4)], 0.0)
    for now_s in (0.1, 0.2, 0.3, 0.4):
        session.on_message(Busy(session.epoch, 0.05), now_s)
        (action,) = session.on_deadline(now_s + 0.05)
        assert isinstance(action, SendOpen)
    session.on_message(Busy(session.epoch, 0.05), 0.6)
    assert isinstance(session.on_deadline(0.7)[0], SendOpen)
    session.on_message(Busy(session.epoch, 0.05), 0.75)
    assert isinstance(session.on_deadline(0.9)[0], Failed)


def test_a_worker_that_took_the_session_in_vain_is_told_from_the_one_that_serves_it():
    session = make_session()
    session.open(0.0)
    assert not session.is_in_vain(Opened(1, "w2", 0))  # the first that answers is the one
    opened(session)
    assert not session.is_in_vain(Opened(1, "w1", 0))
    assert session.is_in_vain(Opened(1, "w2", 0))
    session.ask([Want(4)], 0.2)
    assert session.is_in_vain(Opened(1, "w2", 0))
    session.on_worker_gone("w1", 0.3)
    assert session.is_in_vain(Opened(1, "w1", 0))  # of the epoch before
    assert not session.is_in_vain(Opened(2, "w1", 0))
    session.on_link_lost("gone")
    assert session.is_in_vain(Opened(2, "w1", 0))  # nobody waits for a worker any more
    assert not session.is_in_vain(Opened(3, "w1", 0))  # which this edge never said
