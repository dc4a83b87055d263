"""The session protocol's own machines against everything a network may do: any order, loss, doubling, delay.

Two sessions of an edge and two workers, without an event loop: the messages lie in a bag. There
rules deliver, drop, double and delay in any order; time passes by a rule. The tokens depend on every row of a
cache, so that texts equal to the fault-free ones prove that every cache was right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import edge_agent.cloud_session as cloud_session_module
from cloud_worker.replay import replay
from cloud_worker.scheduler import Scheduler
from cloud_worker.session import Accept, Broken, Gap, Repeat, Stale, Unknown, WorkerSession
from cloud_worker.work import Done, Work
from edge_agent.cloud_session import Action, Answered, Failed, Patience, SendOpen, SendStep
from edge_agent.cloud_session import Phase as SessionPhase
from edge_agent.states import StateLog
from shared.context.memory import MemoryContextStore
from shared.context.store import LogRecord, SessionLog
from shared.errors import ContextGapError
from shared.wire.messages import Close, Open, Opened, Refused, Resume, Step, ToEdge, Tokens, ToWorker
from shared.wire.topics import SessionAddress
from tests.simulation.edge import CheckedSession
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.store import run_now
from tests.simulation.toy_model import ROW_BYTES, VOCAB, ToyEngine, ToyText

SESSIONS = ("s0", "s1")
WORKERS = ("w0", "w1")
DISASTERS = (
    "worker dies",
    "worker dies unheard",
    "session evicted",
    "cache lost",
    "logs lost",
    "link lost",
)
DIGEST = "d"
CHUNK_ROWS = 2
PATIENCE = Patience(open_deadline_s=0.5, step_deadline_s=1.0, attempts=3, deadline_s=3.0)
# A fair network ends an ask within its deadline; each round below lets some time pass or delivers all.
FAIR_ROUNDS = 400


@dataclass(slots=True)
class Letter:
    """A message on its way: to a session's edge, to a worker, or to the pool."""

    to: str
    session: str
    message: ToEdge | ToWorker


@dataclass
class PureWorker:
    """The worker's decisions without its I/O, wired as `cloud_worker/worker.py` wires them."""

    name: str
    store: MemoryContextStore
    out: list[Letter]
    sessions: dict[str, WorkerSession] = field(default_factory=dict)
    scheduler: Scheduler = field(default_factory=lambda: Scheduler(batch_tokens=4))
    engine: ToyEngine = field(default_factory=ToyEngine)

    def on_message(self, name: str, message: ToWorker, now_s: float) -> None:
        match message:
            case Open():
                self._open(name, message, now_s)
            case Step():
                self._step(name, message, now_s)
            case Close():
                session = self.sessions.get(name)
                if session is not None and message.epoch >= session.epoch:
                    self.forget(name)
                    run_now(self.store.close(address(name), session.epoch))

    def forward(self, now_s: float) -> None:
        for done in self.engine.run(self.scheduler.next_batch(), now_s):
            self._done(done)

    def forget(self, name: str) -> None:
        self.sessions.pop(name, None)
        self.scheduler.drop(address(name))
        self.engine.drop([address(name)])

    def _open(self, name: str, message: Open, now_s: float) -> None:
        stored = run_now(self.store.claim(address(name), message.epoch, DIGEST))
        if not isinstance(stored, SessionLog):
            self._say(name, Refused(message.epoch, "stale_epoch", str(stored), retryable=False))
            return
        session = self.sessions.get(name)
        if session is None:
            session = self._take_in(name, message, stored, now_s)
        elif message.epoch > session.epoch:
            dropped = self.scheduler.drop(session.address)
            ends = [end for end in (session.frontier, dropped, stored.frontier) if end is not None]
            session.take_over(message.epoch, message.codec, message.sampling, frontier=min(ends), now_s=now_s)
        self._say(name, Opened(message.epoch, self.name, session.frontier))

    def _take_in(self, name: str, message: Open, stored: SessionLog, now_s: float) -> WorkerSession:
        session = WorkerSession(address(name), message.epoch, message.codec, message.sampling, 4096, now_s)
        self.sessions[name] = session
        for work in replay(session, stored.records, now_s):
            self.scheduler.add(work)
            session.frontier = work.end_position
        return session

    def _step(self, name: str, step: Step, now_s: float) -> None:
        session = self.sessions.get(name)
        verdict = Unknown() if session is None else session.judge(step, now_s)
        match verdict:
            case Accept(work):
                assert work.epoch == step.epoch, f"{self.name} took a step of another epoch"
                self.scheduler.add(work)
            case Repeat(reply):
                if reply is not None:
                    self._say(name, reply)
            case Gap(frontier):
                self._say(name, Resume(step.epoch, step.number, frontier))
            case Unknown():
                self._say(name, Refused(step.epoch, "session", "open it again", retryable=True))
            case Broken(error):
                raise AssertionError(f"the edge sent what can't be run: {error}")
            case Stale():
                pass

    def _done(self, done: Done) -> None:
        work, name = done.work, done.work.address.session
        session = self.sessions.get(name)
        if session is None:
            self.engine.drop([work.address])
        elif isinstance(done.error, ContextGapError):
            session.frontier = min(session.frontier, done.error.frontier)
            if session.epoch == work.epoch and work.number:
                self._say(name, Resume(work.epoch, work.number, done.error.frontier))
        elif session.epoch == work.epoch:
            assert done.error is None, done.error
            self._answer(session, done)
            self._log(work)

    def _answer(self, session: WorkerSession, done: Done) -> None:
        if done.work.wants:
            session.last_reply = Tokens(done.work.epoch, done.work.number, list(done.tokens))
            self._say(session.address.session, session.last_reply)

    def _log(self, work: Work) -> None:
        if work.number:
            record = LogRecord(work.from_position, work.count, work.codec, work.states)
            run_now(self.store.append(work.address, work.epoch, record))

    def _say(self, name: str, message: ToEdge) -> None:
        self.out.append(Letter("edge", name, message))


