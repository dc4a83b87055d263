"""The worker's front: opens, steps and closes come in; opened, tokens and refusals go out.

Validates and decides on the event loop; the engine thread only ever sees works that the session's
state machine has accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from broker.transport import Incoming, Transport
from cloud_worker.admission import Admission
from cloud_worker.engine import CloudEngine
from cloud_worker.runner import Runner
from cloud_worker.scheduler import Scheduler
from cloud_worker.session import Accept, Broken, Gap, Repeat, Stale, Unknown, WorkerSession
from cloud_worker.table import SessionTable
from cloud_worker.work import Done, Work
from shared.context.store import ContextStore, LogRecord
from shared.context.write_behind import WriteBehindLog
from shared.errors import AntiphonError, BusyError, ContextGapError, EvictedError
from shared.wire import topics
from shared.wire.codec import decode_to_worker, encode
from shared.wire.messages import (
    MAX_TEXT_CHARS,
    Busy,
    Close,
    Open,
    Refused,
    Resume,
    Step,
    ToEdge,
    Tokens,
    ToWorker,
)
from shared.wire.topics import SessionAddress

log = structlog.get_logger(__name__)

# An edge waits about a second for an open: a store slower than that is as good as away.
STORE_TIMEOUT_S = 0.3
# How often orphans are looked for; the time to live is far longer.
SWEEP_INTERVAL_S = 5.0
DRAIN_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker takes on.

    Attributes:
        max_sessions: sessions at once.
        session_ttl_s: silence after which a session is an orphan.
        max_positions: context length of a session.
        kv_budget_bytes: all sessions' KV caches together.
        batch_tokens: rows of one forward.
    """

    max_sessions: int = 256
    session_ttl_s: float = 600.0
    max_positions: int = 4096
    kv_budget_bytes: int = 1 << 30
    batch_tokens: int = 2048


