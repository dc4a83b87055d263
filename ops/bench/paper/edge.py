"""The edge's side of a run: one model in this process, the product's agent and the yardsticks over it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from broker.connect import transport_for
from broker.transport import Transport
from edge_agent.agent import AgentSettings, EdgeAgent, ModelFacts
from edge_agent.exits import ExitPolicy
from edge_agent.link import CloudLink
from edge_agent.patience import Patience
from edge_agent.task import Task
from ops.bench.paper.channel import Channel
from ops.bench.paper.climb import Rung, rungs_of
from ops.bench.paper.cloud_peers import CloudOnly
from ops.bench.paper.ours import Ours, ScriptedEngine
from ops.bench.paper.peer import Peer
from ops.bench.paper.places import TENANT, Place, broker_at, stay_on
from ops.bench.paper.split_peers import CeCollm, NaiveIncremental, NaiveSplit
from ops.bench.paper.timeline import WatchedTransport
from ops.bench.paper.words import DOWN_TOPIC, DraftPlan
from ops.quality.costs import costs_of
from shared.errors import LinkError
from shared.model.bundle import Bundle
from shared.model.loading import load_edge
from shared.model.precision import precision_named
from shared.tensors.codec import codec_named

CLOUD_ONLY: Final = "cloud only"
SELF_SPECULATION: Final = "cloud, self-speculation"
NAIVE: Final = "naive split"
INCREMENTAL: Final = "naive incremental"
CE_COLLM: Final = "CE-CoLLM"
BLOCKING: Final = "ours, blocking"
LOOKAHEAD: Final = "ours, lookahead"
EXACT: Final = "ours, exact"
EDGE_ONLY: Final = "edge only"
OURS: Final = (BLOCKING, LOOKAHEAD, EXACT)

# What makes each mode of the product; a window of its own choice is the default.
_MODES: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        BLOCKING: {"mode": "collaborative", "lookahead": 0},
        LOOKAHEAD: {"mode": "collaborative"},
        EXACT: {"mode": "exact"},
        EDGE_ONLY: {"mode": "standalone"},
    }
)
_EDGE: Final = "hub"
_CONNECT_TIMEOUT_S: Final = 10.0
# This bench measures a link that is there: nothing may be given up because a slow machine is slow.
_PATIENCE: Final = Patience(20.0, 60.0, 3, 60.0)


@dataclass(frozen=True)
class EdgeSide:
    """What the edge holds.

    Attributes:
        bundle: the model. task: what its prompts mean.
        peers: every row's peer, by its name.
        engine: the product's.
        transport: the product's connection.
        channel, rungs, thread: what yardsticks are made of.
    """

    bundle: Bundle
    task: Task
    peers: dict[str, Peer]
    engine: ScriptedEngine
    transport: WatchedTransport
    channel: Channel
    rungs: list[Rung]
    thread: ThreadPoolExecutor

    def read(self, text: str) -> tuple[int, ...]:
        """The ids that the tokenizer makes of an answer's text."""
        return tuple(self.bundle.tokenizer().encode(text, add_special_tokens=False))

    def speculate(self, plan: DraftPlan) -> None:
        """Let the self-speculating cloud draft like this."""
        self.peers[SELF_SPECULATION] = CloudOnly(self.channel, plan)

    def upload_after(self, rung: int) -> None:
        """Let CE-CoLLM send the states of this rung."""
        stops = self.bundle.eos_token_ids
        self.peers[CE_COLLM] = CeCollm(self.channel, self.rungs, stops, self.thread, rung)


async def edge_side(stack: AsyncExitStack, place: Place, link_port: int) -> EdgeSide:
    """Start the edge; it ends with the stack.

    Args:
        stack: of the caller.
        place: what it serves, and where it computes.
        link_port: where the link to the broker begins.

    Raises:
        LinkError: the broker can't be reached.
    """
    _pin(stack, place)
    bundle, precision = Bundle.open(place.bundle), precision_named(place.weights)
    load = partial(load_edge, bundle, precision.dtype, linear=precision.linear)
    model = await asyncio.to_thread(load)
    broker = broker_at(link_port)
    ours = WatchedTransport(await stack.enter_async_context(transport_for(broker, f"{TENANT}.edge.{_EDGE}")))
    theirs = await stack.enter_async_context(transport_for(broker, f"{TENANT}.edge.yardstick"))
    engine = ScriptedEngine(
        model,
        codec_named("fp16"),
        bundle.hidden_size,
        temperatures=bundle.temperatures,
        measures=bundle.measures,
    )
    stack.callback(engine.close)
    link = CloudLink(ours, tenant=TENANT, edge=_EDGE, model=bundle.name, digest=bundle.digest)
    stack.push_async_callback(link.aclose)
    task = place.task(bundle)
    agent = _agent(bundle, place, engine, task, link)
    channel = Channel(theirs)
    thread = ThreadPoolExecutor(1, thread_name_prefix="yardstick-edge")
    stack.callback(thread.shutdown)
    rungs = rungs_of(bundle, place.thresholds, model, None)
    await _connected(ours, theirs)
    side = EdgeSide(bundle, task, {}, engine, ours, channel, rungs, thread)
    _add_peers(side, agent)
    return side


def _pin(stack: AsyncExitStack, place: Place) -> None:
    if place.edge_core is not None:
        before = os.sched_getaffinity(0)
        stack.callback(os.sched_setaffinity, 0, before)
        stay_on([place.edge_core])


def _agent(bundle: Bundle, place: Place, engine: ScriptedEngine, task: Task, link: CloudLink) -> EdgeAgent:
    facts = ModelFacts(bundle.digest, bundle.vocab_size, bundle.max_positions, bundle.eos_token_ids)
    settings = AgentSettings(ExitPolicy(place.thresholds), patience=_PATIENCE)
    return EdgeAgent(engine, task, facts, settings, link)


async def _connected(ours: WatchedTransport, theirs: Transport) -> None:
    for transport in (ours, theirs):
        if not await transport.wait_connected(_CONNECT_TIMEOUT_S):
            raise LinkError("the broker can't be reached through the link")
    await theirs.subscribed(DOWN_TOPIC, _CONNECT_TIMEOUT_S)


def _add_peers(side: EdgeSide, agent: EdgeAgent) -> None:
    stops = side.bundle.eos_token_ids
    parts = (side.channel, side.rungs, stops, side.thread)
    side.peers[CLOUD_ONLY] = CloudOnly(side.channel)
    side.speculate(DraftPlan(8))
    side.peers[NAIVE] = NaiveSplit(*parts)
    side.peers[INCREMENTAL] = NaiveIncremental(*parts)
    side.upload_after(0)
    cost = costs_of(side.bundle, side.engine.codec).stages[-1]
    for name, wishes in _MODES.items():
        side.peers[name] = Ours(agent, side.engine, cost, side.read, wishes)
