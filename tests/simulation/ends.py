"""The two ends of the session protocol without their I/O: an edge's and a worker's."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud_worker.replay import replay
from cloud_worker.scheduler import Scheduler
from cloud_worker.session import Accept, Broken, Gap, Repeat, Stale, Unknown, WorkerSession
from cloud_worker.work import Done, Work
from edge_agent.decode import DecodeLoop, Use
from edge_agent.decode_actions import AskCloud, Rewind, RunStage
from edge_agent.lookahead import Lookahead
from edge_agent.patience import Patience
from edge_agent.rungs import Guess
from edge_agent.session_actions import Action, Answered, Failed
from shared.context.memory import MemoryContextStore
from shared.context.store import LogRecord, SessionLog
from shared.errors import ContextGapError
from shared.wire.messages import (
    Close,
    Open,
    Opened,
    Refused,
    Resume,
    Sampling,
    Step,
    ToEdge,
    Tokens,
    ToWorker,
)
from shared.wire.topics import SessionAddress
from tests.simulation.checked_session import DIGEST, CheckedSession
from tests.simulation.store import run_now
from tests.simulation.toy_model import POLICY, FaultFree, ToyEngine, ToyGrammar, ToyPlace

MOST_TOKENS = 1_000
PATIENCE = Patience(open_deadline_s=0.5, step_deadline_s=1.0, attempts=3, deadline_s=3.0)


@dataclass(slots=True)
class Letter:
    """A message on its way: to a session's edge, to a worker, or to the pool."""

    to: str
    session: str
    message: ToEdge | ToWorker


@dataclass
class PureWorker:
    """The worker's decisions without its I/O, wired as `worker.py`, `admission.py`, `results.py` wire them.

    Attributes:
        unlogged: sessions of which the store keeps nothing new until it is claimed again.
    """

    name: str
    store: MemoryContextStore
    out: list[Letter]
    sessions: dict[str, WorkerSession] = field(default_factory=dict)
    scheduler: Scheduler = field(default_factory=lambda: Scheduler(batch_tokens=4))
    engine: ToyEngine = field(default_factory=ToyEngine)
    unlogged: set[str] = field(default_factory=set)

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
                    if not message.elsewhere:
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
        self.unlogged.discard(name)
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
            case Gap(frontier, taken):
                self._say(name, Resume(step.epoch, step.number, frontier, taken))
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
            self._resume(session, done.error.frontier)
        elif session.epoch == work.epoch:
            assert done.error is None, done.error
            self._answer(session, done)
            self._log(work)

    def _resume(self, session: WorkerSession, frontier: int) -> None:
        dropped = self.scheduler.drop(session.address)
        ends = [session.frontier, frontier] if dropped is None else [session.frontier, frontier, dropped]
        session.frontier = min(ends)
        if session.last_number:
            newest = session.last_number
            resume = Resume(session.epoch, newest, session.frontier, newest)
            self._say(session.address.session, resume)

    def _answer(self, session: WorkerSession, done: Done) -> None:
        if done.work.wants:
            reply = Tokens(done.work.epoch, done.work.number, list(done.tokens))
            session.remember(reply)
            self._say(session.address.session, reply)

    def _log(self, work: Work) -> None:
        name = work.address.session
        if work.number and name not in self.unlogged:
            record = LogRecord(work.from_position, work.count, work.codec, work.states)
            if isinstance(run_now(self.store.append(work.address, work.epoch, record)), Exception):
                self.unlogged.add(name)

    def _say(self, name: str, message: ToEdge) -> None:
        self.out.append(Letter("edge", name, message))


class _Bold(Lookahead):
    """Drafts as far as it may: what is likely to be in vain makes the better histories."""

    def may_draft(self, drafted: int, chain: float, waited_s: float) -> bool:
        """See `Lookahead.may_draft`."""
        return drafted < self.limit


class EdgeEnd:
    """One generation at the edge, wired as `generation.py` and `link.py` wire it.

    Attributes:
        running: the stage that runs; its rows are there already.
        early: whether the loop is still to be told of these rows, before there is a guess.
        run: the generation without faults.
    """

    def __init__(self, index: int, use: Use, lookahead: int) -> None:
        prompt, sampling = range(index, index + 5), Sampling(temperature=1.0, seed=index)
        self.place = ToyPlace(prompt, sampling)
        self.core = CheckedSession(sampling, self.place.states, PATIENCE)
        grammar, window = ToyGrammar.after(prompt), _Bold(lookahead)
        self.loop = DecodeLoop(len(prompt), POLICY, MOST_TOKENS, (), use, grammar, window)
        self.running: RunStage | None = None
        self.early = False
        self.run = FaultFree(prompt, sampling, use)

    def go_on(self, now_s: float) -> list[Action]:
        """Do the next thing that the decode loop wants; a stage's run takes two calls, or three."""
        if self.early:
            self.early = False
            wants = self.loop.on_states(now_s)
            return self.core.ask(wants, now_s) if wants else []
        if self.running is not None:
            self._end_stage(now_s)
            return []
        match self.loop.next_action(now_s):
            case RunStage() as run:
                self.place.ids += self.loop.text(len(self.place.ids) - self.loop.prompt_tokens)
                self.place.advance(run.stage)
                self.running, self.early = run, run.asked
            case AskCloud(wants):
                return self.core.ask(wants, now_s)
            case Rewind(length):
                self.place.rewind(length)
                self.core.rewind(length)
        return []

    def _end_stage(self, now_s: float) -> None:
        run, self.running = self.running, None
        assert run is not None
        guess: Guess | None = self.place.guess(run.stage, run.allowed) if run.guess else None
        self.loop.on_guess(guess, now_s)

    def heed(self, action: Action) -> None:
        """What the conversation with the cloud says to the decode loop."""
        match action:
            case Answered(position, guess):
                self.loop.on_cloud_token(position, guess)
            case Failed():
                self.loop.on_cloud_unavailable()

    def faults(self) -> list[str]:
        """What is not as it has to be."""
        self.run.follow(self.loop.tokens)
        if [token.token for token in self.loop.tokens] != self.run.tokens:
            return [f"{self.loop.tokens} are not the tokens of the run without faults: {self.run.tokens}"]
        return self.core.wrong


def address(name: str) -> SessionAddress:
    return SessionAddress("home", "hub", name)
