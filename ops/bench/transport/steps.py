"""Real sessions of an edge ask a worker whose engine is empty."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from edge_agent.cloud_session import CloudSession
from edge_agent.link import CloudLink, CloudReply, LinkedSession
from edge_agent.patience import Patience
from edge_agent.states import StateLog
from edge_agent.want import Want
from ops.bench.transport.empty_worker import TENANT, VOCAB, digest_named, model_named, token_after
from ops.bench.transport.own_echo import own_transport
from ops.bench.transport.question import Size
from ops.bench.transport.yardstick import TIMEOUT_S, timed
from shared.errors import LinkError
from shared.wire.ids import new_id
from shared.wire.messages import Sampling

# Nothing is given up or sent again because the machine is busy.
_PATIENCE: Final = Patience(TIMEOUT_S, TIMEOUT_S, 3, TIMEOUT_S)
_CODEC: Final = "fp32"


class Asker:
    """One session that asks for one token after another.

    Args:
        link: of its edge.
        size: of its steps.
        digest: of the worker's bundle.
    """

    def __init__(self, link: CloudLink, size: Size, digest: str) -> None:
        self._row = bytes(size.states)
        self._states = StateLog(size.states)
        core = CloudSession(digest, VOCAB, _CODEC, Sampling(), self._states, _PATIENCE)
        self._session: LinkedSession = link.session(new_id("s-"), core)
        self._session.listen(self)
        self._reply: asyncio.Future[CloudReply] | None = None

    async def trip(self) -> None:
        """Send a row, and wait for the token behind it; the first trip also finds the worker.

        Raises:
            LinkError: it did not come, or is not the one that belongs there.
        """
        position = self._states.frontier
        self._states.append(self._row)
        self._reply = asyncio.get_running_loop().create_future()
        self._session.ask([Want(position)])
        reply = await self._reply
        if reply.position != position or reply.guess.token != token_after(position):
            raise LinkError(f"the token after {position} is {token_after(position)}, not {reply}")

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def on_reply(self, reply: CloudReply) -> None:
        """See `Replies.on_reply`."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    def on_no_reply(self, reason: str) -> None:
        """See `Replies.on_no_reply`."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(LinkError(f"a step was not answered: {reason}"))


class Steps:
    """An edge at a broker.

    Args:
        link: its link.
        digest: of the pool's bundle.
    """

    def __init__(self, link: CloudLink, digest: str) -> None:
        self._link = link
        self._digest = digest

    @classmethod
    @asynccontextmanager
    async def connected(cls, host: str, port: int, *, grouped: bool = True) -> AsyncIterator[Self]:
        """An edge of the pool whose worker groups its replies, or does not."""
        model, digest = model_named(grouped=grouped), digest_named(grouped=grouped)
        async with own_transport(host, port) as transport:
            link = CloudLink(transport, tenant=TENANT, edge=f"edge-{model}", model=model, digest=digest)
            if not await link.wait_connected(TIMEOUT_S):
                raise LinkError(f"no broker at {host}:{port}")
            try:
                yield cls(link, digest)
            finally:
                await link.aclose()

    async def trips(self, size: Size, count: int) -> list[float]:
        """See `Yardstick.trips`; a new session each time, so that no log grows without bound."""
        async with self._askers(size, 1) as (asker,):
            return await timed(asker.trip, count)

    async def per_second(self, size: Size, sessions: int, count: int) -> float:
        """Round trips a second of several sessions, each of which asks `count` times."""
        async with self._askers(size, sessions) as askers:
            began_s = time.perf_counter()
            await asyncio.gather(*(timed(asker.trip, count) for asker in askers))
            return sessions * count / (time.perf_counter() - began_s)

    @asynccontextmanager
    async def _askers(self, size: Size, sessions: int) -> AsyncIterator[list[Asker]]:
        askers = [Asker(self._link, size, self._digest) for _ in range(sessions)]
        try:
            await asyncio.gather(*(timed(asker.trip, 1) for asker in askers))
            yield askers
        finally:
            for asker in askers:
                asker.close()
