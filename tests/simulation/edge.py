"""An edge of a storm: the real link and sessions, a toy model behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from broker.transport import Transport
from edge_agent.cloud_session import Action, Answered, CloudSession, Patience, SendStep
from edge_agent.link import CloudLink, LinkedSession
from edge_agent.states import StateLog
from shared.wire.messages import ToEdge, Tokens
from shared.wire.topics import SessionAddress
from tests.simulation.toy_model import ROW_BYTES, VOCAB, ToyText
from tests.simulation.trace import Trace

TENANT, MODEL, DIGEST = "home", "toy", "d" * 64
# Virtual time has no jitter; what is added up in another order differs in the last digits.
TOLERANCE_S = 1e-6


class CheckedSession(CloudSession):
    """A session that says when it believes a word which it should not (invariant 7)."""

    stale: list[str]
    _asked: tuple[int, int] = (0, 0)

    def on_message(self, message: ToEdge, now_s: float) -> list[Action]:
        """Take a word in; only the newest step that wants something may be answered."""
        actions = super().on_message(message, now_s)
        if any(isinstance(action, Answered) for action in actions):
            number = message.number if isinstance(message, Tokens) else 0
            if (message.epoch, number) != self._asked:
                self.stale.append(f"{message} was believed, {self._asked} was asked")
        self.watch(actions)
        return actions

    def ask(self, position: int, now_s: float, allowed: Sequence[int] | None = None) -> list[Action]:
        """Ask, and remember which step did."""
        actions = super().ask(position, now_s, allowed)
        self.watch(actions)
        return actions

    def watch(self, actions: Sequence[Action]) -> None:
        """Remember the newest step that wants a token."""
        for action in actions:
            if isinstance(action, SendStep) and action.message.wants:
                self._asked = (action.message.epoch, action.message.number)


class SimSession:
    """One generation: what it said, and what was wrong with it.

    Attributes:
        text: the tokens and their paths.
        wrong: broken promises of the link.
    """

    def __init__(self, link: CloudLink, edge: str, name: str, text: ToyText, patience: Patience) -> None:
        self.address = SessionAddress(TENANT, edge, name)
        self.text = text
        self.states = StateLog(ROW_BYTES)
        self.wrong: list[str] = []
        self._patience = patience
        self.core = CheckedSession(
            DIGEST, VOCAB, "fp32", text.sampling, self.states, patience, link.reply_time
        )
        self.core.stale = self.wrong
        self._link = link

    async def run(self, new_tokens: int, random: Random, trace: Trace) -> None:
        """Generate, as `generation.py` does."""
        linked = self._link.session(self.address.session, self.core)
        linked.open()
        try:
            for _ in range(new_tokens):
                await asyncio.sleep(random.choice([0.001, 0.01, 0.5]) * random.random())
                await self._next(linked, trace)
        finally:
            linked.close()

    async def _next(self, linked: LinkedSession, trace: Trace) -> None:
        text = self.text
        text.catch_up(self.states)
        if text.is_sure():
            text.keep(text.guess(), "edge")
            return
        started_s = self._link.now_s()
        allowed = text.allowed()
        reply = await linked.ask(text.position, allowed or None)
        self._check_time(self._link.now_s() - started_s)
        if reply.guess is None:
            trace.add("degraded", f"{self.address.session} {text.position} {reply.reason}")
            text.keep(text.guess(), "degraded")
        else:
            trace.add("answered", f"{self.address.session} {text.position}")
            text.keep(reply.guess.token, "cloud")

    def _check_time(self, took_s: float) -> None:
        """The ask's own promise (invariant 5)."""
        bound_s = self._patience.deadline_s + self._patience.step_deadline_s * len(self.text.tokens) / 256
        if took_s > bound_s + TOLERANCE_S:
            self.wrong.append(f"an ask took {took_s:.3f} s; it may take {bound_s:.3f} s")


def link_of(transport: Transport, edge: str) -> CloudLink:
    """The edge's link."""
    return CloudLink(transport, tenant=TENANT, edge=edge, model=MODEL, digest=DIGEST)
