"""The gateway on real brokers, with an agent that does as the test says: every prompt is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.mqtt import MqttTransport
from broker.transport import Incoming
from edge_agent import gateway as gateway_file
from edge_agent.bus import CLOUD, Bus
from edge_agent.gateway import MAX_CORRELATION_BYTES, MAX_RUNNING, MAX_WAITING, DeviceGateway
from edge_agent.prompts import KEPT_S, PromptLedger
from edge_agent.request import Answer, CloudUse, Request, Timings
from ops.device_client import DeviceClient
from shared.errors import BusyError, PromptError
from shared.wire import topics
from shared.wire.topics import DeviceAddress
from tests.conftest import BROKERS, make_broker
from tests.links import link_to
from tests.servers import ServerProcess
from tests.waiting import eventually

WAIT_S = 10.0
Unique = Callable[[str], str]


def answer_to(request: Request, text: str = "done") -> Answer:
    return Answer(request.id, text, None, [], {}, False, "stop", Timings(0, 0, 0, 0, 0), CloudUse())


class ScriptedAgent:
    """An agent that answers once `go` is set, with what the prompt's first word says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.prompts: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    async def answer(self, request: Request, on_token: object = None) -> Answer:
        self.asked.append(request.id)
        await self.go.wait()
        self.prompts.append(request.prompt)
        match request.prompt.split():
            case ["unencodable"]:
                return answer_to(request, "half a pair: \ud83d")
            case ["large", size]:
                return answer_to(request, "x" * int(size))
            case ["busy-at-first"] if self.asked.count(request.id) == 1:
                raise BusyError("not now")
            case ["broken-at-first"] if self.asked.count(request.id) == 1:
                raise ZeroDivisionError
            case ["refused"]:
                raise PromptError("not this one")
            case ["say", text]:
                return answer_to(request, text)
        return answer_to(request)


@dataclass
class Panel:
    """A device that sees every answer it is sent."""

    link: MqttTransport
    address: DeviceAddress
    answers: list[Incoming] = field(default_factory=list)

    async def publish(self, prompt: str, request_id: str, **properties: Any) -> None:
        payload = msgspec.json.encode(Request(prompt, id=request_id))
        topic = topics.device_topic(self.address, "prompt")
        await self.link.publish(topic, payload, qos=1, timeout_s=WAIT_S, **properties)

    def of(self, request_id: str) -> list[dict[str, Any]]:
        decoded = [msgspec.json.decode(incoming.payload) for incoming in self.answers]
        return [answer for answer in decoded if answer["id"] == request_id]

    async def heard(self, request_id: str, count: int = 1) -> list[dict[str, Any]]:
        await eventually(
            lambda: len(self.of(request_id)) >= count, WAIT_S, f"{count} answers to {request_id}"
        )
        return self.of(request_id)


@dataclass
class Home:
    agent: ScriptedAgent
    gateway: DeviceGateway
    panel: Panel

    async def arrived(self, count: int) -> None:
        await eventually(lambda: len(self.gateway._ledger.in_hand) == count, WAIT_S, f"{count} in hand")


@asynccontextmanager
async def home_at(server: ServerProcess, tenant: str) -> AsyncIterator[Home]:
    agent = ScriptedAgent()
    async with link_to(server, f"{tenant}-edge") as edge, link_to(server, f"{tenant}-panel") as device:
        gateway = DeviceGateway([Bus(CLOUD, edge)], agent, tenant=tenant)
        await gateway.start()
        panel = Panel(device, DeviceAddress(tenant, "panel"))
        for leaf in ("answer", "inbox"):
            device.subscribe(topics.device_topic(panel.address, leaf), panel.answers.append, qos=1)
            await device.subscribed(topics.device_topic(panel.address, leaf), WAIT_S)
        await edge.subscribed(topics.prompt_filter(tenant), WAIT_S)
        try:
            yield Home(agent, gateway, panel)
        finally:
            await gateway.stop(grace_s=0.0)


@pytest.fixture
async def home(broker_endpoint: ServerProcess, unique: Unique) -> AsyncIterator[Home]:
    async with home_at(broker_endpoint, unique("home")) as running:
        yield running


