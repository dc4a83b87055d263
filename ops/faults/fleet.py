"""Many edges at once, without their models: real links and sessions, states of random numbers.

A worker takes whatever rows it is sent; the token that it draws from the same rows is the same, so each
edge knows its right answer from before the fault.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Final, Self

from broker.connect import transport_for
from edge_agent.cloud_session import CloudSession
from edge_agent.link import CloudLink, CloudReply
from edge_agent.patience import Patience
from edge_agent.states import StateLog
from edge_agent.want import Want
from ops.faults.bounds import overruns
from ops.faults.outcome import Outcome
from ops.faults.rig import TENANT, Rig
from shared.errors import LinkError
from shared.model.bundle import Bundle
from shared.wire.ids import new_id
from shared.wire.messages import Sampling

_ROWS: Final = 4
_CODEC: Final = "fp32"
_FLOAT_BYTES: Final = 4
_PAUSE_S: Final = 0.05
# All edges share one process here: what takes an edge milliseconds, takes this one seconds.
_PATIENCE: Final = Patience(open_deadline_s=2.0, step_deadline_s=4.0, attempts=10, deadline_s=20.0)
CONNECT_TIMEOUT_S: Final = 30.0
BACK_TIMEOUT_S: Final = 90.0


@dataclass(frozen=True)
class Told:
    """What one edge was told, and when (monotonic seconds)."""

    token: int
    at_s: float


class Fleet:
    """So many edges, each with a connection of its own.

    Args:
        rig: whose broker and workers they use.
        bundle: that the workers serve.
        edges: how many.
    """

    def __init__(self, rig: Rig, bundle: Bundle, edges: int) -> None:
        self._broker = rig.settings(rig.broker.port).broker
        self._bundle = bundle
        self._names = [f"fleet-{number}" for number in range(edges)]
        self._links: dict[str, CloudLink] = {}
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for name in self._names:
            transport = transport_for(self._broker, f"{TENANT}.edge.{name}")
            await self._exit.enter_async_context(transport)
            self._links[name] = CloudLink(
                transport, tenant=TENANT, edge=name, model=self._bundle.name, digest=self._bundle.digest
            )
        waits = (link.wait_connected(CONNECT_TIMEOUT_S) for link in self._links.values())
        if not all(await asyncio.gather(*waits)):
            raise LinkError(f"not all of {len(self._names)} edges came to the broker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(link.aclose() for link in self._links.values()))
        await self._exit.aclose()

    async def ask_all(self) -> dict[str, Told]:
        """Each edge asks until the cloud has answered it.

        Raises:
            LinkError: some were not answered within `BACK_TIMEOUT_S`.
        """
        try:
            async with asyncio.timeout(BACK_TIMEOUT_S):
                told = await asyncio.gather(*map(self._ask, self._names))
        except TimeoutError:
            raise LinkError(f"not every edge was answered within {BACK_TIMEOUT_S:g} s") from None
        return dict(zip(self._names, told, strict=True))

    async def _ask(self, name: str) -> Told:
        link = self._links[name]
        while True:
            session = link.session(new_id("s-"), self._core(name, link))
            answer = _Answer()
            session.listen(answer)
            session.ask([Want(_ROWS - 1)])
            token = await answer.token
            session.close()
            if token is not None:
                return Told(token, time.monotonic())
            await asyncio.sleep(_PAUSE_S)

    def _core(self, name: str, link: CloudLink) -> CloudSession:
        width = self._bundle.hidden_size
        states = StateLog(width * _FLOAT_BYTES)
        rng = Random(name)  # noqa: S311  not for secrets
        states.append(array("f", (rng.gauss(0.0, 1.0) for _ in range(_ROWS * width))).tobytes())
        return CloudSession(
            self._bundle.digest,
            self._bundle.vocab_size,
            _CODEC,
            Sampling(),
            states,
            _PATIENCE,
            link.reply_time,
        )


class _Answer:
    """What became of one question."""

    def __init__(self) -> None:
        self.token: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def on_reply(self, reply: CloudReply) -> None:
        if not self.token.done():
            self.token.set_result(reply.guess.token)

    def on_no_reply(self, reason: str) -> None:  # noqa: ARG002  the port's
        if not self.token.done():
            self.token.set_result(None)


async def reconnect(rig: Rig, seed: int, *, edges: int, name: str) -> Outcome:
    """Kill the broker under a fleet, bring it back, and wait until every edge collaborates again."""
    async with Fleet(rig, Bundle.open(rig.bundle), edges) as fleet:
        before = await fleet.ask_all()
        rig.broker.kill()
        await asyncio.to_thread(rig.broker.start)
        back_s = time.monotonic()
        failures, after = [], {}
        try:
            after = await fleet.ask_all()
        except LinkError as error:
            failures = [str(error)]
    wrong = [edge for edge, told in after.items() if told.token != before[edge].token]
    back = max((told.at_s for told in after.values()), default=back_s) - back_s
    peaks = rig.peaks_mib()
    return Outcome(
        fault=name,
        seed=seed,
        sessions=edges,
        struck=True,
        answers=len(after),
        mismatches=[f"{edge} was told another token than before" for edge in wrong],
        lost_or_doubled=0,
        failures=failures,
        degraded_tokens=0,
        recovery_s=back,
        peak_mib=peaks,
        longest_wait_s=back,
        overruns=overruns(back, BACK_TIMEOUT_S, peaks, rig.calm_mib),
    )