class CloudWorker:
    """Serves sessions of one bundle from one pool.

    Args:
        transport: the MQTT connection; started and stopped by the caller.
        engine: the bundle's cloud stage.
        store: where sessions' logs are kept.
        worker: this worker's id.
        tenant: whose sessions.
        model: the bundle's name. digest: the bundle's digest.
        pool: the shared subscription's group.
        limits: what it takes on.
    """

    def __init__(
        self,
        transport: Transport,
        engine: CloudEngine,
        store: ContextStore,
        *,
        worker: str,
        tenant: str,
        model: str,
        digest: str,
        pool: str = "pool",
        limits: WorkerLimits | None = None,
    ) -> None:
        self.worker = worker
        self._limits = limits or WorkerLimits()
        self._transport = transport
        self._log = WriteBehindLog(store, call_timeout_s=STORE_TIMEOUT_S)
        self._table = SessionTable(max_sessions=self._limits.max_sessions, ttl_s=self._limits.session_ttl_s)
        self._scheduler = Scheduler(batch_tokens=self._limits.batch_tokens)
        self._runner = Runner(engine, self._scheduler, self._on_done, self._over_budget)
        self._admission = Admission(
            self._table,
            self._scheduler,
            self._runner,
            self._log,
            worker=worker,
            digest=digest,
            max_positions=self._limits.max_positions,
            reply=self._reply,
            refuse=self._refuse,
        )
        self._background: list[asyncio.Task[None]] = []
        self._open_filter = topics.open_filter(tenant, topics.pool_of(model, digest), pool)
        self._steps_filter = topics.steps_filter(tenant, worker)

    async def start(self) -> None:
        """Take sessions."""
        loop = asyncio.get_running_loop()
        self._log.start()
        self._background = [loop.create_task(self._runner.run()), loop.create_task(self._sweep())]
        # Steps first: whoever is told of this worker must find it listening.
        self._transport.subscribe(self._steps_filter, self._on_step)
        self._transport.subscribe(self._open_filter, self._on_open, qos=1)

    async def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
        """Take no new session and finish what is queued; whether that came in time."""
        self._admission.draining = True  # opens may still be on their way
        self._transport.unsubscribe(self._open_filter)
        return await self._runner.wait_idle(timeout_s)

    async def stop(self) -> None:
        """Stop at once; `drain` first to stop kindly."""
        await self._admission.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._log.aclose()
        self._runner.close()

    def _on_open(self, incoming: Incoming) -> None:
        decoded = self._decode(incoming, topics.parse_open)
        if decoded is None:
            return
        address, message = decoded
        if isinstance(message, Open):
            self._admission.on_open(address, message)
        else:
            log.warning("not_an_open", edge=address.edge)

    def _on_step(self, incoming: Incoming) -> None:
        decoded = self._decode(incoming, topics.parse_steps)
        if decoded is None:
            return
        address, message = decoded
        match message:
            case Step():
                self._take_step(address, message)
            case Close():
                self._close(address, message)
            case Open():
                log.warning("open_outside_pool", edge=address.edge)

    def _take_step(self, address: SessionAddress, step: Step) -> None:
        session = self._table.get(address)
        if session is None:
            self._refuse_unknown(address, step)
            return
        match session.judge(step, self._now_s()):
            case Accept(work):
                self._queue(session, work)
            case Repeat(reply):
                if reply is not None:
                    self._reply(address, reply)
            case Gap(frontier):
                self._reply(address, Resume(step.epoch, step.number, frontier))
            case Unknown():
                self._refuse_unknown(address, step)
            case Broken(error):
                self._fail(address, step.epoch, error)
            case Stale():
                log.info("stale_step", session=address.session)

    def _queue(self, session: WorkerSession, work: Work) -> None:
        try:
            self._scheduler.add(work)
        except BusyError as error:
            # The rows are not taken: the edge will send them again, here or elsewhere.
            session.frontier = work.from_position
            self._reply(session.address, Busy(work.epoch, error.retry_after_s))
            return
        self._runner.wake()

    def _refuse_unknown(self, address: SessionAddress, step: Step) -> None:
        message = f"worker {self.worker} does not have this session: open it again"
        self._reply(address, Refused(step.epoch, "session", message, retryable=True))

    def _close(self, address: SessionAddress, message: Close) -> None:
        session = self._table.get(address)
        if session is None or message.epoch < session.epoch:
            return
        self._forget(address)
        self._log.close(address, session.epoch)

    def _forget(self, address: SessionAddress) -> None:
        self._table.pop(address)
        self._scheduler.drop(address)
        self._runner.free([address])

    def _on_done(self, done: Done) -> None:
        work = done.work
        session = self._table.get(work.address)
        if session is None:
            self._runner.free([work.address])  # closed or evicted while it ran
            return
        if isinstance(done.error, ContextGapError):
            self._resume(session, work, done.error.frontier)
            return
        if session.epoch != work.epoch:
            return  # taken over while it ran
        if done.error is not None:
            self._fail(work.address, work.epoch, done.error)
            return
        if work.wants:
            reply = Tokens(
                work.epoch,
                work.number,
                list(done.tokens),
                done.compute_us,
                done.queue_us,
                done.batch_sessions,
            )
            session.last_reply = reply
            self._reply(work.address, reply)
        if work.number:
            record = LogRecord(work.from_position, work.count, work.codec, work.states)
            self._log.append(work.address, work.epoch, record)

    def _resume(self, session: WorkerSession, work: Work, frontier: int) -> None:
        """The cache ends earlier than was promised: have the edge send from there."""
        session.frontier = min(session.frontier, frontier)
        if session.epoch == work.epoch and work.number:
            self._reply(session.address, Resume(work.epoch, work.number, frontier))

    def _fail(self, address: SessionAddress, epoch: int, error: Exception) -> None:
        """Give up a session for good, with the reason; the others don't notice."""
        self._forget(address)
        self._refuse(address, epoch, error)

    def _over_budget(self, bytes_of: Mapping[SessionAddress, int]) -> Sequence[SessionAddress]:
        evicted = self._table.over_budget(bytes_of, self._limits.kv_budget_bytes)
        for session in evicted:
            if self._scheduler.drop(session.address) is not None:
                error = EvictedError(f"worker {self.worker} is short of memory: open the session again")
                self._refuse(session.address, session.epoch, error)
        return [session.address for session in evicted]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            for address in self._table.expire(self._now_s()):
                self._scheduler.drop(address)
                self._runner.free([address])

    def _decode(
        self, incoming: Incoming, parse: topics.ParseAddress
    ) -> tuple[SessionAddress, ToWorker] | None:
        try:
            return parse(incoming.topic), decode_to_worker(incoming.payload)
        except AntiphonError as error:
            log.warning("message_refused", code=error.code, reason=str(error))
            return None

    def _refuse(self, address: SessionAddress, epoch: int, error: Exception) -> None:
        ours = isinstance(error, AntiphonError)
        code = error.code if isinstance(error, AntiphonError) else "internal"
        text = str(error) if ours else f"the worker failed on this session: {type(error).__name__}"
        log.warning("session_refused", session=address.session, code=code, reason=str(error)[:200])
        # What broke here may work elsewhere; the edge's attempts bound how often it tries.
        retryable = not isinstance(error, AntiphonError) or error.retryable
        self._reply(address, Refused(epoch, code, text[:MAX_TEXT_CHARS], retryable=retryable))

    def _reply(self, address: SessionAddress, message: ToEdge) -> None:
        if not self._transport.publish_soon(topics.reply_topic(address), encode(message)):
            log.info("reply_not_sent", session=address.session)  # the edge asks again

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
