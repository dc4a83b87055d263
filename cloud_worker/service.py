"""A cloud worker put together from settings: bundle, engine, store, transport; drained when it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from broker.connect import transport_for
from broker.presence import Presence
from cloud_worker.engine import CloudEngine
from cloud_worker.worker import CloudWorker, WorkerLimits
from shared.bundles import bundle_path
from shared.config import Settings, WorkerSection
from shared.context.memory import MemoryContextStore
from shared.context.store import ContextStore
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.cache import most_room
from shared.model.device import worker_device
from shared.model.loading import load_cloud
from shared.model.stage import Stage
from shared.model.warm_up import warm_up
from shared.wire import topics

log = structlog.get_logger(__name__)


@asynccontextmanager
async def worker_service(settings: Settings) -> AsyncIterator[CloudWorker]:
    """A running worker; leaving the context drains it.

    Args:
        settings: general, broker and worker sections are read.

    Raises:
        ConfigError, BundleError: the settings can't be followed; the message says why.
    """
    section = settings.worker
    bundle = Bundle.open(bundle_path(settings.general.bundle))
    engine = await asyncio.to_thread(_load, bundle, settings)
    status_topic = topics.worker_status_topic(settings.general.tenant, section.id)
    presence = Presence(status_topic, bundle.name, bundle.digest)
    # A broker has one client of an id, over all tenants.
    client_id = f"{settings.general.tenant}.worker.{section.id}"
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(transport_for(settings.broker, client_id, presence))
        worker = CloudWorker(
            transport,
            engine,
            _store(section),
            worker=section.id,
            tenant=settings.general.tenant,
            model=bundle.name,
            digest=bundle.digest,
            pool=section.pool,
            limits=_limits(section, bundle),
        )
        await worker.start()
        stack.push_async_callback(worker.stop)
        stack.push_async_callback(worker.drain)
        log.info("worker_ready", bundle=bundle.name, digest=bundle.digest[:12])
        yield worker


def _load(bundle: Bundle, settings: Settings) -> CloudEngine:
    """The slow part: weights into memory."""
    section = settings.worker
    chosen = settings.is_given("worker.weights")
    device, precision = worker_device(section.device, section.weights, chosen=chosen)
    model = load_cloud(bundle, precision.dtype, str(device), precision.linear)
    _check_budget(model.stage, _limits(section, bundle))
    engine = CloudEngine(model, bundle.hidden_size, bundle.vocab_size, threads=section.threads)
    warm_up([model.stage], [model.head])
    return engine


def _check_budget(stage: Stage, limits: WorkerLimits) -> None:
    """The longest session fits into the budget: of several some are evicted, a single one never is.

    Raises:
        ConfigError: it does not.
    """
    needed_bytes = stage.cache_bytes(most_room(limits.max_positions))
    if needed_bytes > limits.kv_budget_bytes:
        raise ConfigError(
            f"a session of {limits.max_positions} positions may have {-(-needed_bytes >> 20)} MiB of keys "
            f"and values, worker.kv_budget_mib is {limits.kv_budget_bytes >> 20}: raise it, or lower "
            "worker.max_context_tokens"
        )


def _store(section: WorkerSection) -> ContextStore:
    if not section.redis_url:
        return MemoryContextStore(ttl_s=section.session_ttl_s)
    from shared.context.redis import RedisContextStore

    return RedisContextStore(section.redis_url, ttl_s=section.session_ttl_s)


def _limits(section: WorkerSection, bundle: Bundle) -> WorkerLimits:
    return WorkerLimits(
        max_sessions=section.max_sessions,
        session_ttl_s=section.session_ttl_s,
        max_positions=min(section.max_context_tokens, bundle.max_positions),
        kv_budget_bytes=section.kv_budget_mib << 20,
        batch_tokens=section.batch_tokens,
        max_queue_s=section.max_queue_ms / 1000,
        max_sessions_per_edge=section.max_sessions_per_edge,
        steps_per_s_per_edge=section.steps_per_s_per_edge,
        bytes_per_s_per_edge=section.bytes_per_s_per_edge,
        steps_per_s_per_tenant=section.steps_per_s_per_tenant,
        bytes_per_s_per_tenant=section.bytes_per_s_per_tenant,
    )
