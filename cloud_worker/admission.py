"""How sessions come to a worker: checks an open, fences the session's log, takes up where it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloud_worker.replay import replay
from cloud_worker.runner import Runner
from cloud_worker.scheduler import Scheduler
from cloud_worker.session import WorkerSession
from cloud_worker.table import SessionTable
from shared.context.store import SessionLog
from shared.context.write_behind import WriteBehindLog
from shared.errors import AntiphonError, BundleMismatchError, BusyError, CodecError, StaleEpochError
from shared.tensors.codec import codec_named
from shared.wire.messages import Busy, Open, Opened, ToEdge
from shared.wire.topics import SessionAddress

# Opens being claimed at once; each holds one small task. Past it the edge is sent elsewhere.
MAX_CLAIMS = 512

Reply = Callable[[SessionAddress, ToEdge], None]
Refuse = Callable[[SessionAddress, int, Exception], None]


class Admission:
    """Answers opens with `Opened`, `Busy` or a refusal.

    Args:
        table: where admitted sessions live.
        scheduler: gets the log's records as work.
        runner: is woken for them.
        log: fences and returns sessions' logs; bounded in time by itself.
        worker: this worker's id. digest: its bundle's.
        max_positions: context length of a session.
        reply: publishes to a session. refuse: publishes a refusal.
    """

    def __init__(
        self,
        table: SessionTable,
        scheduler: Scheduler,
        runner: Runner,
        log: WriteBehindLog,
        *,
        worker: str,
        digest: str,
        max_positions: int,
        reply: Reply,
        refuse: Refuse,
    ) -> None:
        self._table = table
        self._scheduler = scheduler
        self._runner = runner
        self._log = log
        self._worker = worker
        self._digest = digest
        self._max_positions = max_positions
        self._reply = reply
        self._refuse = refuse
        self._claims: dict[SessionAddress, tuple[int, asyncio.Task[None]]] = {}
        self.draining = False

    def on_open(self, address: SessionAddress, message: Open) -> None:
        """Take an open in; the answer follows when the log is fenced."""
        if self.draining:
            self._reply(address, Busy(message.epoch, 0.0))
            return
        fault = self._fault(message)
        if fault is not None:
            self._refuse(address, message.epoch, fault)
            return
        epoch, claim = self._claims.get(address, (0, None))
        if message.epoch <= epoch:
            return  # a duplicate of what is being claimed
        if claim is not None:
            claim.cancel()
        elif len(self._claims) >= MAX_CLAIMS:
            self._reply(address, Busy(message.epoch, 0.1))
            return
        task = asyncio.get_running_loop().create_task(self._claim(address, message))
        self._claims[address] = (message.epoch, task)

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
            stored = await self._log.claim(address, message.epoch, self._digest)
            frontier = self._seat(address, message, stored)
        except StaleEpochError as error:
            self._refuse(address, message.epoch, error)
        except BusyError as error:
            self._table.pop(address)
            self._scheduler.drop(address)
            self._runner.free([address])
            self._reply(address, Busy(message.epoch, error.retry_after_s))
        else:
            if frontier is not None:
                self._reply(address, Opened(message.epoch, self._worker, frontier))
        finally:
            if self._claims.get(address, (0, None))[0] == message.epoch:
                del self._claims[address]

    def _seat(self, address: SessionAddress, message: Open, stored: SessionLog | None) -> int | None:
        """Put the session into the table; where it goes on, or None for a late duplicate."""
        session = self._table.get(address)
        if session is None:
            return self._take_in(address, message, stored)
        if message.epoch < session.epoch:
            return None
        if message.epoch > session.epoch:
            self._take_over(session, message, stored)
        return session.frontier

    def _take_over(self, session: WorkerSession, message: Open, stored: SessionLog | None) -> None:
        """The edge opens again what is already here: the cache stays as far as cache and log agree."""
        dropped = self._scheduler.drop(session.address)
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
        for evicted in self._table.put(session, now_s):
            self._scheduler.drop(evicted)
            self._runner.free([evicted])
        for work in replay(session, stored.records if stored is not None else (), now_s):
            self._scheduler.add(work)
            session.frontier = work.end_position
            self._runner.wake()
        return session.frontier

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
