"""How sessions come to a worker: checks an open, fences the session's log, takes up where it ends."""

from __future__ import annotations

import asyncio

import structlog

from cloud_worker.keeper import Keeper
from cloud_worker.outbox import Outbox
from cloud_worker.replay import replay
from cloud_worker.session import WorkerSession
from shared.context.store import SessionLog
from shared.errors import (
    AntiphonError,
    BundleMismatchError,
    BusyError,
    CodecError,
    EvictedError,
    StaleEpochError,
)
from shared.tensors.codec import codec_named
from shared.wire.messages import Busy, Open, Opened
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)

# Opens being claimed at once; each holds one small task. Past it the edge is sent elsewhere.
MAX_CLAIMS = 512
# A claim takes milliseconds, and a third of a second at worst.
CLAIMS_RETRY_S = 0.1
# The wire's bound, and far longer than any edge waits.
MAX_RETRY_AFTER_S = 60.0


class Admission:
    """Answers opens with `Opened`, `Busy` or a refusal.

    Args:
        keeper: where admitted sessions live.
        outbox: the way to their edges.
        worker: this worker's id.
        digest: its bundle's.
        max_positions: context length of a session.
        max_queue_s: work waiting past which a session is better off elsewhere.
        max_claims_per_edge: opens of one edge being claimed at once.
        hidden_size: width of the states.
    """

    def __init__(
        self,
        keeper: Keeper,
        outbox: Outbox,
        *,
        worker: str,
        digest: str,
        max_positions: int,
        max_queue_s: float,
        max_claims_per_edge: int,
        hidden_size: int,
    ) -> None:
        self._keeper = keeper
        self._outbox = outbox
        self._worker = worker
        self._digest = digest
        self._max_positions = max_positions
        self._max_queue_s = max_queue_s
        self._max_claims_per_edge = max_claims_per_edge
        self._hidden_size = hidden_size
        self._claims: dict[SessionAddress, tuple[int, asyncio.Task[None]]] = {}
        self.draining = False

    @property
    def claims(self) -> int:
        """Opens that are being claimed."""
        return len(self._claims)

    def on_open(self, address: SessionAddress, message: Open) -> None:
        """Take an open in; the answer follows when the log is fenced."""
        if self.draining:
            self.put_off(address, message.epoch, 0.0)
            return
        fault = self._fault(message)
        if fault is not None:
            self._outbox.refuse(address, message.epoch, fault)
            return
        epoch, claim = self._claims.get(address, (0, None))
        if message.epoch <= epoch:
            return  # a duplicate of what is being claimed
        retry_after_s = self._retry_after_s(address)
        if retry_after_s:
            self.put_off(address, message.epoch, retry_after_s)
            return
        if claim is not None:
            claim.cancel()
        task = asyncio.get_running_loop().create_task(self._claim(address, message))
        self._claims[address] = (message.epoch, task)

    def put_off(self, address: SessionAddress, epoch: int, retry_after_s: float) -> None:
        """Send an open elsewhere, or back later."""
        self._outbox.reply(address, Busy(epoch, min(retry_after_s, MAX_RETRY_AFTER_S)))

    def on_close(self, address: SessionAddress, epoch: int) -> None:
        """The session is over while it is being claimed."""
        claimed, claim = self._claims.get(address, (0, None))
        if claim is not None and epoch >= claimed:
            del self._claims[address]  # a task that has not begun does not even run its `finally`
            claim.cancel()

    def _retry_after_s(self, address: SessionAddress) -> float:
        """When there may be room for the session; 0 when there is now."""
        if address in self._claims:
            return 0.0
        claims = sum(claimed.edge == address.edge for claimed in self._claims)
        if len(self._claims) >= MAX_CLAIMS or claims >= self._max_claims_per_edge:
            return CLAIMS_RETRY_S
        if address in self._keeper.table:
            return 0.0  # its cache is here: anywhere else it would be more work
        crowded_s = self._keeper.table.crowded_until_s - self._now_s()
        return max(0.0, self._keeper.runner.queue_s - self._max_queue_s, crowded_s)

    async def stop(self) -> None:
        """Give up what is being claimed."""
        tasks = [task for _, task in self._claims.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fault(self, message: Open) -> AntiphonError | None:
        if message.digest != self._digest:
            return BundleMismatchError(
                f"the edge's bundle is {message.digest}, this pool's is {self._digest}: "
                "install the same bundle on both sides"
            )
        try:
            codec_named(message.codec)
        except CodecError as error:
            return error
        return None

    async def _claim(self, address: SessionAddress, message: Open) -> None:
        try:
            frontier = self._seat(address, message, await self._claimed(address, message.epoch))
        except BusyError as error:
            self._keeper.forget(address)
            self.put_off(address, message.epoch, error.retry_after_s)
        except AntiphonError as error:
            if not isinstance(error, StaleEpochError):  # whose session here is another opening's
                self._keeper.forget(address)
            self._outbox.refuse(address, message.epoch, error)
        except Exception as error:  # out of memory, say: the edge is told, and the others don't notice
            log.exception("claim_failed", session=address.session)
            self._keeper.forget(address)
            self._outbox.refuse(address, message.epoch, EvictedError(f"no room: {type(error).__name__}"))
        else:
            if frontier is not None:
                self._outbox.reply(address, Opened(message.epoch, self._worker, frontier))
        finally:
            if self._claims.get(address, (0, None))[0] == message.epoch:
                del self._claims[address]

    async def _claimed(self, address: SessionAddress, epoch: int) -> SessionLog | None:
        """The session's log, fenced."""
        stored = await self._keeper.log.claim(address, epoch, self._digest)
        if self.draining:
            msg = "the worker is leaving"
            raise BusyError(msg, 0.0)
        return stored

    def _seat(self, address: SessionAddress, message: Open, stored: SessionLog | None) -> int | None:
        """Put the session into the table; where it goes on, or None for a late duplicate."""
        session = self._keeper.table.get(address)
        if session is None:
            return self._take_in(address, message, stored)
        if message.epoch < session.epoch:
            return None
        if message.epoch > session.epoch:
            self._take_over(session, message, stored)
        return session.frontier

    def _take_over(self, session: WorkerSession, message: Open, stored: SessionLog | None) -> None:
        """The edge opens again what is already here: the cache stays as far as cache and log agree."""
        dropped = self._keeper.scheduler.drop(session.address)
        ends = [session.frontier, dropped, None if stored is None else stored.frontier]
        session.take_over(
            message.epoch,
            message.codec,
            message.sampling,
            frontier=min(end for end in ends if end is not None),
            now_s=self._now_s(),
        )

    def _take_in(self, address: SessionAddress, message: Open, stored: SessionLog | None) -> int:
        """A session new to this worker: its log, if there is one, is caught up in one go."""
        now_s = self._now_s()
        session = WorkerSession(
            address, message.epoch, message.codec, message.sampling, self._max_positions, now_s
        )
        session.row_bytes = self._row_bytes
        for evicted in self._keeper.table.put(session, now_s):
            self._keeper.forget(evicted)
        for work in replay(session, stored.records if stored is not None else (), now_s):
            self._keeper.scheduler.add(work)
            session.frontier = work.end_position
            self._keeper.runner.wake()
        return session.frontier

    def _row_bytes(self, codec: str) -> int:
        return codec_named(codec).row_bytes(self._hidden_size)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
