"""One gateway on two real brokers, with an agent that goes on when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest

from broker.mqtt import MqttTransport
from broker.transport import Incoming
from edge_agent.bus import CLOUD, HOME, Bus
from edge_agent.gateway import DeviceGateway
from edge_agent.request import Answer, AnswerToken, CloudUse, Request, Timings, TokenEvent
from shared.wire import topics
from shared.wire.topics import DeviceAddress
from tests.links import link_to
from tests.servers import ServerProcess
from tests.waiting import eventually

WAIT_S = 10.0
PANEL = DeviceAddress("home", "panel")


class HaltingAgent:
    """Says one token, waits for `go`, says another."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def answer(self, request: Request, on_token=None) -> Answer:
        self.asked.append(request.id)
        tokens = [AnswerToken(text, "edge-1", 1.0) for text in ("first", "second")]
        say = on_token or (lambda _token: None)
        say(tokens[0])
        await self.go.wait()
        say(tokens[1])
        return Answer(request.id, "done", None, tokens, {}, False, "stop", Timings(0, 0, 0, 0, 0), CloudUse())


@dataclass
class Panel:
    """The device at one of the buses."""

    link: MqttTransport
    answers: list[Incoming] = field(default_factory=list)
    stream: list[Incoming] = field(default_factory=list)

    async def asks(self, request_id: str, *, stream: bool = False) -> None:
        payload = msgspec.json.encode(Request("x", id=request_id, stream=stream))
        await self.link.publish(topics.device_topic(PANEL, "prompt"), payload, qos=1, timeout_s=WAIT_S)

    async def hears(self, *ids: str) -> None:
        await eventually(lambda: self.answered == list(ids), WAIT_S, f"answers to {ids}")

    @property
    def answered(self) -> list[str]:
        return [msgspec.json.decode(each.payload)["id"] for each in self.answers]

    @property
    def events(self) -> list[tuple[int, str]]:
        told = [msgspec.json.decode(each.payload, type=TokenEvent) for each in self.stream]
        return [(event.index, event.text) for event in told]


@dataclass
class House:
    agent: HaltingAgent
    gateway: DeviceGateway
    home: Panel
    cloud: Panel


@asynccontextmanager
async def panel_at(server: ServerProcess) -> AsyncIterator[Panel]:
    async with link_to(server, "panel") as link:
        panel = Panel(link)
        for leaf, heard in (("answer", panel.answers), ("stream", panel.stream)):
            topic = topics.device_topic(PANEL, leaf)
            link.subscribe(topic, heard.append, qos=1)
            await link.subscribed(topic, WAIT_S)
        yield panel


@pytest.fixture
async def house(home_server: ServerProcess, cloud_server: ServerProcess) -> AsyncIterator[House]:
    agent = HaltingAgent()
    async with (
        link_to(home_server, "edge") as at_home,
        link_to(cloud_server, "edge") as at_cloud,
        panel_at(home_server) as home,
        panel_at(cloud_server) as cloud,
    ):
        gateway = DeviceGateway([Bus(CLOUD, at_cloud), Bus(HOME, at_home)], agent, tenant="home")
        await gateway.start()
        for link in (at_home, at_cloud):
            await link.subscribed(topics.prompt_filter("home"), WAIT_S)
        try:
            yield House(agent, gateway, home, cloud)
        finally:
            await gateway.stop(grace_s=0.0)


async def test_a_bus_that_joins_in_mid_answer_gets_every_token_and_the_work_is_done_once(house: House):
    await house.home.asks("1", stream=True)
    await eventually(lambda: house.home.events, WAIT_S)
    await house.cloud.asks("1", stream=True)
    await eventually(lambda: house.cloud.events == [(0, "first")], WAIT_S)
    house.agent.go.set()
    whole = [(0, "first"), (1, "second"), (2, "")]
    for panel in (house.home, house.cloud):
        await panel.hears("1")
        await eventually(lambda panel=panel: panel.events == whole, WAIT_S)
    assert house.agent.asked == ["1"]
    assert house.home.answers[0].payload == house.cloud.answers[0].payload


async def test_an_answer_goes_to_the_bus_that_asked_and_to_no_other(house: House):
    house.agent.go.set()
    await house.home.asks("h", stream=True)
    await house.cloud.asks("c", stream=True)
    await house.home.hears("h")
    await house.cloud.hears("c")
    await house.home.asks("h2")
    await house.cloud.asks("c2")
    await house.home.hears("h", "h2")
    await house.cloud.hears("c", "c2")
    for panel, mine in ((house.home, "h"), (house.cloud, "c")):
        assert {msgspec.json.decode(each.payload)["id"] for each in panel.stream} == {mine}


async def test_a_bus_that_is_away_holds_up_nothing_on_the_other_and_gets_its_answers_later(
    house: House, cloud_server: ServerProcess
):
    await house.cloud.asks("c")
    await eventually(lambda: house.agent.asked == ["c"], WAIT_S)
    cloud_server.kill()
    house.agent.go.set()
    await house.home.asks("h")
    await house.home.hears("h")
    assert house.cloud.answered == []
    cloud_server.restart()
    # The answer may pass before the panel is back: then the panel asks again, as devices do.
    await eventually(lambda: house.cloud.link.connected, WAIT_S)
    await eventually(lambda: not house.gateway._buses[CLOUD].deliveries._tasks, WAIT_S)
    if not house.cloud.answered:
        await house.cloud.asks("c")
    await eventually(lambda: "c" in house.cloud.answered, WAIT_S)
    assert house.agent.asked == ["c", "h"]


async def test_an_edge_that_stops_tells_those_who_wait_on_each_bus(house: House):
    await house.home.asks("1")
    await eventually(lambda: house.agent.asked, WAIT_S)
    await house.cloud.asks("1")
    await eventually(
        lambda: [len(places) for places in house.gateway._ledger._in_hand.values()] == [2], WAIT_S
    )
    await house.gateway.stop(grace_s=0.0)
    for panel in (house.home, house.cloud):
        await panel.hears("1")
        assert "stopping" in msgspec.json.decode(panel.answers[0].payload)["error"]["message"]
