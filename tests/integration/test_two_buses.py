"""A home with a bus of its own beside the cloud's broker: real edges, a real Mosquitto as the cloud's."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from structlog.testing import capture_logs

from broker.access import AccessPlan
from broker.connect import transport_for
from broker.mosquitto import render_access
from broker.mqtt import MqttTransport
from broker.passwords import render_password_file
from broker.transport import Incoming
from edge_agent import home_bus
from edge_agent.bus import HOP
from edge_agent.request import Request, TokenEvent
from edge_agent.service import edge_service
from ops.asker import RemoteAsker, find_asker
from ops.device_client import DeviceClient
from ops.doctor.services import check_broker, check_home_bus
from ops.readiness import Readiness
from ops.stack import Stack
from shared.config import BrokerSection, HomeBusSection, Settings, load
from shared.errors import ConfigError
from shared.wire import topics
from shared.wire.ids import new_id
from shared.wire.topics import DeviceAddress
from tests.integration.conftest import (
    ANSWER_TIMEOUT_S,
    READY_TIMEOUT_S,
    Install,
    Installation,
    Reference,
    settings_for,
)
from tests.mqtt_clients import Client
from tests.servers import HOST, EmbeddedServer, MosquittoServer, ServerProcess, free_port
from tests.waiting import eventually, wait_until

PROMPT = "turn on the kitchen lights and close the garage door"
NEW_TOKENS = 60
WAIT_S = 30.0
PANEL = DeviceAddress("home", "panel")
# Less than any deadline of `settings_for`, and far more than an ask that does not wait takes.
NO_WAIT_MS = 1000.0


@dataclass
class Panel:
    """A device at one bus."""

    transport: MqttTransport
    client: DeviceClient
    readiness: Readiness

    async def ask(
        self, prompt: str = PROMPT, on_event: Callable[[TokenEvent], None] | None = None, **wishes: Any
    ) -> dict[str, Any]:
        request = Request(prompt, **{"max_new_tokens": 8, "threshold": 1.0, **wishes})
        answer = await self.client.ask(request, ANSWER_TIMEOUT_S, on_event)
        assert "error" not in answer, answer
        return answer

    async def asks_until_the_cloud_answers(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while (answer := await self.ask())["degraded"]:
                pass
            return answer

    async def finds_the_edge(self) -> None:
        assert await self.readiness.wait(edges=1, workers=0, timeout_s=READY_TIMEOUT_S)


@asynccontextmanager
async def panel_at(port: int, **login: str) -> AsyncIterator[Panel]:
    section = BrokerSection(host=HOST, port=port, **login)
    async with transport_for(section, new_id("panel-")) as transport:
        readiness = Readiness(transport, "home")
        yield Panel(transport, DeviceClient(transport, tenant="home", device="panel"), readiness)


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[list[Incoming]]:
    """All that passes a broker."""
    heard: list[Incoming] = []
    async with transport_for(BrokerSection(host=HOST, port=port), new_id("watch-")) as transport:
        transport.subscribe("#", heard.append, qos=1)
        await transport.subscribed("#", WAIT_S)
        yield heard


def hosting(port: int, **given: Any) -> dict[str, Any]:
    return {"home_bus__embedded": True, "home_bus__port": port, **given}


@dataclass
class House:
    """An edge with both buses, a worker, and a device at each bus."""

    home: Panel
    cloud: Panel
    installation: Installation
    home_port: int


@asynccontextmanager
async def house(
    install: Install, tiny: Reference, server: ServerProcess, **given: Any
) -> AsyncIterator[House]:
    port = free_port()
    async with (
        install(server, tiny.bundle.path, workers=1, **hosting(port, **given)) as installation,
        panel_at(port) as home,
        panel_at(server.port) as cloud,
    ):
        await home.finds_the_edge()
        yield House(home, cloud, installation, port)


def topics_of_devices(heard: list[Incoming]) -> set[str]:
    return {each.topic for each in heard if "/device/" in each.topic}


async def test_a_device_at_home_is_answered_with_the_cloud_and_its_words_stay_at_home(
    install: Install, tiny: Reference, mosquitto_server: MosquittoServer
):
    async with (
        house(install, tiny, mosquitto_server) as rooms,
        watching(mosquitto_server.port) as passed,
    ):
        answer = await rooms.home.ask(stream=True)
        assert answer["output"] == tiny.generate(PROMPT, 8)
        assert answer["rungs"] == {"cloud": 8}
        assert topics_of_devices(passed) == set()
        spoken = b"".join(each.payload for each in passed)
        assert PROMPT.encode() not in spoken
        assert answer["output"].encode() not in spoken
        # The watch itself works: the states have passed there, and so do a device's words of its own.
        assert any("/steps/" in each.topic for each in passed)
        await rooms.cloud.ask()
        await eventually(lambda: topics_of_devices(passed), WAIT_S)
        assert any(PROMPT.encode() in each.payload for each in passed)


async def test_each_prompt_is_answered_on_the_bus_it_came_from_and_there_alone(
    install: Install, tiny: Reference, mosquitto_server: MosquittoServer
):
    async with (
        house(install, tiny, mosquitto_server) as rooms,
        watching(rooms.home_port) as at_home,
        watching(mosquitto_server.port) as at_cloud,
    ):
        mine = topics.device_topic(PANEL, "mine")
        await rooms.cloud.ask(stream=True, id="c")
        await eventually(lambda: len(topics_of_devices(at_cloud)) == 3, WAIT_S)
        assert topics_of_devices(at_home) == set()
        payload = json.dumps({"prompt": PROMPT, "id": "h", "max_new_tokens": 4}).encode()
        await rooms.home.transport.publish(
            topics.device_topic(PANEL, "prompt"), payload, qos=1, response_topic=mine, timeout_s=WAIT_S
        )
        await eventually(lambda: mine in topics_of_devices(at_home), WAIT_S)
        assert mine not in topics_of_devices(at_cloud)


async def test_a_cut_uplink_costs_one_answer_some_tokens_and_the_next_ones_no_wait(
    install: Install, tiny: Reference, mosquitto_server: MosquittoServer
):
    def cut(event: TokenEvent) -> None:
        if event.index == 10 and not event.done:
            mosquitto_server.kill()

    async with house(install, tiny, mosquitto_server) as rooms:
        torn = await rooms.home.ask(on_event=cut, stream=True, max_new_tokens=NEW_TOKENS)
        rungs = [token["rung"] for token in torn["tokens"]]
        assert (rungs[0], rungs[-1]) == ("cloud", "edge-2")
        assert torn["degraded"]
        assert "broker" in torn["note"]

        alone = await rooms.home.ask(mode="standalone")
        offline = await rooms.home.ask()
        assert offline["degraded"]
        assert offline["output"] == alone["output"]
        assert offline["cloud"]["requests"] == alone["cloud"]["requests"] == 0
        assert offline["timings"]["cloud_wait_ms"] < NO_WAIT_MS

        mosquitto_server.restart()
        again = await rooms.home.asks_until_the_cloud_answers()
        assert again["output"] == tiny.generate(PROMPT, 8)


async def test_a_silent_uplink_is_found_out_and_then_costs_no_wait_until_it_is_back(
    install: Install, tiny: Reference, mosquitto_server: MosquittoServer
):
    deadlines = {
        "edge__deadline_s": 1.0,
        "edge__step_deadline_s": 0.5,
        "edge__open_deadline_s": 0.5,
    }
    async with house(install, tiny, mosquitto_server, **deadlines) as rooms:
        assert not (await rooms.home.ask())["degraded"]
        mosquitto_server.freeze()
        async with asyncio.timeout(WAIT_S):
            answer = await rooms.home.ask()
            # The one that is asking when the silence is found out has asked; those after it have not.
            while answer["note"] != "the broker can't be reached" or answer["cloud"]["requests"]:
                assert answer["degraded"]
                answer = await rooms.home.ask()
        assert answer["timings"]["cloud_wait_ms"] < NO_WAIT_MS
        mosquitto_server.unfreeze()
        await rooms.home.asks_until_the_cloud_answers()


async def test_one_prompt_asked_on_both_buses_is_worked_on_once_and_answered_on_each(
    install: Install, tiny: Reference, mosquitto_server: MosquittoServer
):
    async with house(install, tiny, mosquitto_server) as rooms:
        first, second = await asyncio.gather(rooms.home.ask(id="7"), rooms.cloud.ask(id="7"))
        assert first == second  # its times too, so it is one and the same work
        assert await rooms.cloud.ask(id="7") == first


async def test_the_edge_shows_itself_on_both_buses_and_is_missed_on_both(
    install: Install, tiny: Reference, mosquitto_server: MosquittoServer, tmp_path: Path
):
    with EmbeddedServer(tmp_path / "home-bus") as bus:
        given = {"home_bus__host": bus.host, "home_bus__port": bus.port}
        async with (
            install(mosquitto_server, tiny.bundle.path, workers=1, **given) as installation,
            panel_at(bus.port) as home,
            panel_at(mosquitto_server.port) as cloud,
        ):
            await home.finds_the_edge()
            await cloud.finds_the_edge()
            installation.stack.kill("edge")
            await eventually(lambda: not home.readiness.edges and not cloud.readiness.edges, WAIT_S)


async def test_an_edge_serves_the_home_though_the_clouds_broker_was_never_there(
    tiny: Reference, tmp_path: Path
):
    nowhere = MosquittoServer(tmp_path / "never-started")
    port = free_port()
    stack = Stack(
        settings_for(nowhere, tiny.bundle.path, **hosting(port)), workers=0, own_broker=False, restart=False
    )
    try:
        stack.start_all()
        async with panel_at(port) as home:
            await home.finds_the_edge()
            answer = await home.ask()
            alone = await home.ask(mode="standalone")
    finally:
        await stack.stop()
    assert answer["degraded"]
    assert "broker" in answer["note"]
    assert answer["output"] == alone["output"]
    assert answer["cloud"]["requests"] == 0


async def test_a_home_bus_that_is_not_there_is_said_once_and_the_clouds_devices_are_served(
    tiny: Reference, mosquitto_server: MosquittoServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(home_bus, "AWAY_NOTICE_S", 0.2)
    given = {"home_bus__host": "home-bus.invalid", "home_bus__port": 1883}
    settings = settings_for(mosquitto_server, tiny.bundle.path, **given)
    with capture_logs() as logs:
        async with edge_service(settings), panel_at(mosquitto_server.port) as cloud:
            await cloud.finds_the_edge()
            answer = await cloud.ask(mode="standalone")
            await eventually(lambda: any(each["event"] == "home_bus_away" for each in logs), WAIT_S)
    assert answer["tokens"]
    (notice,) = [each for each in logs if each["event"] == "home_bus_away"]
    assert notice["bus"] == "home-bus.invalid:1883"
    assert "home_bus.host" in notice["meanwhile"]


async def test_an_answer_on_a_bridged_topic_stays_on_its_bus(
    tiny: Reference, mosquitto_server: MosquittoServer
):
    port, state = free_port(), topics.device_topic(PANEL, "state")
    given = hosting(port, home_bus__bridge_out="antiphon/v1/home/device/+/state")
    async with (
        edge_service(settings_for(mosquitto_server, tiny.bundle.path, **given)),
        watching(mosquitto_server.port) as passed,
        panel_at(port) as home,
    ):
        await home.finds_the_edge()
        answers: list[Incoming] = []
        home.transport.subscribe(state, answers.append, qos=1)
        await home.transport.subscribed(state, WAIT_S)
        prompt = json.dumps({"prompt": PROMPT, "mode": "standalone", "max_new_tokens": 4}).encode()
        await home.transport.publish(
            topics.device_topic(PANEL, "prompt"), prompt, qos=1, response_topic=state, timeout_s=WAIT_S
        )
        await eventually(lambda: answers, WAIT_S)
        await home.transport.publish(state, b"21.5", qos=1, timeout_s=WAIT_S)
        await eventually(lambda: state in topics_of_devices(passed), WAIT_S)
    assert dict(answers[0].user_properties) == {HOP: "hub"}
    assert [each.payload for each in passed if "/device/" in each.topic] == [b"21.5"]


def guarded(folder: Path, **given: Any) -> dict[str, Any]:
    """A hosted bus that knows the hub and the panel, with the generated access rules."""
    folder.mkdir()
    (folder / "passwords").write_text(render_password_file({"hub": "of the hub", "panel": "of the panel"}))
    (folder / "acl").write_text(render_access([AccessPlan(tenant="home", edges=("hub",))]))
    bus = {
        "home_bus__username": "hub",
        "home_bus__password": "of the hub",
        "home_bus__password_file": str(folder / "passwords"),
        "home_bus__acl_file": str(folder / "acl"),
    }
    return hosting(free_port(), **{**bus, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"home_bus__password": "wrong"}, ["home_bus.username 'hub'", "mosquitto_passwd"]),
        ({"home_bus__password_file": "nowhere"}, ["can't read password file nowhere"]),
        ({"home_bus__acl_file": "nowhere"}, ["can't read ACL file nowhere"]),
        ({"home_bus__listen_host": "192.0.2.1"}, ["home bus", "192.0.2.1", "home_bus.listen_host"]),
        ({"home_bus__bridge_in": "#"}, ["home_bus.bridge_in", "past this tenant's devices"]),
    ],
)
async def test_a_home_bus_that_cannot_be_is_refused_before_the_model_is_read(
    given: dict[str, str],
    words: list[str],
    tiny: Reference,
    mosquitto_server: MosquittoServer,
    tmp_path: Path,
):
    settings = settings_for(mosquitto_server, tiny.bundle.path, **guarded(tmp_path / "bus", **given))
    with pytest.raises(ConfigError) as refusal:
        async with edge_service(settings):
            pass
    assert [word for word in words if word not in str(refusal.value)] == []


async def test_a_hosted_bus_whose_port_is_taken_is_refused_with_the_setting_to_change(
    tiny: Reference, embedded_server: EmbeddedServer, tmp_path: Path
):
    cloud = MosquittoServer(tmp_path / "never-started")
    settings = settings_for(cloud, tiny.bundle.path, **hosting(embedded_server.port))
    with pytest.raises(ConfigError, match=r"choose another port with home_bus\.port"):
        async with edge_service(settings):
            pass


class EdgeServe(ServerProcess):
    """`antiphon edge serve --home-bus` as a process; its port is the home bus's."""

    name = "edge-serve"

    def __init__(self, folder: Path, bundle: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = ["--bundle", str(bundle), *options]

    def command(self) -> list[str]:
        bus = ["--home-bus", "--home-bus-port", str(self.port)]
        return [sys.executable, "-m", "ops.cli", "edge", "serve", *bus, *self.options]

    def start(self) -> Self:
        """Torch takes its time to load: whoever needs the edge waits for its presence."""
        self.launch()
        return self


async def asked_by_command(edge: EdgeServe, tiny: Reference) -> dict[str, Any]:
    """What `antiphon ask` gets with a home bus in the settings."""
    nowhere = MosquittoServer(edge.folder / "never-started")
    settings = settings_for(nowhere, tiny.bundle.path, **hosting(edge.port))
    settings = replace(settings, sources={})  # a file's settings: no address on the command line
    async with AsyncExitStack() as stack:
        asker = await find_asker(stack, settings, local=False, timeout_s=ANSWER_TIMEOUT_S)
        assert isinstance(asker, RemoteAsker)
        return await asker.ask(Request(PROMPT, mode="standalone", max_new_tokens=4), None)


async def test_the_command_hosts_the_bus_answers_there_and_leaves_in_order(tiny: Reference, tmp_path: Path):
    with EdgeServe(tmp_path / "hub", tiny.bundle.path, "--host", HOST, "--port", str(free_port())) as edge:
        async with panel_at(edge.port) as panel:
            await panel.finds_the_edge()
            assert (await panel.ask())["tokens"]
            assert (await asked_by_command(edge, tiny))["tokens"]
            assert edge.process is not None
            edge.process.terminate()
            await eventually(lambda: not edge.running and not panel.readiness.edges, WAIT_S)
            assert edge.process.returncode == 0


def presence_of(device: Client) -> bytes:
    device.subscribe(topics.edge_status_filter("home"), qos=1)
    return device.next(READY_TIMEOUT_S).payload


def ask_as(device: Client, **wishes: Any) -> dict[str, Any]:
    base = topics.device_topic(PANEL, "")
    device.subscribe(f"{base}answer", qos=1)
    request = {"prompt": PROMPT, "max_new_tokens": 4, **wishes}
    device.publish(f"{base}prompt", json.dumps(request).encode(), qos=1)
    answer: dict[str, Any] = json.loads(device.next(ANSWER_TIMEOUT_S).payload)
    return answer


def test_an_edge_with_a_bus_and_no_cloud_answers_its_devices_and_looks_for_no_other_broker(
    tiny: Reference, tmp_path: Path
):
    with EdgeServe(tmp_path / "hub", tiny.bundle.path, "--no-cloud", "--codec", "int8") as edge:
        assert edge.process is not None
        wait_until(lambda: "edge_ready" in edge.log, READY_TIMEOUT_S, "the home's bus")
        with Client(edge, "panel") as device:
            assert presence_of(device)
            answer = ask_as(device)
            assert set(answer["rungs"]) == {"edge-2"}
            assert not answer["degraded"]
            wished = ask_as(device, mode="collaborative", threshold=1.0)
            assert wished["output"] == answer["output"]
            assert wished["degraded"]
            assert "no link to a cloud" in wished["note"]
            ends = psutil.Process(edge.process.pid).net_connections("tcp")
            assert {end.laddr.port for end in ends if end.status == psutil.CONN_LISTEN} == {edge.port}
            called = {end.raddr.port for end in ends if end.raddr and end.laddr.port != edge.port}
            assert called == {edge.port}
        edge.process.terminate()
        assert edge.process.wait(WAIT_S) == 0


async def test_an_edge_at_a_home_broker_without_a_cloud_waits_for_it_and_says_that_no_device_is_served(
    tiny: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(home_bus, "AWAY_NOTICE_S", 0.2)
    with EmbeddedServer(tmp_path / "bus") as bus:
        bus.kill()
        given = {"broker__host": "", "home_bus__host": bus.host, "home_bus__port": bus.port}
        with capture_logs() as logs:
            async with edge_service(settings_for(bus, tiny.bundle.path, **given)):
                await eventually(lambda: any(each["event"] == "home_bus_away" for each in logs), WAIT_S)
                bus.restart()
                async with panel_at(bus.port) as panel:
                    await panel.finds_the_edge()
                    assert not (await panel.ask())["degraded"]
    (notice,) = [each for each in logs if each["event"] == "home_bus_away"]
    assert notice["meanwhile"].startswith("no device is served")


async def test_ask_finds_an_edge_without_a_cloud_at_the_homes_bus(tiny: Reference):
    port = free_port()
    settings = load(
        {
            "general.bundle": str(tiny.bundle.path),
            "general.log_level": "error",
            "broker.host": "",
            "home_bus.embedded": True,
            "home_bus.port": port,
        },
        environ={},
    )
    async with edge_service(settings), AsyncExitStack() as stack:
        asker = await find_asker(stack, settings, local=False, timeout_s=ANSWER_TIMEOUT_S)
        assert isinstance(asker, RemoteAsker)
        assert not (await asker.ask(Request(PROMPT, max_new_tokens=4), None))["degraded"]
    async with AsyncExitStack() as stack:  # and answers itself when told to, with no broker anywhere
        asker = await find_asker(stack, settings, local=True, timeout_s=ANSWER_TIMEOUT_S)
        assert not (await asker.ask(Request(PROMPT, max_new_tokens=4), None))["degraded"]


async def test_the_doctor_does_not_miss_a_broker_that_nobody_wants():
    settings = Settings(broker=BrokerSection(host=""), home_bus=HomeBusSection(embedded=True))
    check = await check_broker(settings)
    assert check.status == "ok"
    assert "broker.host is empty" in check.detail


async def test_the_doctor_looks_at_the_home_bus_too(mosquitto_server: MosquittoServer):
    assert "not configured" in (await check_home_bus(Settings())).detail
    there = HomeBusSection(host=HOST, port=mosquitto_server.port)
    check = await check_home_bus(Settings(home_bus=there))
    assert (check.name, check.status) == ("home bus", "ok")
    absent = await check_home_bus(Settings(home_bus=HomeBusSection(embedded=True, port=free_port())))
    assert absent.status == "fail"
    assert "antiphon edge serve" in absent.fix
    wide = await check_home_bus(Settings(home_bus=HomeBusSection(host=HOST, bridge_out=("#",))))
    assert wide.status == "fail"
    assert "bridge_out" in wide.detail
