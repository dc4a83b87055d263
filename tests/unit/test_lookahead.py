"""When the edge drafts on: what a draft may gain against what it may cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.agreement import Agreement
from edge_agent.eager import AskingShare
from edge_agent.lookahead import DraftTime, Lookahead
from edge_agent.reply_time import ReplyTime

shares = st.floats(0.0, 1.0)


def window(reply_s: float, draft_s: float, chain: float, *, limit: int = 64) -> int:
    """Drafts that fit behind one question, if each of them is sure."""
    lookahead = Lookahead(limit, ReplyTime(reply_s), draft_time=DraftTime(draft_s))
    drafted = 0
    while lookahead.may_draft(drafted, chain, drafted * draft_s):
        drafted += 1
    return drafted


def test_the_window_grows_with_the_delay():
    windows = [window(reply_s, 0.010, 0.6) for reply_s in (0.001, 0.02, 0.1, 0.3)]
    assert windows == sorted(windows)
    assert windows[0] == 0
    assert windows[-1] >= 30


def test_without_lookahead_nothing_is_drafted():
    assert window(1.0, 0.001, 1.0, limit=0) == 0


def test_the_limit_bounds_the_window():
    assert window(10.0, 0.001, 1.0, limit=5) == 5


def test_a_chain_that_will_hardly_hold_is_not_drafted_on():
    assert window(1.0, 0.001, 0.1) == 0


@given(st.floats(0.0, 1.0), st.floats(1e-4, 1.0), st.floats(1e-4, 1.0))
def test_a_draft_never_costs_more_than_it_gains_as_far_as_can_be_foreseen(chain, reply_s, draft_s):
    lookahead = Lookahead(8, ReplyTime(reply_s), draft_time=DraftTime(draft_s))
    if lookahead.may_draft(0, chain, 0.0):
        gain_s = chain * min(draft_s, reply_s)
        cost_s = (1 - chain) * max(0.0, draft_s - reply_s)
        assert gain_s >= cost_s


def test_before_the_first_answer_the_delay_is_unknown_and_drafting_costs_nothing_else():
    assert Lookahead(4).may_draft(0, 0.5, 0.0)


def test_agreement_follows_what_the_cloud_says_for_sure_and_unsure_guesses_apart():
    agreement = Agreement()
    for _ in range(200):
        agreement.observe(True, sure=False)
        agreement.observe(False, sure=True)
    assert agreement.share(sure=False) > 0.9
    assert agreement.share(sure=True) < 0.1


@given(st.lists(st.booleans(), max_size=300))
def test_agreement_stays_a_share(answers):
    agreement = Agreement()
    for agreed in answers:
        agreement.observe(agreed, sure=False)
    assert 0.0 <= agreement.share(sure=False) <= 1.0


def test_states_go_up_early_where_answers_have_asked_of_late():
    asking = AskingShare()
    for _ in range(20):
        asking.observe(False)
    assert not asking.is_eager(certain=False)
    assert asking.is_eager(certain=True)
    for _ in range(20):
        asking.observe(True)
    assert asking.is_eager(certain=False)


def test_the_setting_overrides_what_was_learnt():
    assert not AskingShare("lazy", 1.0).is_eager(certain=True)
    assert AskingShare("eager", 0.0).is_eager(certain=False)
