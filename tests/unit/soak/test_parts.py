"""The soak's parts without an installation: which faults, what they excuse, what memory did, the verdict."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random
from typing import Any

import msgspec
import pytest

from edge_agent.request import Request, TokenEvent
from ops.faults.heard import Heard
from ops.faults.rig import Plan
from ops.faults.run import Fault, Run
from ops.soak.deck import deal, faults_for, lasting
from ops.soak.memory import LEAST_SPAN_S, MemoryLog, Trend, resident_mib
from ops.soak.report import WRONG, reasons_to_fail, summary_of
from ops.soak.spells import Allowance, Spells
from ops.soak.storm import Strikes
from ops.soak.tally import Tally
from shared.errors import ConfigError

CALM = Allowance(may_degrade=False, deaf=False, begins_anew=False)
LIMIT_MIB_PER_H = 24.0


def fault(name: str = "fault", **fields: Any) -> Fault:
    return Fault(name, "test", **fields)


# --- the deck -----------------------------------------------------------------------------------


def test_every_fault_comes_before_any_comes_again() -> None:
    faults = [fault(str(number)) for number in range(7)]
    dealt = [each.name for each in islice(deal(faults, Random(1)), 21)]
    assert set(Counter(dealt).values()) == {3}
    assert set(dealt[:7]) == set(dealt[7:14])
    assert dealt[:7] != dealt[7:14]


def test_the_same_seed_deals_the_same_faults() -> None:
    faults = [fault(str(number)) for number in range(7)]
    one, other = (list(islice(deal(faults, Random(3)), 20)) for _ in range(2))
    assert one == other


def test_a_soak_has_only_faults_that_its_installation_can_bear() -> None:
    names = {each.name for each in faults_for(Plan(workers=2))}
    assert "worker and its successor killed" not in names
    assert {each.name for each in faults_for(Plan(workers=3))} >= names | {"worker and its successor killed"}


def test_a_soak_without_any_fault_is_refused() -> None:
    with pytest.raises(ConfigError, match="can strike a soak"):
        faults_for(Plan(workers=1), ["worker and its successor killed"])


def test_faults_that_last_leave_broker_redis_and_edge_their_processes() -> None:
    possible = faults_for(Plan(workers=3))
    ending = {each.name for each in possible} - {each.name for each in lasting(possible)}
    assert ending >= {"broker killed", "broker restarted", "edge killed"}
    assert not ending & {"worker killed", "broker frozen", "edge frozen, then resumed"}


def test_where_every_fault_ends_a_process_all_of_them_stay() -> None:
    faults = [fault(ends="edge")]
    assert lasting(faults) == faults


class Installation:
    """Three workers, one of which is spared."""

    spared = "worker-1"
    mortals = ("worker-2", "worker-3")


@pytest.mark.parametrize(
    ("serving", "struck"),
    [("worker-1", Installation.mortals), ("worker-3", ("worker-3",))],
    ids=["spared", "not spared"],
)
def test_a_fault_strikes_the_serving_worker_or_another_where_that_is_spared(
    serving: str, struck: tuple[str, ...]
) -> None:
    rig: Any = Installation()
    answering = Heard(Request("w5", id="a"), "wire")
    answering.hear(TokenEvent("a", 0, "w", "cloud", 0.5, False, serving), 0.0)
    run = Run(rig, Random(1), [answering], tokens=8)
    assert {run.worker() for _ in range(50)} == set(struck)


# --- what faults excuse -------------------------------------------------------------------------


def test_an_answer_is_excused_by_every_fault_of_its_time_and_by_no_other() -> None:
    spells = Spells()
    spells.begin(fault(may_degrade=True), 10.0).end_s = 20.0
    spells.begin(fault(deaf=True), 30.0).end_s = 40.0
    assert spells.allowance(0.0, 9.0) == CALM
    assert spells.allowance(21.0, 29.0) == CALM
    assert spells.allowance(19.0, 25.0) == Allowance(may_degrade=True, deaf=False, begins_anew=False)
    assert spells.allowance(15.0, 35.0) == Allowance(may_degrade=True, deaf=True, begins_anew=False)


def test_a_fault_that_is_not_mended_yet_excuses_too() -> None:
    spells = Spells()
    spells.begin(fault(ends="edge"), 10.0)
    assert spells.allowance(100.0, 101.0).begins_anew


# --- judging ------------------------------------------------------------------------------------


class TrustingOracle:
    """Calls every text right but this one."""

    async def differs(self, _request: Request, answer: dict[str, Any]) -> str:
        return "it is wrong" if answer["output"] == "wrong" else ""


@pytest.fixture
def tally() -> Tally:
    oracle: Any = TrustingOracle()
    return Tally(oracle)


def heard(
    tokens: int = 3, *, degraded: bool = False, output: str = "right", events: int | None = None
) -> Heard:
    made = Heard(Request("w5", id="a"), "wire")
    for index in range(tokens if events is None else events):
        made.hear(TokenEvent("a", index, "w", "cloud", 0.5, degraded, ""), float(index))
    token = {"text": "w", "rung": "cloud", "degraded": degraded}
    made.take({"tokens": [token] * tokens, "degraded": degraded, "note": "gone", "output": output})
    return made


async def test_a_right_answer_is_counted_and_nothing_else(tally: Tally) -> None:
    await tally.judge(heard(), CALM, "greedy", "device")
    assert tally.count["answers"] == 1
    assert tally.count["tokens"] == 3
    assert not any(tally.count[figure] for figure in WRONG)
    assert tally.kinds == {"greedy": 1}


@pytest.mark.parametrize(
    ("what", "figure", "count"),
    [
        (heard(output="wrong"), "mismatches", 1),
        (heard(events=1), "lost_or_doubled", 2),
        (heard(degraded=True), "failed_answers", 1),
        (Heard(Request("w5"), "wire", failure="no answer within 60 s"), "failed_answers", 1),
    ],
    ids=["wrong", "lost", "degraded", "none"],
)
async def test_what_is_wrong_is_counted_and_told(tally: Tally, what: Heard, figure: str, count: int) -> None:
    await tally.judge(what, CALM, "greedy", "device 4")
    assert {name: tally.count[name] for name in WRONG if tally.count[name]} == {figure: count}
    assert "device 4" in tally.errors[0]


async def test_a_degraded_answer_is_right_while_the_edge_may_have_been_alone(tally: Tally) -> None:
    allowance = Allowance(may_degrade=True, deaf=False, begins_anew=False)
    await tally.judge(heard(degraded=True), allowance, "greedy", "device")
    assert tally.count["degraded_answers"] == 1
    assert tally.count["degraded_tokens"] == 3
    assert not any(tally.count[figure] for figure in WRONG)


async def test_a_second_answer_that_differs_is_counted_once(tally: Tally) -> None:
    doubled = heard()
    doubled.take({"tokens": []})
    await tally.judge(doubled, CALM, "greedy", "device")
    tally.lose(len(doubled.others), "device")
    assert tally.count["lost_or_doubled"] == 1


# --- memory -------------------------------------------------------------------------------------


def logged(mib_per_h: float, span_s: float = 2 * LEAST_SPAN_S, warm_up_s: float = 60.0) -> list[Trend]:
    log, rng = MemoryLog(warm_up_s), Random(1)
    for number in range(int(span_s / 5)):
        at_s = number * 5.0
        warming_mib = max(0.0, warm_up_s - at_s)
        for pid, name in enumerate(("edge", "worker-1", "worker-2")):
            mib = 100.0 + at_s * mib_per_h / 3600 - warming_mib + rng.gauss(0.0, 0.1)
            log.note((name, pid), at_s, mib)
    return log.trends()


def test_workers_are_one_role_and_their_warm_up_is_not_growth() -> None:
    edge, worker = logged(0.0)
    assert (edge.role, edge.processes, worker.role, worker.processes) == ("edge", 1, "worker", 2)
    assert worker.judged
    assert worker.low is not None
    assert worker.high is not None
    assert worker.low <= 0.0 <= worker.high


def test_what_was_watched_for_too_short_a_time_is_not_judged() -> None:
    assert not any(trend.judged for trend in logged(1000.0, span_s=120.0))


def test_a_process_has_memory_until_it_is_gone() -> None:
    import os

    assert resident_mib(os.getpid()) > 1.0
    assert resident_mib(2**30) == 0.0


# --- the verdict --------------------------------------------------------------------------------


STRUCK = {"broker killed": Strikes(struck=1)}


async def test_a_soak_without_fault_of_ours_passes(tally: Tally) -> None:
    await tally.judge(heard(), CALM, "greedy", "device")
    assert reasons_to_fail(tally, STRUCK, logged(0.0), LIMIT_MIB_PER_H) == []


@pytest.mark.parametrize("figure", WRONG)
async def test_a_soak_with_anything_wrong_fails(tally: Tally, figure: str) -> None:
    await tally.judge(heard(), CALM, "greedy", "device")
    tally.count[figure] = 2
    assert reasons_to_fail(tally, STRUCK, [], LIMIT_MIB_PER_H) == [f"2 {figure.replace('_', ' ')}"]


async def test_a_soak_whose_memory_grows_fails_and_names_the_role(tally: Tally) -> None:
    await tally.judge(heard(), CALM, "greedy", "device")
    reasons = reasons_to_fail(tally, STRUCK, logged(60.0), LIMIT_MIB_PER_H)
    assert [reason.split()[0] for reason in reasons] == ["edge", "worker"]


def test_the_steepest_slope_is_told_in_the_unit_of_a_minute(tally: Tally) -> None:
    summary = summary_of(tally, STRUCK, logged(60.0))
    steepest = max(value for name, value in summary.items() if name.endswith("_mib_per_h"))
    assert summary["max_rss_slope_kib_per_min"] == pytest.approx(steepest * 1024 / 60, abs=0.2)
    assert steepest == pytest.approx(60.0, abs=5.0)


async def test_a_soak_in_which_nothing_happened_fails(tally: Tally) -> None:
    assert reasons_to_fail(tally, {"late": Strikes(late=1)}, [], LIMIT_MIB_PER_H) == [
        "nothing was answered",
        "no fault struck",
    ]


def test_the_summary_is_flat_and_says_nothing_of_slopes_that_are_not_known(tally: Tally) -> None:
    summary = summary_of(tally, STRUCK, logged(0.0, span_s=120.0))
    assert all(isinstance(value, float) for value in summary.values())
    assert "worker_peak_mib" in summary
    assert "worker_mib_per_h" not in summary
    assert "max_rss_slope_kib_per_min" not in summary
    assert "worker_mib_per_h" in summary_of(tally, STRUCK, logged(0.0))
    assert msgspec.json.decode(msgspec.json.encode(summary)) == summary
