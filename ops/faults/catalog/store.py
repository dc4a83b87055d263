"""What may happen to Redis. It costs nobody a token, so a worker dies too: its successor has to cope."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ops.faults.redis_admin import redis_command
from ops.faults.run import Fault, Run
from ops.faults.servers import RedisServer, find_binary, free_port
from shared.errors import ConfigError

Harm = Callable[[RedisServer], Awaitable[None]]
# Tokens between Redis' fault and the worker's death: time for a few writes to fail.
_TOKENS_LATER = 4


def _redis(run: Run) -> RedisServer:
    if run.rig.redis is None:
        raise ConfigError("this fault needs a rig with Redis")
    return run.rig.redis


async def _harmed(run: Run, harm: Harm, heal: Harm | None = None) -> None:
    """Harm Redis, kill the worker that serves some tokens later, and make Redis well again."""
    await run.reach()
    try:
        await harm(_redis(run))
        await run.reach(run.moment + _TOKENS_LATER)
        run.rig.kill(run.worker())
    finally:
        if heal is not None:
            await run.over()
            await heal(_redis(run))


async def _kill(redis: RedisServer) -> None:
    redis.kill()


async def _empty(redis: RedisServer) -> None:
    redis.kill()
    await asyncio.to_thread(redis.start)


async def _flush(redis: RedisServer) -> None:
    await redis_command(redis.port, "FLUSHALL")


async def _fill(redis: RedisServer) -> None:
    await redis_command(redis.port, "CONFIG", "SET", "maxmemory", 1)


async def _drain(redis: RedisServer) -> None:
    await redis_command(redis.port, "CONFIG", "SET", "maxmemory", 0)


async def _demote(redis: RedisServer) -> None:
    await redis_command(redis.port, "REPLICAOF", redis.host, free_port())


async def _promote(redis: RedisServer) -> None:
    await redis_command(redis.port, "REPLICAOF", "NO", "ONE")


async def _pause(redis: RedisServer) -> None:
    await redis_command(redis.port, "CLIENT", "PAUSE", 700, "ALL")


async def _freeze(redis: RedisServer) -> None:
    redis.freeze()


async def _thaw(redis: RedisServer) -> None:
    redis.unfreeze()


def _absent() -> str:
    return "" if find_binary("redis-server") else "redis-server is not installed"


def _fault(name: str, harm: Harm, heal: Harm | None = None, *, ends: bool = False) -> Fault:
    strike = partial(_harmed, harm=harm, heal=heal)
    return Fault(f"Redis {name}", "redis", strike, ends="redis" if ends else "", absent=_absent)


FAULTS = [
    _fault("killed", _kill, ends=True),
    _fault("restarted empty", _empty, ends=True),
    _fault("flushed", _flush),
    _fault("out of memory", _fill, _drain),
    _fault("read-only", _demote, _promote),
    _fault("slow", _pause),
    _fault("frozen", _freeze, _thaw),
]
