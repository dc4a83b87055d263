"""What is reached over the network: the broker, the home's own bus, and Redis."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Final, NamedTuple

from broker.connect import transport_for
from broker.transport import Incoming, Transport
from edge_agent.bridge import check_bridge
from edge_agent.home_bus import client_section
from ops.doctor.check import Check, fail, ok, warn
from shared.config import BrokerSection, Settings
from shared.errors import ConfigError, LinkError, StoreError
from shared.wire.ids import new_id
from shared.wire.topics import ROOT

CONNECT_TIMEOUT_S: Final = 2.0
ECHO_TIMEOUT_S: Final = 1.0
_ECHOES: Final = 9
# Nagle's algorithm and delayed acknowledgements cost 40 ms and more at each turn; a broker without
# them adds less than one.
_NAGLE_S: Final = 0.03


async def check_broker(settings: Settings) -> Check:
    """The broker takes connections, speaks MQTT to us, and echoes without a needless wait."""
    if not settings.broker.host:
        return ok("broker", "none: broker.host is empty, every answer is the edge's alone")
    start = (
        "start one with `antiphon up` or `antiphon broker serve`, or set broker.host and broker.port; until "
        "then every answer is the edge's alone"
    )
    return await _looked_at(_Place("broker", "broker", settings.broker, start), settings.general.tenant)


async def check_home_bus(settings: Settings) -> Check:
    """The home's own bus does too, where one is configured; and the bridge carries what it may."""
    bus = settings.home_bus
    if not bus.wanted:
        return ok("home bus", "not configured: devices speak at the broker")
    try:
        check_bridge(settings)
    except ConfigError as error:
        return fail("home bus", str(error), "mend the settings of the home_bus section")
    start = (
        "start it, or set home_bus.host and home_bus.port; until then only the broker's devices are served"
    )
    if bus.embedded:
        start = "the edge hosts it: start `antiphon edge serve`"
    return await _looked_at(
        _Place("home bus", "home_bus", client_section(bus), start), settings.general.tenant
    )


class _Place(NamedTuple):
    """A broker to look at: its name and section for people, and what to do when nobody is there."""

    name: str
    section: str
    broker: BrokerSection
    start: str

    @property
    def where(self) -> str:
        return f"{self.broker.host}:{self.broker.port}"


async def _looked_at(place: _Place, tenant: str) -> Check:
    try:
        network_s = await _tcp_connect_s(place.broker)
    except (OSError, TimeoutError) as error:
        return fail(place.name, f"nobody answers at {place.where} ({error.__class__.__name__})", place.start)
    guest = new_id("doctor-")
    try:
        async with transport_for(place.broker, guest, None) as transport:
            if not await transport.wait_connected(CONNECT_TIMEOUT_S):
                return _refused(place, transport.trouble)
            echo_s = await _echo_s(transport, f"{ROOT}/{tenant}/doctor/{guest}")
    except ConfigError as error:
        return fail(place.name, str(error), f"mend the settings of the {place.section} section")
    return _judged(place.where, network_s, echo_s, place.name)


def _refused(place: _Place, trouble: str) -> Check:
    keys = ", ".join(f"{place.section}.{key}" for key in ("username", "password", "tls"))
    return fail(
        place.name,
        f"{place.where} takes connections but does not let us in ({trouble or 'no answer'})",
        f"check {keys} and {place.section}.certfile, and that the port speaks MQTT 5",
    )


def _judged(where: str, network_s: float, echo_s: float | None, name: str = "broker") -> Check:
    if echo_s is None:
        return ok(name, f"{where} lets us in; round trip not measured, its rules forbid the doctor's topic")
    detail = f"{where}, round trip {echo_s * 1000:.1f} ms (QoS 1), network {network_s * 1000:.1f} ms"
    if echo_s - 2 * network_s > _NAGLE_S:
        return warn(
            name, detail, "put `set_tcp_nodelay true` into mosquitto.conf, or find what loads the broker"
        )
    return ok(name, detail)


async def _tcp_connect_s(broker: BrokerSection) -> float:
    started_s = time.perf_counter()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, writer = await asyncio.open_connection(broker.host, broker.port)
    took_s = time.perf_counter() - started_s
    writer.close()
    return took_s


async def _echo_s(transport: Transport, topic: str) -> float | None:
    """Median time from publish to delivery on one connection; None where nothing is delivered."""
    echoes: asyncio.Queue[bytes] = asyncio.Queue(_ECHOES)
    transport.subscribe(topic, lambda message: _put(echoes, message), qos=1)
    try:
        async with asyncio.timeout(ECHO_TIMEOUT_S + _ECHOES * 4 * _NAGLE_S):
            await transport.subscribed(topic, ECHO_TIMEOUT_S)
            return statistics.median([await _one_echo_s(transport, topic, echoes) for _ in range(_ECHOES)])
    except (LinkError, TimeoutError):
        return None
    finally:
        transport.unsubscribe(topic)


async def _one_echo_s(transport: Transport, topic: str, echoes: asyncio.Queue[bytes]) -> float:
    started_s = time.perf_counter()
    await transport.publish(topic, b"doctor", qos=1, timeout_s=ECHO_TIMEOUT_S)
    await echoes.get()
    return time.perf_counter() - started_s


def _put(echoes: asyncio.Queue[bytes], message: Incoming) -> None:
    if not echoes.full():
        echoes.put_nowait(message.payload)


async def check_redis(settings: Settings) -> Check:
    """Redis answers, where one is configured."""
    if not settings.worker.redis_url:
        return ok(
            "redis", "not configured: a session's log stays in its worker, the edge replays after a loss"
        )
    try:
        from shared.context.redis import RedisContextStore
    except ImportError:
        return fail("redis", "its client is not installed", "pip install 'antiphon[worker]'")
    try:
        store = RedisContextStore(settings.worker.redis_url)
    except ConfigError as error:
        return fail("redis", str(error), "mend worker.redis_url")
    started_s = time.perf_counter()
    try:
        await store.ping()
    except StoreError as error:
        return fail(
            "redis", str(error), "sessions are answered meanwhile, but not logged: mend Redis or its URL"
        )
    finally:
        await store.aclose()
    return ok("redis", f"{store.where} answers in {(time.perf_counter() - started_s) * 1000:.1f} ms")