async def test_a_repeated_prompt_is_never_busy_however_many_wait(home: Home):
    home.agent.go.clear()
    ids = [str(number) for number in range(MAX_RUNNING + MAX_WAITING)]
    for each in ids[:MAX_RUNNING]:
        await home.panel.publish("x", each)
    await eventually(lambda: len(home.agent.asked) == MAX_RUNNING, WAIT_S)
    for each in ids[MAX_RUNNING:]:
        await home.panel.publish("x", each)
    await home.panel.publish("x", "one too many")
    (refused,) = await home.panel.heard("one too many")
    assert refused["error"]["code"] == "busy"
    assert refused["error"]["retryable"]
    for each in ids:
        await home.panel.publish("x", each)
    home.agent.go.set()
    for each in ids:
        assert [answer["text"] for answer in await home.panel.heard(each)] == ["done"]
    await home.panel.publish("x", "one too many")
    assert (await home.panel.heard("one too many", 2))[1]["text"] == "done"
    assert len(home.agent.asked) == len(ids) + 1


async def test_an_answer_that_has_no_json_is_a_failure_and_the_next_prompts_are_answered(home: Home):
    for number in range(MAX_RUNNING + 1):  # more than there are servers: none of them may end
        await home.panel.publish("unencodable", str(number))
        (failure,) = await home.panel.heard(str(number))
        assert failure["error"]["code"] == "internal"
    await home.panel.publish("x", "last")
    assert (await home.panel.heard("last"))[0]["text"] == "done"


@pytest.mark.parametrize("kind", BROKERS)
async def test_an_answer_over_the_brokers_packet_limit_becomes_a_failure_that_says_so(
    kind: str, tmp_path: Path, unique: Unique
):
    with make_broker(kind, tmp_path, {"max_packet_bytes": 4096}, "max_packet_size 4096") as server:
        async with home_at(server, unique("home")) as home:
            await home.panel.publish("large 4000", "1")
            (failure,) = await home.panel.heard("1")
            assert failure["error"]["code"] == "too_large"
            assert "max_new_tokens" in failure["error"]["message"]
            await home.panel.publish("large 3000", "2")
            assert len((await home.panel.heard("2"))[0]["text"]) == 3000


@pytest.mark.parametrize(("prompt", "code"), [("busy-at-first", "busy"), ("broken-at-first", "internal")])
async def test_a_retryable_failure_is_not_kept_so_the_same_id_may_be_tried_again(
    home: Home, prompt: str, code: str
):
    await home.panel.publish(prompt, "1")
    (failure,) = await home.panel.heard("1")
    assert (failure["error"]["code"], failure["error"]["retryable"]) == (code, True)
    await home.panel.publish(prompt, "1")
    assert (await home.panel.heard("1", 2))[1]["text"] == "done"


async def test_a_final_failure_is_repeated_without_working_again(home: Home):
    for count in (1, 2):
        await home.panel.publish("refused", "1")
        assert (await home.panel.heard("1", count))[-1]["error"]["code"] == "prompt"
    assert home.agent.asked == ["1"]


async def test_a_prompt_repeated_in_hand_is_answered_in_every_place_that_asked(home: Home):
    home.agent.go.clear()
    inbox = topics.device_topic(home.panel.address, "inbox")
    await home.panel.publish("x", "1", correlation_data=b"a")
    await home.panel.publish("x", "1", correlation_data=b"b")
    await home.panel.publish("x", "1", correlation_data=b"b")
    await home.panel.publish("x", "1", correlation_data=b"c", response_topic=inbox)
    await home.panel.publish("x", "2")
    await eventually(lambda: "2" in home.agent.asked, WAIT_S)  # so the repeats have arrived
    home.agent.go.set()
    await home.panel.heard("1", 3)
    await home.panel.heard("2")
    marks = sorted((each.correlation_data or b"", each.topic) for each in home.panel.answers)
    answer = topics.device_topic(home.panel.address, "answer")
    assert marks == [(b"", answer), (b"a", answer), (b"b", answer), (b"c", inbox)]
    assert home.agent.asked == ["1", "2"]


async def test_a_device_that_counts_its_ids_anew_after_a_start_gets_the_answer_to_what_it_asks(home: Home):
    await home.panel.publish("say lights", "1")
    assert [answer["text"] for answer in await home.panel.heard("1")] == ["lights"]
    await home.panel.publish("say door", "1")
    assert [answer["text"] for answer in await home.panel.heard("1", 2)] == ["lights", "door"]
    for count, text in ((3, "door"), (4, "lights")):  # copies that come late; neither is worked on again
        await home.panel.publish(f"say {text}", "1")
        assert (await home.panel.heard("1", count))[-1]["text"] == text
    assert home.agent.prompts == ["say lights", "say door"]


