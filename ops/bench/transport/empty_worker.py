"""A real worker whose engine answers at once: what is left is everything around the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from broker.group_sender import GroupSender
from cloud_worker.engine import CloudEngine
from cloud_worker.work import Done, Work
from cloud_worker.worker import CloudWorker, WorkerLimits
from ops.bench.transport.own_echo import own_transport
from ops.bench.transport.yardstick import TIMEOUT_S
from shared.context.memory import MemoryContextStore
from shared.wire import topics
from shared.wire.messages import DrawnToken
from shared.wire.topics import SessionAddress

TENANT: Final = "bench"
VOCAB: Final = 1 << 16
_UNLIMITED: Final = 1 << 40
_LIMITS: Final = WorkerLimits(
    max_positions=1 << 20,
    max_sessions_per_edge=256,
    steps_per_s_per_edge=_UNLIMITED,
    bytes_per_s_per_edge=_UNLIMITED,
)


def model_named(*, grouped: bool) -> str:
    """The model of the pool whose worker groups its replies, or does not."""
    return "grouped" if grouped else "alone"


def digest_named(*, grouped: bool) -> str:
    """Its digest."""
    return ("1" if grouped else "0") * 64


def token_after(position: int) -> int:
    """What the empty engine draws, so that an answer can be told from another's."""
    return position * 31 % VOCAB


class EmptyEngine:
    """Draws tokens without looking at the states."""

    hidden_size = 1
    layers = 1

    def run(self, batch: Sequence[Work], _now_s: float) -> list[Done]:
        """Every wanted token, at once."""
        sessions = len({work.address for work in batch})
        return [Done(work, self._drawn(work), batch_sessions=sessions) for work in batch]

    @staticmethod
    def _drawn(work: Work) -> tuple[DrawnToken, ...]:
        return tuple(DrawnToken(position, token_after(position), 0.5) for position in work.wants)

    def kv_bytes(self) -> dict[SessionAddress, int]:
        """It keeps nothing."""
        return {}

    def drop(self, _addresses: Sequence[SessionAddress]) -> None:
        """Nothing to free."""


async def serve(host: str, port: int, ready: Callable[[], None], *, grouped: bool) -> None:
    """Serve sessions until cancelled."""
    GroupSender.max_parts = GroupSender.max_parts if grouped else 1
    model, digest = model_named(grouped=grouped), digest_named(grouped=grouped)
    opens = topics.open_filter(TENANT, topics.pool_of(model, digest), "pool")
    async with own_transport(host, port) as transport:
        worker = CloudWorker(
            transport,
            cast("CloudEngine", cast("Any", EmptyEngine())),
            MemoryContextStore(),
            worker=f"worker-{model}",
            tenant=TENANT,
            model=model,
            digest=digest,
            limits=_LIMITS,
        )
        await worker.start()
        await transport.wait_connected(TIMEOUT_S)
        await transport.subscribed(opens, TIMEOUT_S)
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            await worker.stop()