@dataclass
class EdgeEnd:
    """One generation at the edge, wired as `edge_agent/link.py` wires it."""

    text: ToyText
    core: CheckedSession
    waiting: bool = False


class SessionProtocol(RuleBasedStateMachine):
    """The bag, the two sides, and the rules of a network without rules."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.bag: list[Letter] = []
        self.late: list[Letter] = []
        self.wrong: list[str] = []
        self.store = MemoryContextStore(clock=lambda: self.now_s)
        self.workers = {name: PureWorker(name, self.store, self.bag) for name in WORKERS}
        self.edges = {name: self._make_edge(index) for index, name in enumerate(SESSIONS)}
        self.refused: set[str] = set()
        self.before = cloud_session_module.CHUNK_BYTES
        cloud_session_module.CHUNK_BYTES = CHUNK_ROWS * ROW_BYTES

    def _make_edge(self, index: int) -> EdgeEnd:
        text = ToyText(tuple(range(index, index + 5)), seed=index)
        core = CheckedSession(DIGEST, VOCAB, "fp32", text.sampling, StateLog(ROW_BYTES), PATIENCE)
        core.stale = self.wrong
        return EdgeEnd(text, core)

    # --- rules -------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(SESSIONS))
    def generate(self, name: str) -> None:
        """The edge goes on, if it is not waiting."""
        edge = self.edges[name]
        if edge.waiting:
            return
        edge.text.catch_up(edge.core.states)
        if edge.text.is_sure():
            edge.text.keep(edge.text.guess(), "edge")
            return
        edge.waiting = True
        self._perform(name, edge.core.ask(edge.text.position, self.now_s, edge.text.allowed() or None))

    @rule(name=st.sampled_from(SESSIONS))
    def open_early(self, name: str) -> None:
        self._perform(name, self.edges[name].core.open(self.now_s))

    @precondition(lambda self: self.bag)
    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def deliver(self, data: st.DataObject, worker: str) -> None:
        self._deliver(self.bag.pop(self._place(data)), worker)

    @precondition(lambda self: self.bag)
    @rule(worker=st.sampled_from(WORKERS), count=st.integers(1, 8))
    def deliver_in_order(self, worker: str, count: int) -> None:
        for _ in range(min(count, len(self.bag))):
            self._deliver(self.bag.pop(0), worker)

    @precondition(lambda self: self.bag)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.bag.pop(self._place(data))

    @precondition(lambda self: self.bag and len(self.late) < 100)
    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        """The copy lies aside and comes at any time, or never."""
        self.late.append(self.bag[self._place(data)])

    @precondition(lambda self: self.late)
    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def arrive_late(self, data: st.DataObject, worker: str) -> None:
        place = data.draw(st.integers(0, len(self.late) - 1))
        self._deliver(self.late[place], worker)

    @rule(worker=st.sampled_from(WORKERS))
    def forward(self, worker: str) -> None:
        self.workers[worker].forward(self.now_s)

    @rule(passed_s=st.sampled_from([0.06, 0.3, 0.6, 1.1]))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        for name, edge in self.edges.items():
            self._perform(name, edge.core.on_deadline(self.now_s))

    @rule(name=st.sampled_from(SESSIONS), worker=st.sampled_from(WORKERS), tokens=st.integers(1, 3))
    def go_well(self, name: str, worker: str, tokens: int) -> None:
        """Without such spells most histories would end before they are interesting."""
        for _ in range(tokens):
            self.generate(name)
            for _ in range(6):
                self.deliver_in_order(worker, 100)
                self.forward(worker)

    @rule(kind=st.sampled_from(DISASTERS), worker=st.sampled_from(WORKERS), name=st.sampled_from(SESSIONS))
    def disaster(self, kind: str, worker: str, name: str) -> None:
        match kind:
            case "worker dies" | "worker dies unheard":
                self._kill(worker, heard=kind == "worker dies")
            case "session evicted":
                self.workers[worker].forget(name)
            case "cache lost":
                self.workers[worker].engine.drop([address(name)])
            case "logs lost":
                self.store._entries.clear()
                self.store._nbytes = 0
            case "link lost":
                for each, edge in self.edges.items():
                    self._perform(each, edge.core.on_link_lost("the broker is away"))

    def _kill(self, worker: str, *, heard: bool) -> None:
        self.workers[worker] = PureWorker(worker, self.store, self.bag)
        for name, edge in self.edges.items() if heard else ():
            self._perform(name, edge.core.on_worker_gone(worker, self.now_s, lost=True))

    # --- what has to hold --------------------------------------------------------------------------

    @invariant()
    def caches_and_logs_hold_what_the_edge_has(self) -> None:
        for name, edge in self.edges.items():
            truth = edge.core.states
            for worker in self.workers.values():
                cache = b"".join(worker.engine.caches.get(address(name), ()))
                assert cache == truth.rows(0, len(cache) // ROW_BYTES), f"{worker.name}'s cache of {name}"
            entry = self.store._entries.get(address(name))
            rows = b"".join(record.states for record in entry.records) if entry is not None else b""
            assert rows == truth.rows(0, len(rows) // ROW_BYTES), f"the log of {name}"

    @invariant()
    def texts_are_those_of_the_run_without_faults(self) -> None:
        for name, edge in self.edges.items():
            assert edge.text.tokens == edge.text.replay(), name

    @invariant()
    def no_stale_word_is_believed(self) -> None:
        assert not self.wrong, self.wrong

    @invariant()
    def no_worker_is_of_an_epoch_that_was_not_opened(self) -> None:
        for worker in self.workers.values():
            for name, session in worker.sessions.items():
                assert session.epoch <= self.edges[name].core.epoch

    @invariant()
    def a_refused_session_stays_refused(self) -> None:
        now = {name for name, edge in self.edges.items() if edge.core.phase is SessionPhase.REFUSED}
        assert self.refused <= now, f"{self.refused - now} went on"
        self.refused = now

    def teardown(self) -> None:
        """The network becomes fair: what is asked ends, and what is asked anew is answered."""
        try:
            if not self.wrong:
                self._end_fairly()
        finally:
            cloud_session_module.CHUNK_BYTES = self.before

    def _end_fairly(self) -> None:
        self._until_quiet()
        for name, edge in self.edges.items():
            edge.text.catch_up(edge.core.states)
            edge.waiting = True
            self._perform(name, edge.core.ask(edge.text.position, self.now_s))
            self._until_quiet()
            refused = edge.core.phase is SessionPhase.REFUSED
            assert edge.text.paths[-1] == ("degraded" if refused else "cloud"), "a fair ask was not answered"
            expected = edge.text.replay() if not edge.text.allowed() else edge.text.tokens
            assert edge.text.tokens[:-1] == expected[:-1]

    def _until_quiet(self) -> None:
        asked_s = self.now_s
        for _ in range(FAIR_ROUNDS):
            while self.bag:
                self._deliver(self.bag.pop(0), WORKERS[0])
            for worker in self.workers.values():
                worker.forward(self.now_s)
            if not self.bag:
                if not any(edge.waiting for edge in self.edges.values()):
                    return
                self.wait(0.05)
            bound_s = PATIENCE.deadline_s + 1.0
            assert self.now_s - asked_s <= bound_s, "an ask outlived its deadline"
        raise AssertionError("the two sides talk for ever")

    # --- the wires ---------------------------------------------------------------------------------

    def _place(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.bag) - 1))

    def _deliver(self, letter: Letter, pool_member: str) -> None:
        name, message = letter.session, letter.message
        if letter.to == "edge":
            core = self.edges[name].core
            self._perform(name, core.on_message(message, self.now_s))  # type: ignore[arg-type]
        else:
            worker = self.workers[pool_member if letter.to == "pool" else letter.to]
            worker.on_message(name, message, self.now_s)  # type: ignore[arg-type]

    def _perform(self, name: str, actions: list[Action]) -> None:
        text = self.edges[name].text
        for action in actions:
            match action:
                case SendOpen(message):
                    self.bag.append(Letter("pool", name, message))
                case SendStep(worker, step):
                    self.bag.append(Letter(worker, name, step))
                case Answered(guess):
                    self.edges[name].waiting = False
                    text.keep(guess.token, "cloud")
                case Failed():
                    self.edges[name].waiting = False
                    text.keep(text.guess(), "degraded")


def address(name: str) -> SessionAddress:
    return SessionAddress("home", "hub", name)


TestSessionProtocol = SessionProtocol.TestCase
TestSessionProtocol.settings = settings(
    stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_machine_finds_a_planted_bug(mutant: Mutant):
    """A search that finds nothing proves little unless it would have found something."""
    hunt = settings(
        max_examples=4_000,  # which examples come depends on the modules that are imported
        stateful_step_count=50,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    with mutant.planted(), pytest.raises(Exception):  # noqa: B017, PT011  whichever way it shows
        run_state_machine_as_test(SessionProtocol, settings=hunt)
