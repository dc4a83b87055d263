"""The two sides without an event loop: their messages lie in a bag until somebody takes them out.

Two sessions of an edge and two workers. What the network may do is done by whoever calls the methods here:
deliver, lose, double and delay in any order, let time pass and things break.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import edge_agent.upload as upload_module
from edge_agent.cloud_session import Phase
from edge_agent.decode import Use
from edge_agent.session_actions import Action, SendOpen, SendStep
from shared.context.memory import MemoryContextStore
from tests.simulation.ends import EdgeEnd, Letter, PureWorker, address
from tests.simulation.toy_model import ROW_BYTES

SESSIONS = ("s0", "s1")
WORKERS = ("w0", "w1")
DISASTERS = (
    "worker dies",
    "worker dies unheard",
    "session evicted",
    "cache lost",
    "logs lost",
    "log not written",
    "link lost",
)
CHUNK_ROWS = 2
# A fair network ends an ask within its deadline; each round below lets some time pass or delivers all.
FAIR_ROUNDS = 400


class Bag:
    """The world: letters, two edges' ends, two workers and a clock."""

    def __init__(self, use: Use, lookahead: int) -> None:
        self.now_s = 0.0
        self.letters: list[Letter] = []
        self.late: list[Letter] = []  # copies that come at any time, or never
        self.store = MemoryContextStore(clock=lambda: self.now_s)
        self.workers = {name: PureWorker(name, self.store, self.letters) for name in WORKERS}
        self.edges = {name: EdgeEnd(index, use, lookahead) for index, name in enumerate(SESSIONS)}
        self._refused: set[str] = set()

    # --- what may happen ---------------------------------------------------------------------------

    def generate(self, name: str) -> None:
        self._perform(name, self.edges[name].go_on(self.now_s))

    def push(self, name: str) -> None:
        self._perform(name, self.edges[name].core.push(self.now_s))

    def open_early(self, name: str) -> None:
        self._perform(name, self.edges[name].core.open(self.now_s))

    def deliver(self, place: int, worker: str) -> None:
        self._deliver(self.letters.pop(place), worker)

    def deliver_in_order(self, worker: str, count: int) -> None:
        for _ in range(min(count, len(self.letters))):
            self._deliver(self.letters.pop(0), worker)

    def lose(self, place: int) -> None:
        self.letters.pop(place)

    def double(self, place: int) -> None:
        self.late.append(self.letters[place])

    def arrive_late(self, place: int, worker: str) -> None:
        self._deliver(self.late[place], worker)

    def forward(self, worker: str) -> None:
        self.workers[worker].forward(self.now_s)

    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        for name, edge in self.edges.items():
            self._perform(name, edge.core.on_deadline(self.now_s))

    def go_well(self, name: str, worker: str, rounds: int) -> None:
        """Without such spells most histories would end before they are interesting."""
        for _ in range(rounds):
            for _ in range(4):
                self.generate(name)
            for _ in range(4):
                self.deliver_in_order(worker, 100)
                self.forward(worker)

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
            case "log not written":
                self.workers[worker].unlogged.add(name)
            case "link lost":
                for each, edge in self.edges.items():
                    self._perform(each, edge.core.on_link_lost("the broker is away"))

    def _kill(self, worker: str, *, heard: bool) -> None:
        self.workers[worker] = PureWorker(worker, self.store, self.letters)
        for name, edge in self.edges.items() if heard else ():
            self._perform(name, edge.core.on_worker_gone(worker, self.now_s, lost=True))

    # --- what has to hold --------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if anything is not as it has to be."""
        for name, edge in self.edges.items():
            faults = edge.faults() + list(self._foreign_rows(name)) + list(self._impossible(name))
            assert not faults, f"{name}: {faults}"

    def _foreign_rows(self, name: str) -> Iterator[str]:
        """Rows in caches and logs that this session's edge has never had there."""
        states = self.edges[name].place.states
        for worker in self.workers.values():
            if not states.ever_had(0, b"".join(worker.engine.caches.get(address(name), ()))):
                yield f"{worker.name}'s cache"
        entry = self.store._entries.get(address(name))
        if entry is not None and not states.ever_had(0, b"".join(each.states for each in entry.records)):
            yield "its log"

    def _impossible(self, name: str) -> Iterator[str]:
        core = self.edges[name].core
        for worker in self.workers.values():
            if name in worker.sessions and worker.sessions[name].epoch > core.epoch:
                yield f"{worker.name} has an epoch that was not opened"
        if core.phase is Phase.REFUSED:
            self._refused.add(name)
        elif name in self._refused:
            yield "it went on after it was refused"

    # --- the end -----------------------------------------------------------------------------------

    def end_fairly(self) -> None:
        """The network becomes fair: what is asked ends, and what is asked anew is answered."""
        self._until_quiet()
        for name, edge in self.edges.items():
            while edge.running is not None:  # what was asked about it may have been given up before
                self.generate(name)
                self._until_quiet()
            refused, before = edge.core.phase is Phase.REFUSED, len(edge.loop.tokens)
            self._go_on_fairly(name)
            new = edge.loop.tokens[before:]
            assert refused or not any(token.degraded for token in new), "a fair ask was not answered"
        self.check()

    def _go_on_fairly(self, name: str) -> None:
        """Some more tokens of a session."""
        loop = self.edges[name].loop
        end, asks = len(loop.tokens) + 8, FAIR_ROUNDS
        while len(loop.tokens) < end and asks:
            self.generate(name)
            self._until_quiet(name)
            asks -= 1
        assert asks, "the generation does not go on"

    def _until_quiet(self, only: str = "") -> None:
        """Deliver all until nothing is waited for."""
        for _ in range(FAIR_ROUNDS):
            while self.letters:
                self._deliver(self.letters.pop(0), WORKERS[0])
            for worker in self.workers.values():
                worker.forward(self.now_s)
            if not self.letters:
                if all(edge.core.deadline_s is None for edge in self.edges.values()):
                    return
                self.wait(0.05)
        raise AssertionError("the two sides talk for ever")

    # --- the wires ---------------------------------------------------------------------------------

    def _deliver(self, letter: Letter, pool_member: str) -> None:
        name, message = letter.session, letter.message
        if letter.to == "edge":
            core = self.edges[name].core
            self._perform(name, core.on_message(message, self.now_s))  # type: ignore[arg-type]
        else:
            worker = self.workers[pool_member if letter.to == "pool" else letter.to]
            worker.on_message(name, message, self.now_s)  # type: ignore[arg-type]

    def _perform(self, name: str, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendOpen(message):
                    self.letters.append(Letter("pool", name, message))
                case SendStep(worker, step):
                    self.letters.append(Letter(worker, name, step))
                case _:
                    self.edges[name].heed(action)


@contextmanager
def short_chunks() -> Iterator[None]:
    """Make steps of a few rows, so that short texts take several."""
    before = upload_module.CHUNK_BYTES
    upload_module.CHUNK_BYTES = CHUNK_ROWS * ROW_BYTES
    try:
        yield
    finally:
        upload_module.CHUNK_BYTES = before
