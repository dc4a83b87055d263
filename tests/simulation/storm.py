"""One storm from its first message to the last time to live, and what must be true after it.

edges ask, workers answer, faults come   every session ends by its deadlines         invariants 3, 5
all sessions are over                    texts are the fault-free ones                1, 2, 4
                                         no stale word was believed or written        7
the times to live have passed            nothing is left in any table                 6
everything has stopped                   no task is pending, none failed unheard
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import edge_agent.generation as generation_module
import edge_agent.upload as upload_module
from edge_agent.patience import Patience
from shared.context.logged_session import MAX_WAIT_S
from tests.simulation.edge import Hub, SimEngine, SimSession, draw_wish, link_of
from tests.simulation.net import SimBroker
from tests.simulation.store import StoreServer
from tests.simulation.toy_model import ROW_BYTES
from tests.simulation.trace import Trace
from tests.simulation.transport import SimTransport
from tests.simulation.virtual_loop import Process, SimulationError, VirtualLoop
from tests.simulation.weather import Weather
from tests.simulation.worker import SESSION_TTL_S, SimWorker

# Far past the deadlines of every ask of every session.
LONGEST_S = 4_000.0
# After the last sign of life: what waits for the store, the time to live, and two sweeps.
AFTERMATH_S = SESSION_TTL_S + MAX_WAIT_S + 15.0
# Attempts and time that no bounded storm uses up, and a step's deadline with room for several resends.
ENDLESS = Patience(step_deadline_s=1.0, attempts=1_000_000, deadline_s=300.0)


@dataclass(slots=True)
class SimEdge:
    """One edge process."""

    process: Process
    transport: SimTransport
    hub: Hub
    running: list[asyncio.Task[Any]] = field(default_factory=list)


class Storm:
    """The world of one seed.

    Attributes:
        wrong: what was not as it must be.
    """

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        forwards = weather.stream("forwards")
        self.loop = VirtualLoop(executor_delay=lambda: forwards.uniform(0.0, weather.forward_s))
        self.trace = Trace(self.loop.time)
        self.wrong: list[str] = []
        self._random = weather.stream("storm")
        self._broker = SimBroker(self.loop, weather.net, weather.stream("net"), self.trace)
        self._store = StoreServer(self.loop, weather, self.trace, SESSION_TTL_S)
        self._workers: dict[str, SimWorker] = {}
        self._dead: list[Process] = []
        self._edges: list[SimEdge] = []
        self._sessions: list[tuple[SimEdge, SimSession]] = []

    def run(self) -> None:
        """Let it pass; `wrong` and the trace tell how it went."""
        with self.trace.logs(), _parts_of(self.weather.chunk_rows):
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(self._pass())
            except SimulationError as error:
                self.wrong.append(str(error))
                self._break_off()
            finally:
                asyncio.set_event_loop(None)
                self.loop.close()
        self.wrong += self.trace.faults
        self.wrong += [_unheard(context) for context in self.loop.errors]

    async def _pass(self) -> None:
        for index in range(self.weather.workers):
            self._join(f"w{index}")
        for index in range(self.weather.edges):
            self._edges.append(self._make_edge(f"hub{index}"))
        for index in range(self.weather.sessions):
            self._begin(index)
        for at_s, fault in self.weather.faults:
            self.loop.call_at(self.loop.time() + at_s, self._strike, fault)
        await self._until_answered()
        self._check_texts()
        await self._until_forgotten()
        self._check_leftovers()
        await self._stop()
        self._check_tasks()

    # --- the actors --------------------------------------------------------------------------------

    def _join(self, name: str) -> None:
        self._workers[name] = SimWorker(name, self.loop, self.weather, self._broker, self._store)

    def _make_edge(self, name: str) -> SimEdge:
        process = Process(name)
        transport = SimTransport(self._broker, process, f"edge.{name}", None, self.weather.net.refused)
        link = process.context.run(link_of, transport, name)
        process.context.run(transport.start)
        engine = SimEngine(self.weather.stream(f"stages/{name}"))
        return SimEdge(process, transport, Hub(name, link, engine))

    def _begin(self, index: int) -> None:
        random = self.weather.stream(f"session/{index}")
        edge = random.choice(self._edges)
        wish = draw_wish(random, self.weather.new_tokens, bounded=self.weather.bounded)
        patience = ENDLESS if self.weather.bounded else Patience()
        session = SimSession(edge.hub, f"s{index}", wish, patience, self.trace)
        self._store.truth[session.address] = session.place.states
        self._sessions.append((edge, session))
        edge.running.append(self.loop.spawn(edge.process, self._live(session, random)))

    async def _live(self, session: SimSession, random: Random) -> None:
        # A patient edge is there before its first prompt: an ask without a connection is degraded.
        start_s = random.uniform(0.5, 3.0) if self.weather.bounded else random.uniform(0.0, 3.0)
        await asyncio.sleep(start_s)
        await session.run()

    # --- the faults --------------------------------------------------------------------------------

    def _strike(self, fault: str) -> None:
        self.trace.add("fault", fault)
        for worker in self._workers.values():
            self.wrong += worker.over_limits(self.weather)
        getattr(self, f"_strike_{fault}")()

    def _some_worker(self) -> SimWorker | None:
        there = [worker for worker in self._workers.values() if not worker.leaving]
        return self._random.choice(there) if there else None

    def _strike_kill(self) -> None:
        worker = self._some_worker()
        if worker is None:
            return
        del self._workers[worker.name]
        # Mostly the kernel closes the connection; a host without power says nothing.
        missed_after_s = self._random.choice([0.0, 0.01, 15.0])
        self._kill(worker.process, worker.transport.client_id, missed_after_s)
        if self._random.random() < 0.5:
            self.loop.call_later(self._random.uniform(0.1, 3.0), self._join, worker.name)

    def _kill(self, process: Process, client_id: str, missed_after_s: float) -> None:
        self.trace.add("killed", who=process.name)
        process.killed = True
        self.loop.freeze(process)
        self._dead.append(process)
        cable = self._broker.cables.get(client_id)
        if cable is not None:
            self._broker.cut(cable, missed_after_s)

    def _strike_freeze(self) -> None:
        worker = self._some_worker()
        if worker is not None and not worker.process.frozen:
            self.trace.add("frozen", who=worker.name)
            self.loop.freeze(worker.process)
            frozen_s = self._random.choice([0.05, 0.5, 2.0, 8.0])
            self.loop.call_later(frozen_s, self._thaw, worker.process)

    def _thaw(self, process: Process) -> None:
        if not process.killed:
            self.trace.add("thawed", who=process.name)
            self.loop.thaw(process)

    def _strike_drain(self) -> None:
        worker = self._some_worker()
        if worker is None or (self.weather.bounded and not self._others_there(worker)):
            return  # a deserted pool is not asked, however patient the edge is
        self.drain(worker)

    def drain(self, worker: SimWorker) -> None:
        """A worker is told to stop."""
        worker.leave().add_done_callback(lambda _: self._workers.pop(worker.name, None))

    def _others_there(self, worker: SimWorker) -> bool:
        others = (each for each in self._workers.values() if each is not worker and not each.leaving)
        return any(each.transport.connected for each in others)

    def _strike_join(self) -> None:
        self._join(f"late{len(self._workers)}.{self.loop.time():.3f}")

    def _strike_partition(self) -> None:
        client_ids = list(self._broker.cables)
        if client_ids:
            name = self._random.choice(client_ids)
            self._broker.partition(name, self._random.choice([0.2, 1.5, 5.0, 20.0]))

    def _strike_broker_down(self) -> None:
        self._broker.fail(self._random.choice([0.1, 1.0, 6.0]), forgets=self._random.random() < 0.5)

    def _strike_broker_freeze(self) -> None:
        self._broker.freeze(self._random.choice([0.3, 1.5, 6.0]))

    def _strike_store_down(self) -> None:
        self._store.fail(self._random.choice([0.5, 2.0, 6.0]))

    def _strike_store_emptied(self) -> None:
        self._store.empty()

    def _strike_kill_edge(self) -> None:
        if len(self._edges) > 1:
            edge = self._edges.pop()
            self._sessions = [each for each in self._sessions if each[0] is not edge]
            self._kill(edge.process, edge.transport.client_id, 0.0)

    # --- the end -----------------------------------------------------------------------------------

    async def _until_answered(self) -> None:
        end_s = self.loop.time() + LONGEST_S
        while any(not task.done() for edge in self._edges for task in edge.running):
            if self.loop.time() > end_s:
                raise SimulationError(f"sessions are not over after {LONGEST_S:g} s")
            await asyncio.sleep(1.0)
        for edge in self._edges:
            await asyncio.gather(*edge.running)

    async def _until_forgotten(self) -> None:
        await asyncio.sleep(20.0)  # what still freezes, drains or waits for a keep-alive
        await asyncio.sleep(AFTERMATH_S)

    async def _stop(self) -> None:
        for edge in self._edges:
            await self.loop.spawn(edge.process, edge.hub.link.aclose())
            edge.process.context.run(edge.transport.stop)
        for worker in list(self._workers.values()):
            if not worker.leaving:
                await worker.leave()
        for process in self._dead:
            await self._bury(process)
        await asyncio.sleep(20.0)

    async def _bury(self, process: Process) -> None:
        """Let a dead process end its tasks; no cable or store hears of it."""
        for task in process.tasks:
            task.cancel()
        self.loop.thaw(process)
        await asyncio.gather(*process.tasks, return_exceptions=True)

    def _break_off(self) -> None:
        """End what a storm that can't go on has left behind; that is not what is wrong with it."""
        self.loop.callbacks = 0
        for process in [*self._dead, *self._processes()]:
            self.loop.thaw(process)
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=60.0))

    def _processes(self) -> list[Process]:
        return [each.process for each in (*self._edges, *self._workers.values())]

    # --- the verdict -------------------------------------------------------------------------------

    def _check_texts(self) -> None:
        for _, session in self._sessions:
            name = session.address.session
            self.wrong += [f"{name}: {each}" for each in session.faults()]
            if self.weather.bounded and session.is_degraded:
                self.wrong.append(f"{name}: a token is degraded although the cloud came back in time")
        self.wrong += self._store.wrong

    def _check_leftovers(self) -> None:
        for worker in self._workers.values():
            self.wrong += worker.leftovers()
        if self._store.held():
            self.wrong.append(f"the store holds {self._store.held()} sessions")
        for edge in self._edges:
            link = edge.hub.link
            if link._sessions or link._publishing or link._probing:
                self.wrong.append(f"{edge.process} holds sessions or tasks of ended ones")

    def _check_tasks(self) -> None:
        own = asyncio.current_task()
        tasks = [task for process in self._processes() for task in process.tasks] + self.loop.tasks
        for task in tasks:
            if task is own:
                continue
            if not task.done():
                self.wrong.append(f"a task is still pending: {task.get_coro()}")
            elif task._log_traceback:  # type: ignore[attr-defined]  # nobody has asked how it ended
                self.wrong.append(f"a task failed unheard: {task.exception()!r}")


@contextmanager
def _parts_of(rows: int) -> Iterator[None]:
    """Make steps, and parts of a prompt, of a few rows, so that short texts take several."""
    before = upload_module.CHUNK_BYTES, generation_module.PREFILL_TOKENS
    upload_module.CHUNK_BYTES, generation_module.PREFILL_TOKENS = rows * ROW_BYTES, rows
    try:
        yield
    finally:
        upload_module.CHUNK_BYTES, generation_module.PREFILL_TOKENS = before


def _unheard(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"
