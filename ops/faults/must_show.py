"""Promises that are measured apart: a broker that goes, a worker that dies, a pool that restarts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import msgspec

from ops.faults.bench import FaultBench
from ops.faults.heard import Heard
from ops.faults.questions import question
from ops.faults.rig import Plan, Rig
from ops.faults.run import ANSWER_TIMEOUT_S, Fault, Run, ask, carry_out, now_s
from ops.quality.range import Range

_TOKENS: Final = 120
_AWAY_S: Final = 0.5
_WORKERS: Final = 4
_SESSIONS: Final = 16
_ROLLING_TOKENS: Final = 60
_ROLLING_TIMEOUT_S: Final = 2 * ANSWER_TIMEOUT_S  # the edge works on half of them at a time

_GONE = Fault("broker gone", "must show", may_degrade=True, deaf=True, tokens=_TOKENS)
_KILLED = Fault("worker killed", "must show", tokens=_TOKENS)
_ROLLING = Fault("rolling restart", "must show", plan=Plan(workers=_WORKERS))


async def broker_gone(bench: FaultBench, runs: int) -> dict[str, Any]:
    """The broker dies in mid-answer, and comes back: when is there the next token, when the cloud's help?"""
    waits: list[float] = []
    backs: list[float] = []
    wrong = 0
    async with bench.rig(_GONE) as rig:
        for seed in range(runs):
            run, died_s = await _struck(bench, rig, _GONE, seed, _broker_dies)
            waits += _waits_after(run.heard[0], died_s)
            wrong += await _wrong(bench, run.heard)
            back_s = now_s()
            await asyncio.to_thread(rig.broker.start)
            await rig.until_collaborating()
            backs.append(now_s() - back_s)
        deadline_s = rig.plan.deadline_s
    return {
        "runs": runs,
        "mismatches": wrong,
        "deadline_s": deadline_s,
        "struck": len(waits),
        "next_token_s": _range(waits),
        "next_token_over_deadline": max(waits, default=0.0) / deadline_s,
        "collaborating_again_s": _range(backs),
    }


async def worker_killed(bench: FaultBench, runs: int) -> dict[str, Any]:
    """The serving worker dies in mid-answer: how much longer is the wait, and is the text the same?"""
    waits: list[float] = []
    usual: list[float] = []
    wrong = 0
    async with bench.rig(_KILLED) as rig:
        for seed in range(runs):
            run, died_s = await _struck(bench, rig, _KILLED, seed, _worker_dies)
            heard = run.heard[0]
            waits += _waits_after(heard, died_s)
            usual += [later - earlier for earlier, later in pairwise(heard.at_s) if later < died_s]
            wrong += await _wrong(bench, run.heard)
            wrong += sum(1 for heard in run.heard if heard.answer is None or heard.answer["degraded"])
        deadline_s = rig.plan.deadline_s
    return {
        "runs": runs,
        "mismatches": wrong,
        "deadline_s": deadline_s,
        "struck": len(waits),
        "usual_wait_s": _range(usual),
        "wait_s": _range(waits),
        "wait_over_deadline": max(waits, default=0.0) / deadline_s,
    }


async def rolling_restart(bench: FaultBench, rounds: int) -> dict[str, Any]:
    """Every worker is told to stop and started again, one after the other, while sessions go on and on."""
    heard: list[Heard] = []
    async with bench.rig(_ROLLING) as rig:
        for _ in range(rounds):
            await rig.mend()
            over = asyncio.Event()
            asking = [asyncio.ensure_future(_go_on(rig, place, heard, over)) for place in range(_SESSIONS)]
            for worker in rig.workers:
                await rig.leave(worker)
                rig.stack.start(worker)
                await rig.until_present()
            over.set()
            await asyncio.gather(*asking)
    return {
        "rounds": rounds,
        "workers": _WORKERS,
        "sessions": _SESSIONS,
        "answers": len(heard),
        "failures": len(failed := list(filter(None, map(_failure, heard)))),
        "reasons": sorted(set(failed)),
        "mismatches": await _wrong(bench, heard),
    }


async def _rolling_restarts(bench: FaultBench, runs: int) -> dict[str, Any]:
    """As many rounds as take about as long as the runs of the others."""
    return await rolling_restart(bench, max(1, runs // 5))


PROMISES: Final[dict[str, Callable[[FaultBench, int], Awaitable[dict[str, Any]]]]] = {
    "broker_gone": broker_gone,
    "worker_killed": worker_killed,
    "rolling_restart": _rolling_restarts,
}
"""By name; each takes the bench and its number of runs."""


async def _go_on(rig: Rig, place: int, heard: list[Heard], over: asyncio.Event) -> None:
    """Ask one question after the other until it is over."""
    number = place
    while not over.is_set():
        each = Heard(question(number, _ROLLING_TOKENS), "wire")
        heard.append(each)
        await ask(rig, each, lambda: None, _ROLLING_TIMEOUT_S)
        number += _SESSIONS


async def _struck(
    bench: FaultBench, rig: Rig, fault: Fault, seed: int, harm: Callable[[Run], Awaitable[None]]
) -> tuple[Run, float]:
    """One answer over the wire with harm in its midst; and when that was: never, if it came too late."""
    died_s = math.inf

    async def strike(run: Run) -> None:
        nonlocal died_s
        await run.reach()
        died_s = now_s()
        await harm(run)

    await rig.mend()
    run = await bench.new_run(rig, replace(fault, deaf=True), seed, 1)  # deaf: the wire alone tells times
    await carry_out(run, replace(fault, strike=strike))
    return run, died_s if run.struck else math.inf


async def _broker_dies(run: Run) -> None:
    run.rig.broker.kill()


async def _worker_dies(run: Run) -> None:
    run.rig.kill(run.worker())


async def _wrong(bench: FaultBench, heard: Sequence[Heard]) -> int:
    """How many answers are not what they have to be."""
    wrong = 0
    for each in heard:
        if each.answer is not None:
            wrong += bool(await bench.oracle.differs(each.request, each.answer))
    return wrong


def _failure(heard: Heard) -> str:
    """Why there is no answer, or one that is degraded; empty when neither."""
    if heard.answer is None:
        return heard.failure or "no answer"
    return f"degraded: {heard.answer['note']}" if heard.answer["degraded"] else ""


def _waits_after(heard: Heard, died_s: float) -> list[float]:
    """The longest wait for a token from the harm on; none if no token came after it."""
    waits = [later - max(earlier, died_s) for earlier, later in pairwise(heard.at_s) if later > died_s]
    return [max(waits)] if waits else []


def _range(values: Sequence[float]) -> dict[str, float] | None:
    """None of none."""
    if not values:
        return None
    figures: dict[str, float] = msgspec.to_builtins(Range.of([round(value, 4) for value in values]))
    return figures
