"""Levels of load, one after the other: what a pool gets through and how long a step takes in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles

import msgspec

from ops.bench.memory import memory_of
from ops.bench.worker.plan import Plan
from ops.bench.worker.pool import Pool, pool_of
from ops.bench.worker.stepper import Stepper
from shared.model.bundle import Bundle

Say = Callable[[str], None]

_MS_PER_S = 1e3
_PERCENT = 100


class Level(msgspec.Struct, frozen=True):
    """So many sessions that step without a pause.

    Attributes:
        way: how the workers ran, in words.
        tokens_per_s: of all sessions together.
        p50_ms, p99_ms: of a step, as the edge sees it.
        steps: that were measured.
    """

    way: str
    sessions: int
    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    steps: int


class Prefill(msgspec.Struct, frozen=True):
    """Sessions that step while a long prompt is read.

    Attributes:
        without, beside: the stepping sessions, before and meanwhile.
        tokens: of the prompt. seconds: that it took.
    """

    without: Level
    beside: Level
    tokens: int
    seconds: float


class Drawn(msgspec.Struct):
    """The tokens that were drawn at each session's positions, whoever it shared a forward with.

    Attributes:
        compared: tokens that were drawn before. different: those of them that were others then.
    """

    tokens: dict[tuple[int, int], int] = msgspec.field(default_factory=dict)
    compared: int = 0
    different: int = 0

    def note(self, session: int, tokens: dict[int, int]) -> None:
        """Compare with what was drawn before, and keep what is new."""
        for position, token in tokens.items():
            known = self.tokens.setdefault((session, position), token)
            self.compared += 1
            self.different += known != token


async def measure_levels(pool: Pool, plan: Plan, way: str, drawn: Drawn, say: Say) -> list[Level]:
    """Each of the plan's levels."""
    levels = []
    for sessions in plan.sessions:
        say(f"{way}: {sessions} sessions …")
        async with pool.steppers(sessions, plan.prompt_tokens) as steppers:
            levels.append(await _level(steppers, plan, way))
        for number, stepper in enumerate(steppers):
            drawn.note(number, stepper.seen.tokens)
    return levels


async def measure_prefill(pool: Pool, plan: Plan) -> Prefill:
    """Sessions that step, first alone, then beside a session whose long prompt is read."""
    async with pool.steppers(plan.beside + 1, plan.prompt_tokens) as steppers:
        *stepping, reading = steppers
        without = await _level(stepping, plan, "no prompt")
        began_s = time.monotonic()
        ended = asyncio.Event()
        tasks = [asyncio.ensure_future(_step_until(each, ended)) for each in stepping]
        try:
            await reading.prefill(plan.long_prompt_tokens)
        finally:
            ended.set()
            await asyncio.gather(*tasks)
        seconds = time.monotonic() - began_s
    beside = _level_of(stepping, f"beside {plan.long_prompt_tokens} tokens", began_s, began_s + seconds)
    return Prefill(without, beside, plan.long_prompt_tokens, seconds)


class SessionMemory(msgspec.Struct, frozen=True):
    """What a session costs a worker.

    Attributes:
        sessions: that were opened. tokens: of context of each.
        kv_bytes: of its cache, room not yet used included.
        process_bytes: by which the process has grown.
    """

    sessions: int
    tokens: int
    kv_bytes: int
    process_bytes: float


async def measure_memory(pool: Pool, plan: Plan, kv_bytes: int) -> SessionMemory:
    """Open the largest level's sessions with as much context as the first room of a cache holds."""
    before = sum(memory_of(pid).private for pid in pool.pids)
    async with pool.steppers(plan.most_sessions, plan.prompt_tokens) as steppers:
        after = sum(memory_of(pid).private for pid in pool.pids)
    grown = (after - before) * (1 << 20) / len(steppers)
    return SessionMemory(len(steppers), plan.prompt_tokens, kv_bytes, grown)


async def _level(steppers: Sequence[Stepper], plan: Plan, way: str) -> Level:
    ended = asyncio.Event()
    tasks = [asyncio.ensure_future(_step_until(stepper, ended)) for stepper in steppers]
    await asyncio.sleep(plan.warm_up_s)
    began_s = time.monotonic()
    await asyncio.sleep(plan.seconds)
    ended_s = time.monotonic()
    ended.set()
    await asyncio.gather(*tasks)
    return _level_of(steppers, way, began_s, ended_s)


async def _step_until(stepper: Stepper, ended: asyncio.Event) -> None:
    while not ended.is_set():
        await stepper.step()


def _level_of(steppers: Sequence[Stepper], way: str, began_s: float, ended_s: float) -> Level:
    """What was answered between two times."""
    times_s = sorted(
        took_s for stepper in steppers for at_s, took_s in stepper.seen.times_s if began_s <= at_s <= ended_s
    )
    # A step longer than the level leaves nothing to count: the level says so, and nobody divides by it.
    marks_s = quantiles(times_s, n=_PERCENT, method="inclusive") if len(times_s) > 1 else [0.0] * 99
    return Level(
        way,
        len(steppers),
        len(times_s) / (ended_s - began_s),
        marks_s[49] * _MS_PER_S,
        marks_s[98] * _MS_PER_S,
        len(times_s),
    )


class Measured(msgspec.Struct, frozen=True):
    """A whole run."""

    levels: list[Level]
    prefill: Prefill
    memory: SessionMemory
    drawn: Drawn


async def measure(
    folder: Path, bundle: Bundle, plan: Plan, kv_bytes: int, say: Say, *, embedded: bool
) -> Measured:
    """Packed, one by one, and with two workers."""
    drawn = Drawn()
    async with pool_of(folder / "packed", bundle, embedded=embedded) as pool:
        memory = await measure_memory(pool, plan, kv_bytes)
        levels = await measure_levels(pool, plan, "packed", drawn, say)
        say(f"{plan.beside} sessions beside a prompt of {plan.long_prompt_tokens} tokens …")
        prefill = await measure_prefill(pool, plan)
    async with pool_of(folder / "apart", bundle, packed=False, embedded=embedded) as pool:
        levels += await measure_levels(pool, plan, "one by one", drawn, say)
    async with pool_of(folder / "two", bundle, workers=2, embedded=embedded) as pool:
        levels += await measure_levels(pool, plan, "packed, 2 workers", drawn, say)
    return Measured(levels, prefill, memory, drawn)
