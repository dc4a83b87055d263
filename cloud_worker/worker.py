"""The worker's front: opens, steps and closes come in; opened, tokens and refusals go out.

Validates and decides on the event loop; the engine thread only ever sees works that the session's
state machine has accepted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from broker.group_reader import GroupReader
from broker.transport import Incoming, Transport
from cloud_worker.admission import Admission
from cloud_worker.engine import CloudEngine
from cloud_worker.handover import Handover
from cloud_worker.keeper import Keeper
from cloud_worker.outbox import Outbox
from cloud_worker.quota import Capped, Quota, Rates
from cloud_worker.results import Results
from cloud_worker.runner import Runner
from cloud_worker.scheduler import Scheduler
from cloud_worker.session import Accept, Broken, Gap, Repeat, Stale, Unknown, WorkerSession
from cloud_worker.table import SessionTable
from cloud_worker.work import Work
from shared.context.store import ContextStore
from shared.context.write_behind import WriteBehindLog
from shared.errors import AntiphonError, BusyError, QuotaError
from shared.wire import topics
from shared.wire.codec import decode_to_worker
from shared.wire.messages import Busy, Close, Open, Refused, Resume, Step, ToWorker
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
        max_queue_s: work waiting past which no new session is taken.
        max_sessions_per_edge: sessions of one edge at once.
        steps_per_s_per_edge: messages of one edge.
        bytes_per_s_per_edge: their payloads.
        steps_per_s_per_tenant: messages of all edges.
        bytes_per_s_per_tenant: their payloads.
    """

    max_sessions: int = 256
    session_ttl_s: float = 600.0
    max_positions: int = 4096
    kv_budget_bytes: int = 1 << 30
    batch_tokens: int = 2048
    max_queue_s: float = 0.5
    max_sessions_per_edge: int = 64
    steps_per_s_per_edge: int = 2000
    bytes_per_s_per_edge: int = 32 << 20
    steps_per_s_per_tenant: int = 100_000
    bytes_per_s_per_tenant: int = 1 << 30


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

    Attributes:
        broken: set when the engine is of no use any more; the process should drain and be replaced.
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
        self.broken = asyncio.Event()
        self._limits = limits or WorkerLimits()
        self._transport = transport
        self._log = WriteBehindLog(store, call_timeout_s=STORE_TIMEOUT_S)
        self._table = SessionTable(
            max_sessions=self._limits.max_sessions,
            max_sessions_per_edge=self._limits.max_sessions_per_edge,
            ttl_s=self._limits.session_ttl_s,
        )
        self._scheduler = Scheduler(batch_tokens=self._limits.batch_tokens)
        self._runner = Runner(engine, self._scheduler)
        self._keeper = Keeper(self._table, self._scheduler, self._runner, self._log)
        self._outbox = Outbox(transport)
        self._quota = Quota(
            Rates("edge", self._limits.steps_per_s_per_edge, self._limits.bytes_per_s_per_edge),
            Rates("tenant", self._limits.steps_per_s_per_tenant, self._limits.bytes_per_s_per_tenant),
        )
        self._handover = Handover(self._keeper, self._outbox, worker)
        self._results = Results(
            self._keeper,
            self._outbox,
            kv_budget_bytes=self._limits.kv_budget_bytes,
            now_s=self._now_s,
            on_settled=self._handover.on_settled,
            on_broken=self._on_broken,
        )
        self._admission = Admission(
            self._keeper,
            self._outbox,
            worker=worker,
            digest=digest,
            max_positions=self._limits.max_positions,
            max_queue_s=self._limits.max_queue_s,
            max_claims_per_edge=self._limits.max_sessions_per_edge,
            hidden_size=engine.hidden_size,
        )
        self._background: list[asyncio.Task[None]] = []
        self._open_filter = topics.open_filter(tenant, topics.pool_of(model, digest), pool)
        self._steps_filter = topics.steps_filter(tenant, worker)
        self._step_group_filter = topics.step_group_filter(tenant, worker)

    async def start(self) -> None:
        """Take sessions."""
        loop = asyncio.get_running_loop()
        self._log.start()
        heartbeat = self._runner.run(self._results.on_done, self._results.on_kv)
        self._background = [
            loop.create_task(heartbeat, name="heartbeat"),
            loop.create_task(self._sweep(), name="sweep"),
        ]
        for task in self._background:
            task.add_done_callback(self._on_background_end)
        # Steps first: whoever is told of this worker must find it listening.
        self._transport.subscribe(self._steps_filter, self._on_step)
        self._transport.subscribe(self._step_group_filter, GroupReader(self._on_step))
        self._transport.subscribe(self._open_filter, self._on_open, qos=1)

    async def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
        """Take no new session, answer what is queued, pass all sessions on; whether that came in time."""
        self._leave_pool()
        return await self._handover.run(timeout_s)

    async def stop(self) -> None:
        """Stop at once; `drain` first to stop kindly."""
        await self._admission.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._log.aclose()
        self._runner.close()

    def _leave_pool(self) -> None:
        self._admission.draining = True  # opens may still be on their way
        self._transport.unsubscribe(self._open_filter)

    def _on_background_end(self, task: asyncio.Task[None]) -> None:
        """A worker whose heartbeat has stopped would look well and never answer."""
        if not task.cancelled():
            log.error("background_task_failed", task=task.get_name(), exc_info=task.exception())
            self._on_broken()

    def _on_broken(self) -> None:
        """The engine is of no use: leave the pool at once, and have this process replaced."""
        if not self.broken.is_set():
            log.error("engine_broken", fix="this worker leaves its pool; its supervisor should restart it")
            self._leave_pool()
            self.broken.set()

    def _on_open(self, incoming: Incoming) -> None:
        decoded = self._decode(incoming, topics.parse_open)
        if decoded is None:
            return
        address, message = decoded
        if not isinstance(message, Open):
            log.warning("not_an_open", edge=address.edge)
            return
        capped = self._capped(address, incoming)
        if capped is None:
            self._admission.on_open(address, message)
        else:
            self._admission.put_off(address, message.epoch, capped.retry_after_s)

    def _on_step(self, incoming: Incoming) -> None:
        decoded = self._decode(incoming, topics.parse_steps)
        if decoded is None:
            return
        address, message = decoded
        match message:
            case Step():
                capped = self._capped(address, incoming)
                if capped is None:
                    self._take_step(address, message)
                else:
                    self._turn_away(address, message, capped)
            case Close():
                self._close(address, message, incoming)
            case Open():
                log.warning("open_outside_pool", edge=address.edge)

    def _capped(self, address: SessionAddress, incoming: Incoming) -> Capped | None:
        return self._quota.take(address.edge, len(incoming.payload), self._now_s())

    def _turn_away(self, address: SessionAddress, step: Step, capped: Capped) -> None:
        """A step too many. Told once an epoch: a flood must not be answered by a flood."""
        session = self._table.get(address)
        if session is not None and session.epoch == step.epoch and not session.told_of_cap:
            session.told_of_cap = True
            self._outbox.refuse(address, step.epoch, QuotaError(str(capped)))

    def _take_step(self, address: SessionAddress, step: Step) -> None:
        if self._handover.is_leaving(address):
            return
        session = self._table.get(address)
        if session is None:
            self._refuse_unknown(address, step)
            return
        match session.judge(step, self._now_s()):
            case Accept(work):
                self._queue(session, work)
            case Repeat(reply):
                if reply is not None:
                    self._outbox.reply(address, reply)
            case Gap(frontier, taken):
                self._outbox.reply(address, Resume(step.epoch, step.number, frontier, taken))
            case Unknown():
                self._refuse_unknown(address, step)
            case Broken(error):
                self._keeper.erase(address, step.epoch)
                self._outbox.refuse(address, step.epoch, error)
            case Stale():
                log.info("stale_step", session=address.session)

    def _queue(self, session: WorkerSession, work: Work) -> None:
        try:
            self._scheduler.add(work)
        except BusyError as error:
            # The rows are not taken: the edge will send them again, here or elsewhere.
            session.frontier, session.last_number = work.from_position, work.number - 1
            self._outbox.reply(session.address, Busy(work.epoch, error.retry_after_s))
            return
        self._runner.wake()

    def _refuse_unknown(self, address: SessionAddress, step: Step) -> None:
        message = f"worker {self.worker} does not have this session: open it again"
        self._outbox.reply(address, Refused(step.epoch, "session", message, retryable=True))

    def _close(self, address: SessionAddress, message: Close, incoming: Incoming) -> None:
        self._admission.on_close(address, message.epoch)
        session = self._table.get(address)
        if session is None:
            self._close_log(address, message, incoming)
        elif message.epoch < session.epoch:
            return
        elif message.elsewhere:
            self._keeper.forget(address)
        else:
            self._keeper.erase(address, message.epoch)

    def _close_log(self, address: SessionAddress, message: Close, incoming: Incoming) -> None:
        """The session has no seat here any more, or not yet: what the store has of it goes all the same."""
        if not message.elsewhere and self._capped(address, incoming) is None:
            self._log.close(address, message.epoch)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            for address in self._table.expire(self._now_s()):
                self._keeper.forget(address)  # the store has a time to live of its own

    def _decode(
        self, incoming: Incoming, parse: topics.ParseAddress
    ) -> tuple[SessionAddress, ToWorker] | None:
        try:
            return parse(incoming.topic), decode_to_worker(incoming.payload)
        except AntiphonError as error:
            log.warning("message_refused", code=error.code, reason=str(error))
            return None

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
