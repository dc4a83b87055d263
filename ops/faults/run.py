"""One run: questions are asked, a fault strikes in mid-answer, and everything that is heard is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec

from edge_agent.request import TokenEvent
from ops.faults.heard import By, Heard
from ops.faults.outcome import Outcome
from ops.faults.questions import question
from ops.faults.rig import EDGE, Plan, Rig
from ops.faults.wired_edge import ask_by_wire
from shared.errors import LinkError
from shared.wire.ids import new_id
from shared.wire.topics import SessionAddress

ANSWER_TIMEOUT_S: Final = 60.0
QUESTIONS: Final = 1 << 16
_RETRY_S: Final = 0.05


class TooLateError(Exception):
    """The answers were over before the fault struck."""


async def nothing(run: Run) -> None:
    """No fault at all."""
    await run.reach()


@dataclass(frozen=True)
class Fault:
    """Something that happens to an installation.

    Attributes:
        name: in tables and on the command line.
        target: what it happens to, for the table's order.
        strike: does it, and undoes what `Rig.mend` can't.
        instead: the whole run, for what strikes others than the rig's own edge.
        after: looks at the installation afterwards; says what is wrong there.
        may_degrade: the edge may have to go on alone for a while.
        deaf: the broker is away for a while, and token events at QoS 0 with it.
        ends: of whom there is one, and whose process it ends: `broker`, `redis`, `edge`; empty: nobody's.
        plan: the rig that it needs.
        tokens: length of an answer. words: of a prompt; None: a short one.
        holds_s: how long it keeps the edge itself busy or away, at most.
        absent: says why it can't be made on this machine; empty where it can.
    """

    name: str
    target: str
    strike: Callable[[Run], Awaitable[None]] = nothing
    after: Callable[[Run], Awaitable[str]] | None = None
    instead: Callable[[Rig, int], Awaitable[Outcome]] | None = None
    may_degrade: bool = False
    deaf: bool = False
    ends: str = ""
    plan: Plan = field(default_factory=Plan)
    tokens: int = 40
    words: int | None = None
    holds_s: float = 0.0
    absent: Callable[[], str] = str

    @property
    def begins_anew(self) -> bool:
        """Whether the edge dies, and with it what it was saying."""
        return self.ends == EDGE


class Run:
    """What a fault sees of its run.

    Attributes:
        rig: the installation.
        rng: the run's dice; a run is the same for the same seed, but for the time things take.
        heard: the questions, and what was heard of them. The first one sets the pace.
        moment: index of the token at which to strike.
        struck: whether the fault has struck while answers were being made.
        served: the run's sessions, and the worker that each went to last, where the fault
            noted it.
    """

    def __init__(self, rig: Rig, rng: Random, heard: Sequence[Heard], tokens: int) -> None:
        self.rig = rig
        self.rng = rng
        self.heard = list(heard)
        self.moment = rng.randint(min(3, tokens // 4), max(4, tokens // 2))
        self.struck = False
        self.served: dict[SessionAddress, str] = {}
        self._over = False
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something was heard."""
        self._changed.set()

    async def reach(self, index: int | None = None) -> None:
        """Wait until the first answer has come to a token; None: the run's moment.

        Raises:
            TooLateError: it ended before.
        """
        index = self.moment if index is None else index
        while len(self.heard[0].events) <= index:
            if self._over:
                raise TooLateError
            self._changed.clear()
            await self._changed.wait()
        self.struck = True

    async def over(self) -> None:
        """Wait until everything is answered."""
        while not self._over:
            self._changed.clear()
            await self._changed.wait()

    async def until(self, event: asyncio.Event) -> None:
        """Wait for something that only happens while answers are being made.

        Raises:
            TooLateError: it did not, and they are all there.
        """
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.over())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if not event.is_set():
            raise TooLateError

    def worker(self) -> str:
        """Who answered the first question's newest token of the cloud's; another one where that is spared.

        Raises:
            TooLateError: nobody has.
        """
        served = (event.worker for event in reversed(self.heard[0].events) if event.worker)
        worker = next(served, "")
        if not worker:
            raise TooLateError
        return self.rng.choice(self.rig.mortals) if worker == self.rig.spared else worker

    async def ask_all(self) -> None:
        """Ask everything at once, until all is answered."""
        await asyncio.gather(*(ask(self.rig, heard, self.changed) for heard in self.heard))
        self._over = True
        self.changed()


def new_run(rig: Rig, fault: Fault, seed: int, sessions: int, *, first: int | None = None) -> Run:
    """A run of a fault, not begun yet.

    Args:
        rig: the installation.
        fault: what shall happen.
        seed: of the run's dice.
        sessions: questions asked at once.
        first: number of the first question, which sets the pace; None: any.
    """
    rng = Random(f"{fault.name} {seed} {sessions}")  # noqa: S311  not for secrets
    first = rng.randrange(QUESTIONS) if first is None else first
    heard = [
        Heard(question(first + place, fault.tokens, fault.words), _by(fault, first, place))
        for place in range(sessions)
    ]
    return Run(rig, rng, heard, fault.tokens)


def _by(fault: Fault, first: int, place: int) -> By:
    """A few over MQTT; where that would leave the device deaf, the one that sets the pace is not."""
    if place == 0:
        return "wire" if fault.deaf or first % 2 else "mqtt"
    return "mqtt" if place % 4 == 3 else "wire"


async def carry_out(run: Run, fault: Fault) -> None:
    """Ask, strike in mid-answer, and wait for the answers."""
    asking = asyncio.ensure_future(run.ask_all())
    try:
        await fault.strike(run)
    except TooLateError:
        run.struck = False
    finally:
        await asking


async def ask(
    rig: Rig, heard: Heard, changed: Callable[[], None], timeout_s: float = ANSWER_TIMEOUT_S
) -> None:
    """Ask a question in the way it names; what comes of it is noted in `heard`."""
    if not heard.request.id:
        heard.request = msgspec.structs.replace(heard.request, id=new_id("ask-"))
    heard.asked_s = now_s()
    if heard.by == "mqtt":
        await rig.device.ask_for(heard, timeout_s, changed)
        return
    try:
        async with asyncio.timeout(timeout_s):
            await _ask_by_wire(rig, heard, changed)
    except TimeoutError:
        heard.failure = f"no answer within {timeout_s:g} s"


async def _ask_by_wire(rig: Rig, heard: Heard, changed: Callable[[], None]) -> None:
    """Again whenever the edge dies over it, as a device does."""

    def on_event(event: TokenEvent, at_s: float) -> None:
        heard.hear(event, at_s)
        changed()

    while True:
        try:
            answer = await ask_by_wire(rig.wire, heard.request, on_event)
        except LinkError:
            await asyncio.sleep(_RETRY_S)
        else:
            heard.take(answer, now_s())
            return


def now_s() -> float:
    """Monotonic seconds, as the wire counts them."""
    return time.monotonic()
