"""The bridge between two real brokers: each message once, in order, bounded, and never in circles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from broker.mqtt import MqttTransport
from broker.transport import Incoming
from edge_agent.bridge import Bridge
from edge_agent.bus import CLOUD, HOME, HOP, Bus
from edge_agent.held import MAX_HELD, MAX_HELD_BYTES
from shared.config import load
from tests.conftest import make_broker
from tests.links import link_to
from tests.servers import ServerProcess
from tests.waiting import eventually

WAIT_S = 10.0
ROOT = "antiphon/v1/home/device"
STATES = f"{ROOT}/+/state"
STATE = f"{ROOT}/lamp/state"


@dataclass
class Side:
    """A client at one of the brokers that hears everything there, and how it was published."""

    transport: MqttTransport
    heard: list[Incoming]

    async def say(self, payload: str | bytes, topic: str = STATE, **properties) -> None:
        payload = payload.encode() if isinstance(payload, str) else payload
        await self.transport.publish(topic, payload, qos=1, timeout_s=WAIT_S, **properties)

    @property
    def words(self) -> list[str]:
        return [incoming.payload.decode() for incoming in self.heard]

    async def hears(self, word: str) -> None:
        await eventually(lambda: word in self.words, WAIT_S, f"{word} heard")


@asynccontextmanager
async def side_at(server: ServerProcess) -> AsyncIterator[Side]:
    async with link_to(server, "watcher") as transport:
        side = Side(transport, [])
        transport.subscribe("#", side.heard.append, qos=1, retain_as_published=True)
        await transport.subscribed("#", WAIT_S)
        yield side


@asynccontextmanager
async def bridged(
    home: ServerProcess, cloud: ServerProcess, *, out: str = "", into: str = "", edge: str = "hub"
) -> AsyncIterator[Bridge]:
    given = {"home_bus.host": "elsewhere", "home_bus.bridge_out": out, "home_bus.bridge_in": into}
    settings = load({**given, "edge.id": edge}, environ={})
    async with link_to(home, edge) as at_home, link_to(cloud, edge) as at_cloud:
        bridge = Bridge(Bus(HOME, at_home), Bus(CLOUD, at_cloud), settings)
        bridge.start()
        if out:
            await at_home.subscribed(out, WAIT_S)
        if into:
            await at_cloud.subscribed(into, WAIT_S)
        try:
            yield bridge
        finally:
            await bridge.aclose()


async def test_only_the_named_topics_go_and_only_in_their_direction(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES, into=f"{ROOT}/+/set"),
    ):
        await home.say("stays", f"{ROOT}/lamp/other")
        await home.say("stays", f"{ROOT}/lamp/set")
        await home.say("stays", f"{ROOT}/lamp/prompt")
        await home.say("goes out", STATE, response_topic=f"{ROOT}/lamp/set", correlation_data=b"7")
        await cloud.say("stays", STATE)
        await cloud.say("comes in", f"{ROOT}/lamp/set")
        await cloud.hears("goes out")
        await home.hears("comes in")
    assert cloud.words.count("stays") == 1  # its own
    assert home.words.count("stays") == 3
    (carried,) = [each for each in cloud.heard if each.payload == b"goes out"]
    assert (carried.topic, carried.response_topic, carried.correlation_data) == (
        STATE,
        f"{ROOT}/lamp/set",
        b"7",
    )


@pytest.mark.parametrize("hubs", [1, 2])
async def test_a_topic_that_goes_both_ways_never_goes_in_circles(
    hubs: int, home_server: ServerProcess, cloud_server: ServerProcess
):
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(side_at(home_server))
        cloud = await stack.enter_async_context(side_at(cloud_server))
        for number in range(hubs):
            hub = bridged(home_server, cloud_server, out=STATES, into=STATES, edge=f"hub-{number}")
            await stack.enter_async_context(hub)
        await home.say("from home")
        await cloud.say("from cloud")
        # What circled would be heard again before these have gone there and back a few times.
        for number in range(3):
            await home.say(f"out {number}")
            await cloud.hears(f"out {number}")
            await cloud.say(f"in {number}")
            await home.hears(f"in {number}")
        await eventually(lambda: cloud.words.count("from home") >= hubs, WAIT_S)
        await eventually(lambda: home.words.count("from cloud") >= hubs, WAIT_S)
    for word in ("from home", "out 0"):
        assert (home.words.count(word), cloud.words.count(word)) == (1, hubs)
    for word in ("from cloud", "in 0"):
        assert (home.words.count(word), cloud.words.count(word)) == (hubs, 1)


async def test_what_an_edge_has_marked_is_not_carried(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES),
    ):
        await home.say("an edge's", user_properties=((HOP, "attic"),))
        await home.say("a device's", user_properties=(("unit", "lux"),))
        await cloud.hears("a device's")
    assert cloud.words == ["a device's"]
    assert cloud.heard[0].user_properties == (("unit", "lux"), (HOP, "hub"))


async def test_messages_wait_for_the_other_bus_in_order_and_the_oldest_go_first(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES) as bridge,
    ):
        await home.say("before")
        await cloud.hears("before")
        cloud_server.kill()
        await eventually(lambda: not cloud.transport.connected, WAIT_S)
        await eventually(lambda: not bridge.out._target.transport.connected, WAIT_S)
        for number in range(MAX_HELD + 5):
            await home.say(str(number))
        await eventually(lambda: bridge.out.dropped == 5, WAIT_S)
        cloud_server.restart()
        await eventually(lambda: bridge.out.carried == MAX_HELD + 1, WAIT_S)
    assert len(bridge.out._held) == 0
    arrived = [int(word) for word in cloud.words[1:]]
    assert arrived == sorted(arrived)
    assert set(arrived) <= set(range(5, MAX_HELD + 5))


async def test_messages_that_wait_are_bounded_in_bytes(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        bridged(home_server, cloud_server, out=STATES) as bridge,
    ):
        cloud_server.kill()
        await eventually(lambda: not bridge.out._target.transport.connected, WAIT_S)
        for _ in range(5):
            await home.say(bytes(MAX_HELD_BYTES // 3 - 100))  # room for three topics
        await eventually(lambda: bridge.out.dropped == 2, WAIT_S)
        assert bridge.out._held.bytes <= MAX_HELD_BYTES


async def retained_at(server: ServerProcess, topic: str = STATE) -> Incoming | None:
    """What a client that connects now is given."""
    found: list[Incoming] = []
    async with link_to(server, f"late-{uuid4().hex[:8]}") as transport:
        transport.subscribe(topic, found.append, qos=1)
        await transport.subscribed(topic, WAIT_S)
        # Whatever is retained has been sent before the answer to this.
        assert await transport.probe(WAIT_S)
    return found[0] if found else None


async def retains(server: ServerProcess, payload: bytes | None, topic: str = STATE) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await retained_at(server, topic)
            if payload == (found and found.payload):
                return


@pytest.mark.parametrize("way", ["out", "into"])
async def test_a_state_meets_who_connects_later_with_what_is_left_of_its_time(
    way: str, home_server: ServerProcess, cloud_server: ServerProcess
):
    source, target = (home_server, cloud_server) if way == "out" else (cloud_server, home_server)
    async with side_at(source) as here:
        await here.say("before the bridge", retain=True, expiry_s=100)
        async with bridged(home_server, cloud_server, **{way: STATES}):
            await retains(target, b"before the bridge")
            first = await retained_at(target)
            await here.say("later", retain=True)
            await here.say("not kept", f"{ROOT}/lamp/state", retain=False)
            await retains(target, b"later")
            second = await retained_at(target)
            await here.say("", retain=True)
            await retains(target, None)
    assert first is not None
    assert second is not None
    assert (first.retain, second.retain) == (True, True)
    assert 80 <= (first.expiry_s or 0) <= 100
    assert second.expiry_s is None


async def test_a_new_connection_to_the_source_carries_only_what_is_new(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    other = f"{ROOT}/door/state"
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES) as bridge,
    ):
        await home.say("on", retain=True)
        await home.say("shut", other, retain=True)
        await cloud.hears("shut")
        source = bridge.out._source.transport
        for turn in ("open", "shut again"):
            await source.stop()
            await home.say(turn, other, retain=True)
            await source.start()
            await cloud.hears(turn)
        await home.say("on", retain=True)  # said anew, so it is no replay
        await home.say("end")
        await cloud.hears("end")
    assert cloud.words == ["on", "shut", "open", "shut again", "on", "end"]


async def test_a_target_that_was_restarted_gets_every_state_again(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        bridged(home_server, cloud_server, out=STATES, into=STATES),
    ):
        await home.say("on", retain=True)
        await retains(cloud_server, b"on")
        cloud_server.kill()
        cloud_server.restart()
        await retains(cloud_server, b"on")
        await retains(home_server, b"on")


@pytest.mark.parametrize("cut", ["home", "cloud"])
async def test_a_state_that_changed_on_both_sides_of_a_cut_is_one_again_after_it(
    cut: str, home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES, into=STATES) as bridge,
    ):
        await home.say("at first", retain=True)
        await retains(cloud_server, b"at first")
        away = (bridge.into if cut == "home" else bridge.out)._target.transport
        await away.stop()
        await home.say("home's", retain=True)
        await cloud.say("cloud's", retain=True)
        waiting = bridge.into if cut == "home" else bridge.out
        await eventually(lambda: waiting.has_state(STATE), WAIT_S)
        await away.start()
        winner = b"cloud's" if cut == "home" else b"home's"
        await retains(home_server, winner)
        await retains(cloud_server, winner)
        # Nothing is under way that would still change it.
        await home.say("end")
        await cloud.hears("end")
        await cloud.say("end of all")
        await home.hears("end of all")
        assert not bridge.into.has_state(STATE)
        assert not bridge.out.has_state(STATE)
    for server in (home_server, cloud_server):
        kept = await retained_at(server)
        assert kept is not None
        assert kept.payload == winner


async def test_a_state_changed_only_at_the_side_that_was_away_wins(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    """The target is given every state again, but not one that is older than its own."""
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES, into=STATES) as bridge,
    ):
        await home.say("at first", retain=True)
        await retains(cloud_server, b"at first")
        uplink = bridge.out._target.transport
        await uplink.stop()
        await cloud.say("cloud's", retain=True)
        await uplink.start()
        await retains(home_server, b"cloud's")
        await home.say("end")
        await cloud.hears("end")
        await retains(cloud_server, b"cloud's")


async def test_one_that_speaks_often_does_not_push_out_another_s_state(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES) as bridge,
    ):
        uplink = bridge.out._target.transport
        assert await uplink.wait_connected(WAIT_S)
        await uplink.stop()
        await home.say("on", retain=True)
        for number in range(MAX_HELD + 5):
            await home.say(str(number), f"{ROOT}/thermometer/state", retain=True)
        await uplink.start()
        await cloud.hears(str(MAX_HELD + 4))
        await retains(cloud_server, b"on")
        assert bridge.out.dropped == 0
    assert set(cloud.words) == {"on", str(MAX_HELD + 4)}


async def test_what_has_expired_while_it_waited_is_not_carried(
    home_server: ServerProcess, cloud_server: ServerProcess
):
    async with (
        side_at(home_server) as home,
        side_at(cloud_server) as cloud,
        bridged(home_server, cloud_server, out=STATES) as bridge,
    ):
        uplink = bridge.out._target.transport
        assert await uplink.wait_connected(WAIT_S)
        await uplink.stop()
        await home.say("short", expiry_s=1)
        await home.say("long", expiry_s=100)
        said_s = time.monotonic()
        await eventually(lambda: time.monotonic() - said_s > 1.1, WAIT_S)
        await uplink.start()
        await cloud.hears("long")
    assert cloud.words == ["long"]
    assert (cloud.heard[0].expiry_s or 0) <= 99
    assert bridge.out.dropped == 1


async def test_a_message_too_large_for_the_other_bus_is_dropped_and_the_next_one_goes(
    home_server: ServerProcess, tmp_path: Path
):
    with make_broker("mosquitto", tmp_path / "small", mosquitto="max_packet_size 4096") as cloud_server:
        async with (
            side_at(home_server) as home,
            side_at(cloud_server) as cloud,
            bridged(home_server, cloud_server, out=STATES) as bridge,
        ):
            await home.say(bytes(8192))
            await home.say("small")
            await cloud.hears("small")
            assert bridge.out.dropped == 1
