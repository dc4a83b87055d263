"""Everything that one model's rows run on: a broker, the link, the cloud's process, the edge in this one."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ops.bench.link_proxy import Link, LinkProxy
from ops.bench.paper.cloud import CloudProcess
from ops.bench.paper.edge import EdgeSide, edge_side
from ops.bench.paper.peer import Prompt
from ops.bench.paper.places import Place, two_cores
from ops.bench.paper.script import Script
from ops.bench.paper.timeline import Timeline
from ops.bench.paper.timing import Timing
from ops.faults.servers import EmbeddedServer, MosquittoServer, ServerProcess, find_binary

# Last words of an answer are counted with it: they are on the link for less than a round trip and this.
_SETTLE_S: Final = 0.02


class Rig:
    """One model at two places.

    Args:
        bundle: its folder.
        weights: what its layers' weights are kept in.
        thresholds: one for each exit.
        link: how it begins.
        embedded: take our own broker even where Mosquitto is installed.
    """

    def __init__(
        self, bundle: Path, weights: str, thresholds: tuple[float, ...], link: Link, *, embedded: bool
    ) -> None:
        self._bundle = bundle
        self._weights = weights
        self._thresholds = thresholds
        self._link = link
        self._embedded = embedded
        self._exit = AsyncExitStack()
        self._proxy: LinkProxy
        self._cloud: CloudProcess
        self.edge: EdgeSide
        self.broker_name = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="antiphon-paper-")))
        broker = self._exit.enter_context(_broker(folder, embedded=self._embedded))
        self.broker_name = broker.name
        # The link's process begins before the edge takes its core: it must not inherit that.
        self._proxy = self._exit.enter_context(LinkProxy(self._link, broker.port))
        edge_core, cloud_core = two_cores()
        place = Place(self._bundle, self._weights, self._thresholds, broker.port, edge_core, cloud_core)
        self._cloud = self._exit.enter_context(CloudProcess(place))
        self.edge = await edge_side(self._exit, place, self._proxy.port)

    @property
    def link(self) -> Link:
        """Of now."""
        return self._link

    def set_link(self, link: Link) -> None:
        """From now on the link is like this."""
        self._proxy.set_link(link)
        self._link = link

    async def measure(self, name: str, prompt: Prompt, new_tokens: int, script: Script | None) -> Timing:
        """Let a peer answer, and count the link's bytes.

        Args:
            name: of the row.
            prompt: what is asked.
            new_tokens: the answer's bound.
            script: what the exits say, on both sides; None: what they think.
        """
        self._cloud.tell(script)
        before = self._proxy.traffic()
        timing = await self.edge.peers[name].answer(prompt, new_tokens, script)
        await asyncio.sleep(self._link.rtt_ms / 1e3 + _SETTLE_S)
        return timing.over(self._proxy.traffic() - before)

    async def watch(
        self, name: str, prompt: Prompt, new_tokens: int, script: Script | None
    ) -> tuple[Timing, Timeline]:
        """Measure one of the product's modes, and note what happens when."""
        timeline = Timeline()
        self.edge.engine.timeline = self.edge.transport.timeline = timeline
        try:
            return await self.measure(name, prompt, new_tokens, script), timeline
        finally:
            self.edge.engine.timeline = self.edge.transport.timeline = None


def _broker(folder: Path, *, embedded: bool) -> ServerProcess:
    if embedded or find_binary("mosquitto") is None:
        return EmbeddedServer(folder)
    return MosquittoServer(folder)
