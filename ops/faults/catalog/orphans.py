"""Does what a dead edge left in the cloud go by itself?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from broker.connect import transport_for
from broker.group_reader import GroupReader
from broker.transport import Incoming
from cloud_worker.worker import SWEEP_INTERVAL_S
from ops.faults.redis_admin import redis_command
from ops.faults.rig import TENANT
from ops.faults.run import Run
from shared.errors import AntiphonError
from shared.wire import topics
from shared.wire.codec import decode_to_edge, encode
from shared.wire.ids import new_id
from shared.wire.messages import Refused, Step

# A worker that has looked for orphans at least once since they became some has had that long.
_GRACE_S: Final = 1.5
_REPLY_TIMEOUT_S: Final = 3.0
_POLL_S: Final = 0.01


async def left_behind(run: Run) -> str:
    """What is left of the run's sessions when their time to live is over; empty: nothing."""
    await asyncio.sleep(run.rig.plan.session_ttl_s + SWEEP_INTERVAL_S + _GRACE_S)
    words = []
    if run.rig.redis is not None:
        kept = [address for address in run.served if await _is_in_redis(run.rig.redis.port, address)]
        words = [f"{len(kept)} sessions of the run are still in Redis"] if kept else []
    held = await _held_by_workers(run)
    if held:
        words.append(f"{held} sessions of the run are still at a worker")
    return "; ".join(words)


async def _is_in_redis(port: int, address: topics.SessionAddress) -> bool:
    keys = (f"antiphon:{{{'/'.join(address)}}}:{part}" for part in ("meta", "log"))
    return await redis_command(port, "EXISTS", *keys) != 0


async def _held_by_workers(run: Run) -> int:
    """How many sessions are known to workers: those that don't know one refuse its steps."""
    settings = run.rig.settings(run.rig.broker.port)
    refused: set[topics.SessionAddress] = set()

    def on_reply(incoming: Incoming) -> None:
        with contextlib.suppress(AntiphonError):
            message = decode_to_edge(incoming.payload)
            if isinstance(message, Refused) and message.code == "session":
                refused.add(topics.parse_reply(incoming.topic))

    def all_refused() -> bool:
        return refused.issuperset(run.served)

    async with transport_for(settings.broker, new_id("orphans-")) as transport:
        replies = topics.reply_filter(TENANT, settings.edge.id)
        transport.subscribe(replies, on_reply)
        own_groups = topics.reply_group_topic(topics.EdgeAddress(TENANT, settings.edge.id))
        transport.subscribe(own_groups, GroupReader(on_reply))
        await transport.subscribed(replies, _REPLY_TIMEOUT_S)
        await transport.subscribed(own_groups, _REPLY_TIMEOUT_S)
        for address, worker in run.served.items():
            transport.publish_soon(topics.steps_topic(address, worker), encode(Step(1, 1, 0, 1, b"")))
        await _within(_REPLY_TIMEOUT_S, all_refused)
    return len(run.served.keys() - refused)


async def _within(timeout_s: float, condition: Callable[[], bool]) -> None:
    """Wait until a condition that messages bring about is true, for `timeout_s` at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(_POLL_S)
