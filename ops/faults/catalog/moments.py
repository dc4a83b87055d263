"""Kills a worker at one exact stage of a step, seen from the wire and from Redis.

stage      how it is hit
--------   ---------------------------------------------------------------------------------------
received   the worker is frozen, the step reaches it, and it is killed before it can do anything
computed   its reply reaches the proxy and goes no further
logged     the same, and its rows have reached Redis
replied    its reply has passed the proxy
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from enum import Enum
from typing import Final

from ops.faults.proxy import Direction
from ops.faults.redis_admin import redis_command
from ops.faults.run import Run
from shared.errors import AntiphonError
from shared.wire.codec import decode_to_edge, decode_to_worker
from shared.wire.messages import Step, Tokens
from shared.wire.topics import SessionAddress, parse_reply, parse_steps

_LOG_TIMEOUT_S: Final = 0.5
_POLL_S: Final = 0.002
_RECORD_HEAD: Final = struct.Struct(">II")  # from_position, count
# From the proxy to the worker's socket, on one machine.
_ARRIVAL_S: Final = 0.02


class Stage(Enum):
    """How far a step came before its worker died."""

    RECEIVED = "received"
    COMPUTED = "computed"
    LOGGED = "logged"
    REPLIED = "replied"


async def killed_at(run: Run, stage: Stage) -> None:
    """Kill the serving worker when a step of any of its sessions has come to `stage`."""
    await run.reach()
    ambush = _Ambush(run, run.worker(), stage)
    run.rig.listen(ambush.worker, ambush.on_packet)
    await run.until(ambush.sprung)
    run.rig.listen(ambush.worker, None)


class _Ambush:
    """Waits at a worker's proxy for its next step or reply."""

    def __init__(self, run: Run, worker: str, stage: Stage) -> None:
        self.worker = worker
        self.sprung = asyncio.Event()
        self._rig = run.rig
        self._stage = stage
        self._met = False
        self._killing: asyncio.Task[None] | None = None

    async def on_packet(self, direction: Direction, topic: str, payload: bytes) -> None:
        """Called with each PUBLISH before it is passed on."""
        if self._met or not self._is_awaited(direction, topic, payload):
            return
        self._met = True
        match self._stage:
            case Stage.RECEIVED:
                self._rig.freeze(self.worker)
                self._kill_soon()
            case Stage.COMPUTED:
                await self._kill_and_swallow()
            case Stage.LOGGED:
                await self._until_logged(parse_reply(topic), payload)
                await self._kill_and_swallow()
            case Stage.REPLIED:
                self._kill_soon()

    def _is_awaited(self, direction: Direction, topic: str, payload: bytes) -> bool:
        try:
            if self._stage is Stage.RECEIVED:
                parse_steps(topic)
                step = decode_to_worker(payload) if direction is Direction.DOWN else None
                return isinstance(step, Step) and bool(step.wants)
            parse_reply(topic)
            return direction is Direction.UP and isinstance(decode_to_edge(payload), Tokens)
        except AntiphonError:
            return False

    async def _until_logged(self, address: SessionAddress, payload: bytes) -> None:
        """Until the reply's rows are in Redis; they are written behind it."""
        redis, reply = self._rig.redis, decode_to_edge(payload)
        if redis is None or not isinstance(reply, Tokens):
            return
        last = max(drawn.position for drawn in reply.tokens)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOG_TIMEOUT_S):
                while await self._logged_end(redis.port, address) <= last:  # noqa: ASYNC110  Redis' news
                    await asyncio.sleep(_POLL_S)

    async def _logged_end(self, port: int, address: SessionAddress) -> int:
        """The first position that Redis has no row of; the layout is `shared/context/redis.py`'s."""
        record = await redis_command(port, "LINDEX", f"antiphon:{{{'/'.join(address)}}}:log", -1)
        return sum(_RECORD_HEAD.unpack_from(record)) if isinstance(record, bytes) else 0

    async def _kill_and_swallow(self) -> None:
        """The reply that is being held does not pass: the connection ends before it could."""
        self._rig.kill(self.worker)
        self.sprung.set()
        await self._rig.proxies[self.worker].cut()

    def _kill_soon(self) -> None:
        self._killing = asyncio.get_running_loop().create_task(self._kill())

    async def _kill(self) -> None:
        await asyncio.sleep(_ARRIVAL_S)
        self._rig.kill(self.worker)
        self.sprung.set()
