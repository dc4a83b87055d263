"""An edge of a storm: the real link, sessions, decode loop and generation, a toy model behind them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from broker.transport import Transport
from edge_agent.agreement import Agreement
from edge_agent.decode import DecodeLoop, use_of
from edge_agent.generation import Generation, Pace
from edge_agent.link import CloudLink, LinkedSession
from edge_agent.lookahead import DraftTime, Lookahead
from edge_agent.patience import Patience
from edge_agent.request import Mode
from edge_agent.rungs import CLOUD_RUNG, DecodedToken, Guess
from shared.tensors.codec import CODECS
from shared.tensors.compression import COMPRESSED
from shared.wire.messages import Sampling
from shared.wire.topics import SessionAddress
from tests.simulation.checked_session import DIGEST, CheckedSession
from tests.simulation.toy_model import POLICY, STAGES, STOP_TOKENS, Allowed, FaultFree, ToyGrammar, ToyPlace
from tests.simulation.trace import Trace

TENANT, MODEL = "home", "toy"


class SimEngine:
    """Has the interface of `EdgeEngine`: one stage of one session at a time, in virtual time.

    Args:
        random: how long what takes.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def is_busy(self) -> bool:
        """See `EdgeEngine.is_busy`."""
        return self._waiting > 0

    async def run_stage(
        self,
        place: ToyPlace,
        stage: int,
        allowed: Allowed | None = None,
        on_states: Callable[[], None] | None = None,
    ) -> Guess | None:
        """See `EdgeEngine.run_stage`."""

        def forward() -> None:
            if place.void:
                return
            place.advance(stage)
            if on_states is not None:
                on_states()

        await self._run(forward)
        return None if place.void else place.guess(stage, allowed)

    async def catch_up(self, place: ToyPlace, stage: int) -> None:
        """See `EdgeEngine.catch_up`."""
        await self._run(lambda: None if place.void else place.advance(stage))

    async def prefill(self, place: ToyPlace, length: int) -> None:
        """See `EdgeEngine.prefill`."""
        await self._run(lambda: [place.advance(stage, length) for stage in range(STAGES)])

    async def _run(self, forward: Callable[[], object]) -> None:
        """Rows are there some time before whoever waits for them hears of it."""
        await asyncio.sleep(self._random.choice([0.0, 0.0, 0.01, 0.5]) * self._random.random())
        self._waiting += 1
        try:
            async with self._turn:
                await self._work()
                forward()
                await self._work()
        finally:
            self._waiting -= 1

    async def _work(self) -> None:
        await asyncio.sleep(self._random.choice([0.0, 0.001, 0.01]) * self._random.random())


