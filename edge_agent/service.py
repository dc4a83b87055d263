"""An edge agent put together from settings: bundle, engine, link, device topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from broker.connect import transport_for
from broker.presence import Presence
from edge_agent.agent import AgentSettings, EdgeAgent, ModelFacts
from edge_agent.cloud_session import Patience
from edge_agent.engine import EdgeEngine
from edge_agent.exits import ExitPolicy
from edge_agent.gateway import DeviceGateway
from edge_agent.home.home import Home, load_home
from edge_agent.link import CloudLink
from edge_agent.task import task_for
from shared.bundles import bundle_path
from shared.config import Settings
from shared.model.bundle import Bundle
from shared.model.loading import load_edge
from shared.tensors.codec import codec_named
from shared.wire import topics
from shared.wire.ids import new_id

log = structlog.get_logger(__name__)

DEMO_HOME = Path(__file__).parent / "home" / "demo.yaml"


@asynccontextmanager
async def edge_service(
    settings: Settings, *, serve_devices: bool = True, with_broker: bool = True
) -> AsyncIterator[EdgeAgent]:
    """A running edge agent.

    Args:
        settings: general, broker and edge sections are read.
        serve_devices: listen on the device topics and show presence; False for a guest that only
            answers its caller, under an id of its own.
        with_broker: False never connects: every answer is the edge's alone.

    Raises:
        ConfigError, BundleError, HomeError: the settings can't be followed; the message says why.
    """
    bundle = Bundle.open(bundle_path(settings.general.bundle))
    engine, agent_settings = await asyncio.to_thread(_load, bundle, settings)
    task = task_for(bundle, _home(settings) if bundle.kind == "home" else None)
    facts = ModelFacts(bundle.digest, bundle.vocab_size, bundle.max_positions, bundle.eos_token_ids)
    tenant = settings.general.tenant
    edge = settings.edge.id if serve_devices else new_id("guest-")
    async with AsyncExitStack() as stack:
        stack.callback(engine.close)
        link = None
        if with_broker:
            presence = Presence(topics.edge_status_topic(tenant, edge)) if serve_devices else None
            client_id = f"{tenant}.edge.{edge}"  # a broker has one client of an id, over all tenants
            transport = await stack.enter_async_context(transport_for(settings.broker, client_id, presence))
            link = CloudLink(transport, tenant=tenant, edge=edge, model=bundle.name, digest=bundle.digest)
            stack.push_async_callback(link.aclose)
        agent = EdgeAgent(engine, task, facts, agent_settings, link)
        if with_broker and serve_devices:
            gateway = DeviceGateway(transport, agent, tenant=tenant)
            await gateway.start()
            stack.push_async_callback(gateway.stop)
        log.info("edge_ready", bundle=bundle.name, digest=bundle.digest[:12])
        yield agent


def _load(bundle: Bundle, settings: Settings) -> tuple[EdgeEngine, AgentSettings]:
    """The slow part: weights into memory."""
    edge = settings.edge
    policy = ExitPolicy.of(edge.thresholds or bundle.thresholds, len(bundle.partition.exits))
    engine = EdgeEngine(
        load_edge(bundle),
        codec_named(edge.codec),
        bundle.hidden_size,
        temperatures=bundle.temperatures,
        measures=bundle.measures,
        threads=edge.threads,
    )
    patience = Patience(edge.open_deadline_s, edge.step_deadline_s, edge.max_attempts, edge.deadline_s)
    return engine, AgentSettings(policy, edge.mode, edge.max_new_tokens, patience, bundle.calibration)


def _home(settings: Settings) -> Home:
    return load_home(Path(settings.edge.home).expanduser() if settings.edge.home else DEMO_HOME)