async def test_another_prompt_under_the_id_of_one_in_hand_is_told_so_and_that_one_is_answered(home: Home):
    home.agent.go.clear()
    await home.panel.publish("say lights", "1", correlation_data=b"first")
    await home.arrived(1)
    await home.panel.publish("say door", "1", correlation_data=b"second")
    (failure,) = await home.panel.heard("1")
    assert failure["error"]["code"] == "prompt"
    assert "'1' is being worked on" in failure["error"]["message"]
    assert home.panel.answers[0].correlation_data == b"second"
    home.agent.go.set()
    assert (await home.panel.heard("1", 2))[1]["text"] == "lights"
    assert home.panel.answers[1].correlation_data == b"first"
    assert home.agent.prompts == ["say lights"]


async def test_the_kept_answer_of_another_prompt_is_not_taken_for_the_one_in_hand(
    home: Home,
):
    await home.panel.publish("say lights", "1")
    await home.panel.heard("1")
    home.agent.go.clear()
    await home.panel.publish("say door", "1")
    await home.arrived(1)
    await home.panel.publish("say lights", "1")
    assert (await home.panel.heard("1", 2))[1]["error"]["code"] == "prompt"
    home.agent.go.set()
    assert (await home.panel.heard("1", 3))[2]["text"] == "door"


async def test_an_old_answer_is_not_repeated(home: Home, monkeypatch: pytest.MonkeyPatch):
    now_s = asyncio.get_running_loop().time()
    await home.panel.publish("say lights", "1")
    await home.panel.heard("1")
    monkeypatch.setattr(gateway_file, "_now_s", lambda: now_s + 2 * KEPT_S)
    await home.panel.publish("say lights", "1")
    await home.panel.heard("1", 2)
    assert home.agent.prompts == ["say lights"] * 2


async def test_a_device_that_asks_again_after_the_edge_died_gets_the_answer_and_each_copy_the_same(
    broker_endpoint: ServerProcess, unique: Unique
):
    tenant = unique("home")
    async with home_at(broker_endpoint, tenant) as home:
        home.agent.go.clear()
        await home.panel.publish("say lights", "1")
        await home.arrived(1)
        for server in home.gateway._servers:  # it dies with the prompt in hand, without a last word
            server.cancel()
        home.gateway._ledger = PromptLedger()
    async with home_at(broker_endpoint, tenant) as home:
        for count in (1, 2):
            await home.panel.publish("say lights", "1")
            assert (await home.panel.heard("1", count))[-1]["text"] == "lights"
        assert home.agent.prompts == ["say lights"]


async def test_a_mark_too_long_to_be_repeated_is_refused_with_a_sentence(home: Home):
    await home.panel.publish("x", "1", correlation_data=bytes(MAX_CORRELATION_BYTES + 1))
    await eventually(lambda: home.panel.answers, WAIT_S)
    failure = msgspec.json.decode(home.panel.answers[0].payload)
    assert "correlation data" in failure["error"]["message"]
    assert home.agent.asked == []


async def test_an_edge_that_stops_finishes_what_is_in_hand_and_delivers_it(home: Home):
    home.agent.go.clear()
    ids = [str(number) for number in range(MAX_RUNNING + 2)]  # two of them still wait for their turn
    for each in ids:
        await home.panel.publish("x", each)
    await home.arrived(len(ids))
    stopping = asyncio.create_task(home.gateway.stop(grace_s=WAIT_S))
    asyncio.get_running_loop().call_soon(home.agent.go.set)
    await stopping
    for each in ids:
        assert [answer["text"] for answer in await home.panel.heard(each)] == ["done"]


async def test_an_edge_that_stops_tells_those_it_can_not_answer_to_ask_again(home: Home):
    home.agent.go.clear()
    ids = [str(number) for number in range(MAX_RUNNING + 2)]
    for each in ids:
        await home.panel.publish("x", each)
    await home.arrived(len(ids))
    await home.gateway.stop(grace_s=0.1)
    for each in ids:
        (failure,) = await home.panel.heard(each)
        assert (failure["error"]["code"], failure["error"]["retryable"]) == ("link", True)
        assert "stopping" in failure["error"]["message"]


async def test_a_device_that_asks_twice_at_once_with_one_id_is_told_so(home: Home, unique: Unique):
    home.agent.go.clear()
    client = DeviceClient(home.panel.link, tenant=home.panel.address.tenant, device=unique("client"))
    first = asyncio.create_task(client.ask(Request("x", id="1"), WAIT_S))
    await eventually(lambda: home.agent.asked, WAIT_S)
    with pytest.raises(PromptError, match="'1' is being asked"):
        await client.ask(Request("y", id="1"), WAIT_S)
    home.agent.go.set()
    assert (await first)["text"] == "done"
    assert (await client.ask(Request("x", id="1"), WAIT_S))["text"] == "done"