@dataclass(frozen=True, slots=True)
class Wish:
    """What one generation is asked for.

    Attributes:
        budget_s: how long answers of the cloud are of use; infinite: always.
        lookahead: tokens drafted past an unanswered one.
        eager: states go up before anything is asked about them.
        codec: what the states travel in.
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    mode: Mode
    lookahead: int
    eager: bool
    codec: str
    budget_s: float
    new_tokens: int


@dataclass(slots=True)
class Hub:
    """What the sessions of one edge share."""

    name: str
    link: CloudLink
    engine: SimEngine
    agreement: Agreement = field(default_factory=Agreement)
    draft_time: DraftTime = field(default_factory=DraftTime)


class SimSession:
    """One generation: what it said, and what was wrong with it.

    Attributes:
        place: its text and states.
        loop: its decode loop.
        core: its end of the conversation with the cloud.
        told: its tokens, in the order in which they were told.
    """

    def __init__(self, hub: Hub, name: str, wish: Wish, patience: Patience, trace: Trace) -> None:
        self.address = SessionAddress(TENANT, hub.name, name)
        self.place = ToyPlace(wish.prompt, wish.sampling, wish.codec)
        self.told: list[DecodedToken] = []
        self._hub = hub
        self._wish = wish
        self._trace = trace
        self._reason = ""
        reply_time = hub.link.reply_time
        self.core = CheckedSession(wish.sampling, self.place.states, patience, reply_time, wish.codec)
        self.loop = DecodeLoop(
            len(wish.prompt),
            POLICY,
            wish.new_tokens,
            STOP_TOKENS,
            use_of(wish.mode),
            ToyGrammar.after(wish.prompt),
            Lookahead(wish.lookahead, reply_time, hub.agreement, hub.draft_time),
        )

    async def run(self) -> None:
        """Generate, as `agent.py` does."""
        hub, wish = self._hub, self._wish
        linked = hub.link.session(self.address.session, self.core)
        linked.open()
        pace = Pace(wish.eager, hub.link.now_s() + wish.budget_s, hub.link.reply_time)
        way = _TracedWay(linked, self._trace)
        making = Generation(self.loop, hub.engine, self.place, way, self._tell, pace)  # type: ignore[arg-type]
        try:
            self._reason = await making.run()
        finally:
            linked.close()
            self._trace.counts["discarded"] += self.loop.discarded
            self._trace.counts["asked ahead"] += self.core.ahead
            self._trace.counts["partly squeezed"] += len(self.core.codecs) > 1

    def _tell(self, token: DecodedToken) -> None:
        kind = "degraded" if token.degraded else "answered" if token.rung == CLOUD_RUNG else "token"
        self._trace.add(kind, f"{self.address.session} {len(self.told)} {token}")
        self.told.append(token)

    @property
    def is_degraded(self) -> bool:
        """Whether a token is the edge's own although the cloud's was wanted."""
        return any(token.degraded for token in self._said())

    def _said(self) -> list[DecodedToken]:
        return self.loop.tokens + ([] if self.loop.stop is None else [self.loop.stop])

    def faults(self) -> list[str]:
        """What is not as it has to be, now that it is over."""
        said, wish = self._said(), self._wish
        run = FaultFree(wish.prompt, wish.sampling, self.loop.use_cloud, wish.codec)
        run.follow(said)
        faults = list(self.core.wrong)
        if [token.token for token in said] != run.tokens:
            faults.append(f"{said} are not the tokens of the run without faults: {run.tokens}")
        if self.told != self.loop.tokens:
            faults.append("its tokens are not those that were told")
        if self._reason != self._expected_reason(run.tokens):
            faults.append(f"it ended by {self._reason} after {len(said)} tokens")
        return faults

    def _expected_reason(self, tokens: list[int]) -> str:
        """Why an answer of these tokens is over; empty: it is not."""
        if any(token in STOP_TOKENS for token in tokens[:-1]):
            return "an earlier stop token"
        if tokens[-1] in STOP_TOKENS:
            return "stop"
        return "length" if len(tokens) == self._wish.new_tokens else ""


class _TracedWay:
    """A session's way to the cloud that leaves its steps in the story."""

    def __init__(self, linked: LinkedSession, trace: Trace) -> None:
        self._linked = linked
        self._trace = trace
        self.listen = linked.listen
        self.ask = linked.ask

    @property
    def hopeful(self) -> bool:
        """See `Cloud.hopeful`."""
        return self._linked.hopeful

    def push(self) -> None:
        """See `Cloud.push`."""
        before = self._linked.core.rows_sent
        self._linked.push()
        self._trace.counts["rows pushed"] += self._linked.core.rows_sent - before

    def rewind(self, length: int) -> None:
        """See `Cloud.rewind`."""
        self._trace.add("rewound", f"{self._linked.address.session} {length}")
        self._linked.rewind(length)


def draw_wish(random: Random, new_tokens: int, *, bounded: bool) -> Wish:
    """What one session of a storm is asked for."""
    modes: list[Mode] = ["collaborative", "exact"]
    return Wish(
        prompt=tuple(random.randrange(1 << 16) for _ in range(random.choice([1, 3, 12, 40]))),
        sampling=Sampling(temperature=1.0, seed=random.randrange(1 << 62)),
        mode=random.choice(modes),
        lookahead=random.choice([0, 1, 4, 16]),
        eager=random.random() < 0.5,
        budget_s=math.inf if bounded or random.random() < 0.7 else random.uniform(0.05, 8.0),
        new_tokens=new_tokens,
        codec=random.choice([*CODECS, *COMPRESSED]),
    )


def link_of(transport: Transport, edge: str) -> CloudLink:
    """The edge's link."""
    return CloudLink(transport, tenant=TENANT, edge=edge, model=MODEL, digest=DIGEST)
