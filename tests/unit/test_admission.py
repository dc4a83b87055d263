"""Which opens a worker takes, and when it sends them elsewhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from cloud_worker.admission import Admission
from cloud_worker.keeper import Keeper
from cloud_worker.runner import Runner
from cloud_worker.scheduler import Scheduler
from cloud_worker.table import SessionTable
from cloud_worker.work import Work
from shared.context.memory import MemoryContextStore
from shared.context.store import LogRecord, SessionLog
from shared.context.write_behind import WriteBehindLog
from shared.wire.messages import Busy, Open, Opened, Refused, ToEdge
from shared.wire.topics import SessionAddress
from tests.waiting import eventually

DIGEST = "d"


class GatedStore(MemoryContextStore):
    """A store that answers claims when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog:
        await self.gate.wait()
        return await super().claim(key, epoch, digest)


class Outbox:
    """Keeps what would be published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ToEdge]] = []

    def reply(self, address: SessionAddress, message: ToEdge) -> None:
        self.sent.append((address.session, message))

    def refuse(self, address: SessionAddress, epoch: int, error) -> None:
        self.reply(address, Refused(epoch, error.code, str(error), retryable=error.retryable))


class Worker:
    """The parts around admission, without engine and broker."""

    def __init__(self, **limits: int) -> None:
        self.store = GatedStore()
        self.outbox = Outbox()
        table = SessionTable(max_sessions_per_edge=2)
        scheduler = Scheduler(**limits)
        log = WriteBehindLog(self.store)
        engine = SimpleNamespace(layers=1)
        self.keeper = Keeper(table, scheduler, Runner(engine, scheduler), log)  # type: ignore[arg-type]
        self.admission = Admission(
            self.keeper,
            self.outbox,  # type: ignore[arg-type]
            worker="w",
            digest=DIGEST,
            max_positions=100,
            max_queue_s=0.5,
            max_claims_per_edge=2,
            hidden_size=8,
        )

    def open(self, name: str, epoch: int = 1, edge: str = "hub") -> None:
        self.admission.on_open(SessionAddress("home", edge, name), Open(epoch, DIGEST, "fp32"))

    async def reply(self, name: str) -> ToEdge:
        await eventually(lambda: name in dict(self.outbox.sent), what=f"a reply to {name}")
        return dict(self.outbox.sent)[name]

    def queue(self, seconds: float) -> None:
        """Let so much work wait."""
        for rows in (1, 100, 200):
            self.keeper.runner.pace.observe(rows, rows / 100)
        count = round(seconds * 100)
        self.keeper.scheduler.add(Work(SessionAddress("home", "hub", "queued"), 1, 1, 0, count, "fp32", b""))


async def test_a_worker_with_a_long_queue_names_the_time_after_which_it_is_short_again():
    worker = Worker()
    worker.queue(2.0)
    worker.open("new")
    busy = await worker.reply("new")
    assert isinstance(busy, Busy)
    assert busy.retry_after_s == pytest.approx(1.5)


async def test_a_short_queue_keeps_nobody_out():
    worker = Worker()
    worker.queue(0.4)
    worker.open("new")
    assert isinstance(await worker.reply("new"), Opened)


async def test_a_session_that_is_here_may_open_again_however_long_the_queue():
    worker = Worker()
    worker.open("s")
    await worker.reply("s")
    worker.queue(60.0)
    worker.open("s", epoch=2)
    await eventually(lambda: ("s", Opened(2, "w", 0)) in worker.outbox.sent)


async def test_a_close_while_the_open_is_being_claimed_ends_it():
    worker = Worker()
    worker.store.gate.clear()
    worker.open("s", epoch=2)
    worker.admission.on_close(SessionAddress("home", "hub", "s"), 1)
    assert worker.admission.claims == 1
    worker.admission.on_close(SessionAddress("home", "hub", "s"), 2)
    await eventually(lambda: worker.admission.claims == 0)
    assert worker.outbox.sent == []
    assert len(worker.keeper.table) == 0


async def test_a_worker_that_begins_to_leave_while_it_claims_sends_the_session_elsewhere():
    worker = Worker()
    worker.store.gate.clear()
    worker.open("s")
    worker.admission.draining = True
    worker.store.gate.set()
    assert await worker.reply("s") == Busy(1, 0.0)
    assert len(worker.keeper.table) == 0


async def test_one_edges_claims_do_not_use_up_the_others():
    worker = Worker()
    worker.store.gate.clear()
    for name in "abc":
        worker.open(name)
    worker.open("d", edge="other")
    assert isinstance(await worker.reply("c"), Busy)
    assert worker.admission.claims == 3
    worker.store.gate.set()
    assert isinstance(await worker.reply("d"), Opened)


async def test_a_log_that_does_not_fit_into_the_queue_leaves_nothing_behind():
    worker = Worker(max_waiting_bytes=100)
    address = SessionAddress("home", "hub", "s")
    await worker.store.claim(address, 1, DIGEST)
    await worker.store.append(address, 1, LogRecord(0, 10, "fp32", bytes(1000)))
    worker.open("s", epoch=2)
    assert isinstance(await worker.reply("s"), Busy)
    assert len(worker.keeper.table) == len(worker.keeper.scheduler) == 0
