"""An edge agent put together from settings: bundle, engine, link, device topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from broker.connect import transport_for
from broker.mqtt import MqttTransport
from broker.presence import Presence
from broker.transport import Transport
from edge_agent.agent import AgentSettings, EdgeAgent, ModelFacts
from edge_agent.bridge import Bridge, check_bridge
from edge_agent.bus import CLOUD, HOME, HOP, Bus
from edge_agent.codec_choice import AUTO, EXACT, FALLBACK
from edge_agent.deliveries import Marks
from edge_agent.engine import EdgeEngine
from edge_agent.exits import ExitPolicy
from edge_agent.gateway import DeviceGateway
from edge_agent.home.home import Home, load_home
from edge_agent.home_bus import home_transport, hosted, notice_if_away
from edge_agent.link import CloudLink
from edge_agent.patience import Patience
from edge_agent.task import task_for
from shared.bundles import bundle_path
from shared.config import EdgeSection, Settings
from shared.model.bundle import Bundle
from shared.model.loading import load_edge
from shared.model.precision import precision_named
from shared.model.warm_up import warm_up
from shared.tensors.codec import codec_named
from shared.tensors.compression import check_compression, rows_codec
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
        settings: general, broker, home_bus and edge sections are read.
        serve_devices: listen on the device topics of every bus and show presence; False for a guest that
            only answers its caller, under an id of its own.
        with_broker: False never connects: every answer is the edge's alone.

    Without a `broker.host` there is no cloud: devices speak at the home's bus, and the edge answers alone.

    Raises:
        ConfigError, BundleError, HomeError: the settings can't be followed; the message says why.
    """
    check_bridge(settings)
    bundle = Bundle.open(bundle_path(settings.general.bundle))
    async with AsyncExitStack() as stack:
        if with_broker and serve_devices:
            await stack.enter_async_context(hosted(settings.home_bus))
        engine, agent_settings = await asyncio.to_thread(_load, bundle, settings)
        stack.callback(engine.close)
        task = task_for(bundle, _home(settings) if bundle.kind == "home" else None)
        facts = ModelFacts(bundle.digest, bundle.vocab_size, bundle.max_positions, bundle.eos_token_ids)
        edge = settings.edge.id if serve_devices else new_id("guest-")
        cloud: Transport | None = None
        link = None
        if with_broker and settings.broker.host:
            cloud = await stack.enter_async_context(_cloud_transport(settings, edge, shown=serve_devices))
            tenant = settings.general.tenant
            link = CloudLink(cloud, tenant=tenant, edge=edge, model=bundle.name, digest=bundle.digest)
            stack.push_async_callback(link.aclose)
        agent = EdgeAgent(engine, task, facts, agent_settings, link)
        if with_broker and serve_devices:
            await _serve_devices(stack, settings, agent, cloud)
        log.info("edge_ready", bundle=bundle.name, digest=bundle.digest[:12])
        yield agent


def _cloud_transport(settings: Settings, edge: str, *, shown: bool) -> MqttTransport:
    """The connection to the cloud's broker; `shown`: with the edge's presence."""
    tenant = settings.general.tenant
    presence = Presence(topics.edge_status_topic(tenant, edge)) if shown else None
    client_id = f"{tenant}.edge.{edge}"  # a broker has one client of an id, over all tenants
    return transport_for(settings.broker, client_id, presence)


async def _serve_devices(
    stack: AsyncExitStack, settings: Settings, agent: EdgeAgent, cloud: Transport | None
) -> None:
    """Take prompts on every bus there is until `stack` closes.

    Connections begin on the next turn of the loop, and find every subscription wanted: whoever sees the
    edge's presence is heard.
    """
    marks = ((HOP, settings.edge.id),) if settings.home_bus.wanted else ()
    buses = [] if cloud is None else [Bus(CLOUD, cloud, marks)]
    if settings.home_bus.wanted:
        buses.append(await _home_bus(stack, settings, marks))
    if len(buses) == 2:
        _bridge(stack, settings, *buses)
    gateway = DeviceGateway(buses, agent, tenant=settings.general.tenant)
    await gateway.start()
    stack.push_async_callback(gateway.stop)


async def _home_bus(stack: AsyncExitStack, settings: Settings, marks: Marks) -> Bus:
    transport = await stack.enter_async_context(home_transport(settings))
    notice = asyncio.create_task(notice_if_away(transport, settings))
    stack.callback(notice.cancel)
    return Bus(HOME, transport, marks)


def _bridge(stack: AsyncExitStack, settings: Settings, cloud: Bus, home: Bus) -> None:
    bridge = Bridge(home, cloud, settings)
    bridge.start()
    stack.push_async_callback(bridge.aclose)


def _load(bundle: Bundle, settings: Settings) -> tuple[EdgeEngine, AgentSettings]:
    """The slow part: weights into memory."""
    edge = settings.edge
    policy = ExitPolicy.of(edge.thresholds or bundle.thresholds, len(bundle.partition.exits))
    check_compression(edge.codec)
    precision = precision_named(edge.weights)
    model = load_edge(bundle, precision.dtype, linear=precision.linear)
    engine = EdgeEngine(
        model,
        codec_named(FALLBACK if edge.codec == AUTO else rows_codec(edge.codec)),
        bundle.hidden_size,
        temperatures=bundle.temperatures,
        measures=bundle.measures,
        threads=edge.threads,
    )
    warm_up(model.stages, model.heads)
    return engine, AgentSettings(
        policy,
        edge.codec,
        edge.mode,
        edge.lookahead,
        edge.upload,
        edge.latency_budget_s,
        edge.max_new_tokens,
        patience_of(edge),
        bundle.calibration,
        exact_codec=_exact_codec(settings),
    )


def patience_of(edge: EdgeSection) -> Patience:
    """How long that edge waits for the cloud."""
    return Patience(edge.open_deadline_s, edge.step_deadline_s, edge.max_attempts, edge.deadline_s)


def _exact_codec(settings: Settings) -> str:
    """The codec of mode exact: the one that was set together with that mode, else one that loses nothing."""
    meant = settings.edge.mode == "exact" and settings.is_given("edge.codec") and settings.edge.codec != AUTO
    return settings.edge.codec if meant else EXACT


def _home(settings: Settings) -> Home:
    return load_home(Path(settings.edge.home).expanduser() if settings.edge.home else DEMO_HOME)
