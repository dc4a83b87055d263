"""The transport over each broker: it comes back, subscribes again, announces itself, waits with bounds."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import pytest
from aiomqtt import MqttError

from broker.mqtt import MqttTransport
from broker.mqtt_settings import MqttSettings
from broker.paho_link import PahoLink
from broker.presence import OFFLINE_EXPIRY_S, Presence, read_status
from broker.transport import Incoming
from shared.errors import LinkError, MessageTooLargeError, TopicError
from tests.conftest import BROKERS, make_broker
from tests.mqtt_clients import Client
from tests.servers import ServerProcess
from tests.waiting import eventually

Unique = Callable[[str], str]


def transport(server: ServerProcess, client_id: str, **settings: Any) -> MqttTransport:
    return MqttTransport(
        MqttSettings(host=server.host, port=server.port, client_id=client_id, longest_retry_s=0.2, **settings)
    )


async def test_a_message_reaches_the_handler_of_its_filter(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[Incoming] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(f"{topic}/+/reply", got.append, qos=1)
        link.subscribe(f"{topic}/other", lambda _: pytest.fail("another filter's message"))
        await link.subscribed(f"{topic}/+/reply", 5)
        await link.publish(
            f"{topic}/s1/reply",
            b"\x00payload",
            qos=1,
            expiry_s=30,
            response_topic="answer/here",
            correlation_data=b"\x01",
            timeout_s=5,
        )
        await eventually(lambda: got)
    assert 25 <= (got[0].expiry_s or 0) <= 30
    expected = Incoming(
        f"{topic}/s1/reply",
        b"\x00payload",
        1,
        response_topic="answer/here",
        correlation_data=b"\x01",
        expiry_s=got[0].expiry_s,
    )
    assert got == [expected]


async def test_publish_soon_needs_no_await(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[bytes] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(topic, lambda incoming: got.append(incoming.payload))
        await link.subscribed(topic, 5)
        assert all(link.publish_soon(topic, str(number).encode()) for number in range(1000))
        await eventually(lambda: len(got) == 1000)
    assert got == [str(number).encode() for number in range(1000)]


async def test_a_handler_may_publish(broker_endpoint: ServerProcess, topic: str, unique: Unique) -> None:
    got: list[bytes] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(
            f"{topic}/ask", lambda incoming: link.publish_soon(f"{topic}/answer", incoming.payload)
        )
        link.subscribe(f"{topic}/answer", lambda incoming: got.append(incoming.payload))
        await link.subscribed(f"{topic}/answer", 5)
        await link.publish(f"{topic}/ask", b"?", timeout_s=5)
        await eventually(lambda: got == [b"?"])


async def test_user_properties_arrive(broker_endpoint: ServerProcess, topic: str, unique: Unique) -> None:
    got: list[Incoming] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(topic, got.append)
        await link.subscribed(topic, 5)
        with Client(broker_endpoint) as sender:
            sender.publish(topic, b"", UserProperty=[("a", "1"), ("a", "2")])
        await eventually(lambda: got)
    assert got[0].user_properties == (("a", "1"), ("a", "2"))


async def test_a_shared_filter_is_dispatched_without_its_prefix(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[str] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(f"$share/pool/{topic}/open/+", lambda incoming: got.append(incoming.topic), qos=1)
        await link.subscribed(f"$share/pool/{topic}/open/+", 5)
        await link.publish(f"{topic}/open/s1", b"", qos=1, timeout_s=5)
        await eventually(lambda: got == [f"{topic}/open/s1"])


async def test_after_unsubscribing_nothing_comes(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[bytes] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(topic, lambda incoming: got.append(incoming.payload))
        link.subscribe(f"{topic}/end", lambda incoming: got.append(incoming.payload))
        await link.subscribed(topic, 5)
        link.unsubscribe(topic)
        await link.publish(topic, b"unwanted", timeout_s=5)
        await link.publish(f"{topic}/end", b"end", timeout_s=5)
        await eventually(lambda: got == [b"end"])
        with pytest.raises(LinkError, match="not subscribed"):
            await link.subscribed(topic, 0.1)


async def test_a_failing_handler_stops_nobody(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[bytes] = []

    def failing(_: Incoming) -> None:
        raise RuntimeError("a handler's own fault")

    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(f"{topic}/bad", failing)
        link.subscribe(f"{topic}/good", lambda incoming: got.append(incoming.payload))
        await link.subscribed(f"{topic}/good", 5)
        await link.publish(f"{topic}/bad", b"", timeout_s=5)
        await link.publish(f"{topic}/good", b"x", timeout_s=5)
        await eventually(lambda: got == [b"x"])
        assert link.connected
        assert link.subscriptions.failed_handlers == 1


async def test_an_invalid_filter_is_refused_at_once(own_broker: ServerProcess) -> None:
    with pytest.raises(TopicError):
        transport(own_broker, "t").subscribe("a/#/b", lambda _: None)


@pytest.mark.parametrize("kind", BROKERS)
async def test_what_the_broker_would_not_take_is_not_sent(kind: str, tmp_path: Path) -> None:
    """A broker closes the connection over a packet that is too large; it told us its limit."""
    server = make_broker(kind, tmp_path, {"max_packet_bytes": 2_000}, "max_packet_size 2000")
    with server:
        async with transport(server, "t") as link:
            assert await link.wait_connected(10)
            with pytest.raises(MessageTooLargeError, match="2000"):
                await link.publish("a", bytes(2_000), qos=1, timeout_s=5)
            assert not link.publish_soon("a", bytes(2_000))
            await link.publish("a", bytes(1_000), qos=1, timeout_s=5)
            with pytest.raises(TopicError):
                await link.publish("a/#", b"", qos=1, timeout_s=5)


SIZES = [0, 1, 100, 127, 128, 16_383, 16_384, 65_536, 200_000]


async def test_what_is_published_in_one_turn_arrives_whole_and_in_order(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """Packets of a turn share a write, and packets that arrive together a read; their bounds must hold."""
    sent = [bytes([at % 256]) * size for at, size in enumerate(SIZES * 10)]
    got: list[bytes] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(topic, lambda incoming: got.append(incoming.payload))
        await link.subscribed(topic, 5)
        assert all(link.publish_soon(topic, payload) for payload in sent)
        await eventually(lambda: len(got) == len(sent), 20)
    assert got == sent


async def test_messages_of_every_kind_keep_what_belongs_to_them(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """Plain ones at QoS 0 go a way of their own past paho; the others go through it."""
    got: list[Incoming] = []
    name = f"{topic}/küche/✓"
    async with transport(broker_endpoint, unique("t")) as link:
        link.subscribe(f"{topic}/#", got.append, qos=1)
        await link.subscribed(f"{topic}/#", 5)
        for turn in range(3):
            await link.publish(name, b"acknowledged %d" % turn, qos=1, timeout_s=5)
            assert link.publish_soon(name, b"plain %d" % turn)
            await link.publish(name, b"named %d" % turn, user_properties=(("k", "v"),), timeout_s=5)
        await eventually(lambda: len(got) == 9)
    assert sorted(got, key=lambda each: each.payload) == [
        *(Incoming(name, b"acknowledged %d" % turn, 1) for turn in range(3)),
        *(Incoming(name, b"named %d" % turn, user_properties=(("k", "v"),)) for turn in range(3)),
        *(Incoming(name, b"plain %d" % turn) for turn in range(3)),
    ]


async def test_a_retained_message_is_known_as_one(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[Incoming] = []
    async with transport(broker_endpoint, unique("t")) as link:
        await link.wait_connected(5)
        await link.publish(topic, b"kept", qos=1, retain=True, timeout_s=5)
        link.subscribe(topic, got.append)
        await eventually(lambda: got)
        await link.publish(topic, b"", qos=1, retain=True, timeout_s=5)
    assert got[0] == Incoming(topic, b"kept", 0, retain=True)


async def test_on_request_a_message_says_whether_it_was_published_as_retained(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    asked: list[Incoming] = []
    other: list[Incoming] = []
    async with (
        transport(broker_endpoint, unique("asked")) as link,
        transport(broker_endpoint, unique("other")) as beside,
    ):
        link.subscribe(topic, asked.append, qos=1, retain_as_published=True)
        beside.subscribe(topic, other.append, qos=1)
        assert await link.wait_connected(5)
        assert await beside.wait_connected(5)
        await link.publish(topic, b"kept", qos=1, retain=True, timeout_s=5)
        await link.publish(topic, b"not kept", qos=1, timeout_s=5)
        await eventually(lambda: len(asked) == len(other) == 2)
    assert [each.retain for each in asked] == [True, False]
    assert [each.retain for each in other] == [False, False]


async def test_a_probe_brings_nothing_retained_a_second_time(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    got: list[bytes] = []
    async with transport(broker_endpoint, unique("link")) as link:
        link.subscribe(topic, lambda incoming: got.append(incoming.payload), qos=1, retain_as_published=True)
        assert await link.wait_connected(5)
        await link.publish(topic, b"kept", qos=1, retain=True, timeout_s=5)
        assert await link.probe(5)
        await link.publish(topic, b"last", qos=1, retain=True, timeout_s=5)
        await eventually(lambda: b"last" in got)
    assert got == [b"kept", b"last"]


async def test_a_topic_that_is_none_is_refused_before_it_is_sent(
    broker_endpoint: ServerProcess, unique: Unique
) -> None:
    async with transport(broker_endpoint, unique("t")) as link:
        assert await link.wait_connected(5)
        for bad in ("", "a/#", "a/+/b", "a\0"):
            with pytest.raises(TopicError):
                link.publish_soon(bad, b"")


def retained_online(server: ServerProcess, topic: str) -> bool | None:
    """What a latecomer hears of a sender; None when nothing is retained."""
    with Client(server) as late:
        late.subscribe(topic)
        late.ping()
        return None if late.messages.empty() else read_status(late.next().payload).online


# --- loss and return ---------------------------------------------------------------------------------


async def test_start_does_not_need_a_broker(own_broker: ServerProcess) -> None:
    own_broker.kill()
    async with transport(own_broker, "t") as link:
        assert not await link.wait_connected(0.2)
        assert not link.publish_soon("a", b"")
        with pytest.raises(LinkError):
            await link.publish("a", b"", qos=1, timeout_s=1)
        own_broker.restart()
        assert await link.wait_connected(10)
        await link.publish("a", b"", qos=1, timeout_s=5)


async def test_a_killed_broker_is_noticed_at_once_and_subscriptions_return(own_broker: ServerProcess) -> None:
    """kill -9 of the broker, three times; the last message arrives all the same."""
    got: list[bytes] = []
    states: list[bool] = []
    async with transport(own_broker, "t") as link:
        link.on_state(states.append)
        link.subscribe("a/+", lambda incoming: got.append(incoming.payload), qos=1)
        link.subscribe("$share/g/b", lambda incoming: got.append(incoming.payload), qos=1)
        assert await link.wait_connected(10)
        for attempt in range(3):
            own_broker.kill()
            lost_s = time.monotonic()
            await eventually(lambda: not link.connected, 1)
            assert time.monotonic() - lost_s < 0.5
            assert not link.publish_soon("a/x", b"lost")
            own_broker.restart()
            assert await link.wait_connected(10)
            await link.subscribed("a/+", 5)
            for name in ("a/x", "b"):
                await link.publish(name, str(attempt).encode(), qos=1, timeout_s=5)
            await eventually(lambda count=2 * (attempt + 1): len(got) == count)
    assert got == [b"0", b"0", b"1", b"1", b"2", b"2"]
    assert states == [True, False, True, False, True, False, True, False]


async def test_a_publish_that_waits_fails_when_the_broker_dies(own_broker: ServerProcess) -> None:
    async with transport(own_broker, "t") as link:
        assert await link.wait_connected(10)
        own_broker.freeze()
        waiting = asyncio.create_task(link.publish("a", b"", qos=1, timeout_s=30))
        await asyncio.sleep(0)
        own_broker.unfreeze()
        own_broker.kill()
        began_s = time.monotonic()
        # Either the acknowledgement was on its way already, or the loss is told; never the whole 30 s.
        result = await asyncio.gather(waiting, return_exceptions=True)
        assert result[0] is None or isinstance(result[0], LinkError)
        assert time.monotonic() - began_s < 5


async def test_a_publish_to_a_frozen_broker_ends_in_time(own_broker: ServerProcess) -> None:
    async with transport(own_broker, "t") as link:
        assert await link.wait_connected(10)
        own_broker.freeze()
        began_s = time.monotonic()
        with pytest.raises(LinkError, match=r"within 0\.2 s"):
            await link.publish("a", b"", qos=1, timeout_s=0.2)
        assert 0.15 < time.monotonic() - began_s < 1
        own_broker.unfreeze()
        await link.publish("a", b"", qos=1, timeout_s=5)


async def test_a_frozen_broker_bounds_what_waits_to_be_written(own_broker: ServerProcess) -> None:
    async with transport(own_broker, "t", max_unwritten_bytes=1_000_000) as link:
        assert await link.wait_connected(10)
        own_broker.freeze()
        sent = 0
        while link.publish_soon("a", bytes(100_000)):
            sent += 1
            await asyncio.sleep(0)
            assert sent < 1000
        own_broker.unfreeze()
        await eventually(lambda: link.publish_soon("a", b"again"), 10)


async def test_a_frozen_broker_is_noticed_by_keep_alive(own_broker: ServerProcess) -> None:
    async with transport(own_broker, "t", keepalive_s=1, connect_timeout_s=1.0) as link:
        assert await link.wait_connected(10)
        own_broker.freeze()
        await eventually(lambda: not link.connected, 10)
        own_broker.unfreeze()
        assert await link.wait_connected(10)


async def test_stopping_while_the_broker_is_frozen_is_bounded(own_broker: ServerProcess) -> None:
    own_broker.freeze()
    link = transport(own_broker, "t", connect_timeout_s=0.5)
    await link.start()
    assert not await link.wait_connected(0.2)
    began_s = time.monotonic()
    await link.stop()
    assert time.monotonic() - began_s < 4


@pytest.mark.parametrize("soon", [True, False], ids=["publish_soon", "publish"])
async def test_a_connection_that_can_t_be_written_to_is_replaced(
    broker_endpoint: ServerProcess, topic: str, unique: Unique, monkeypatch: pytest.MonkeyPatch, soon: bool
) -> None:
    """paho refuses a message without telling of any loss; the transport must not wait for that for ever."""
    states: list[bool] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.on_state(states.append)
        assert await link.wait_connected(5)
        if soon:
            link._link._client._sock_close()
            assert not link.publish_soon(topic, b"")
        else:
            refusal = SimpleNamespace(rc=paho.MQTT_ERR_NO_CONN)
            monkeypatch.setattr(link._link._client, "publish", lambda *_: refusal)
            with pytest.raises(LinkError, match="did not take"):
                await link.publish(topic, b"", timeout_s=5)
        await eventually(lambda: states == [True, False, True])
        await link.publish(topic, b"", qos=1, timeout_s=5)


async def test_a_socket_that_the_loop_will_not_watch_is_replaced(
    broker_endpoint: ServerProcess, topic: str, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uvloop does where it has seen an end that paho has not."""
    states: list[bool] = []
    async with transport(broker_endpoint, unique("t")) as link:
        link.on_state(states.append)
        assert await link.wait_connected(5)

        def refuse(*_: object) -> None:
            raise RuntimeError("the handler is closed")

        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "add_writer", refuse)
            with pytest.raises(LinkError, match="lost while publishing"):
                await link.publish(topic, b"", qos=1, timeout_s=5)
        await eventually(lambda: states == [True, False, True])
        await link.publish(topic, b"", qos=1, timeout_s=5)


async def test_stopping_with_answers_under_way_is_silent(
    own_broker: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """SUBACK or UNSUBACK arrives while the farewell is said, and nobody waits for it any more."""
    changes = (
        ("_pending_subscribes", lambda link: link.subscribe("more", lambda _: None)),
        ("_pending_unsubscribes", lambda link: link.unsubscribe("once")),
    )
    for pending, change in changes:
        link = transport(own_broker, "t", presence=Presence("status"))
        link.subscribe("once", lambda _: None)
        with caplog.at_level(logging.DEBUG, logger="broker.paho"):
            await link.start()
            assert await link.wait_connected(10)
            own_broker.freeze()
            change(link)
            await eventually(lambda link=link, pending=pending: getattr(link._link, pending))
            stopping = asyncio.create_task(link.stop())
            await eventually(lambda link=link: not link.connected)
            own_broker.unfreeze()
            await stopping
    assert caplog.text.count("Received UNSUBACK") == 1
    assert caplog.text.count("Received SUBACK") == 3
    assert "Unexpected" not in caplog.text


async def test_stopping_just_after_a_change_is_quick(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """The answer and the end of waiting for it may come at once; the end must not get lost over it."""
    for turns in range(5):
        link = transport(broker_endpoint, unique("t"))
        link.subscribe(topic, lambda _: None)
        await link.start()
        assert await link.wait_connected(5)
        link.unsubscribe(topic)
        for _ in range(turns):
            await asyncio.sleep(0)
        began_s = time.monotonic()
        await link.stop()
        assert time.monotonic() - began_s < 1


async def test_a_link_given_up_while_it_connects_leaves_no_connection(own_broker: ServerProcess) -> None:
    link = PahoLink(own_broker.host, own_broker.port, "t", lambda _: None)
    link.discard()
    with pytest.raises(MqttError, match="given up"):
        async with link:
            pass


async def test_the_longest_ids_of_tenant_and_worker_make_a_client_id(broker_endpoint: ServerProcess) -> None:
    async with transport(broker_endpoint, f"{'t' * 64}.worker.{'w' * 64}") as link:
        assert await link.wait_connected(5), link.trouble


async def test_a_transport_that_was_taken_over_comes_back(own_broker: ServerProcess) -> None:
    async with transport(own_broker, "twin") as first:
        assert await first.wait_connected(10)
        with Client(own_broker, "twin"):
            await eventually(lambda: not first.connected)
        assert await first.wait_connected(10)


# --- presence ------------------------------------------------------------------------------------------


async def test_presence_is_announced_and_taken_back(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic, qos=1)
        async with transport(broker_endpoint, unique("edge"), presence=Presence(topic)) as link:
            assert await link.wait_connected(5)
            birth = read_status((await asyncio.to_thread(watcher.next)).payload)
            with Client(broker_endpoint) as late:
                late.subscribe(topic)
                assert (await asyncio.to_thread(late.next)).retain
        farewell = read_status((await asyncio.to_thread(watcher.next)).payload)
        assert watcher.silent()
    assert (birth.online, farewell.online) == (True, False)
    assert birth.birth == farewell.birth


@pytest.mark.parametrize("delay_ms", [0, 1, 2, 4, 8, 16])
async def test_whoever_stops_while_connecting_is_not_left_online(
    broker_endpoint: ServerProcess, topic: str, unique: Unique, delay_ms: int
) -> None:
    """The birth may be on its way: without a farewell a clean DISCONNECT would take the will with it."""
    link = transport(broker_endpoint, unique("edge"), presence=Presence(topic))
    await link.start()
    await asyncio.sleep(delay_ms / 1000)
    await link.stop()
    assert retained_online(broker_endpoint, topic) in {None, False}


async def test_a_farewell_that_can_t_be_said_is_left_to_the_will(own_broker: ServerProcess) -> None:
    """paho sends no more than twenty unacknowledged messages; the farewell behind them stays unsent."""
    async with transport(own_broker, "edge", presence=Presence("status")) as link:
        assert await link.wait_connected(10)
        assert retained_online(own_broker, "status")
        own_broker.freeze()
        unanswered = [link.publish("a", b"", qos=1, timeout_s=0.1) for _ in range(20)]
        assert all(await asyncio.gather(*unanswered, return_exceptions=True))
    own_broker.unfreeze()
    await eventually(lambda: retained_online(own_broker, "status") is False)


async def test_a_connection_given_up_by_us_does_not_leave_us_online(
    own_broker: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever breaks off over an unanswered subscription may not come back: the will has to speak."""
    async with transport(own_broker, "edge", presence=Presence("status"), connect_timeout_s=0.3) as link:
        assert await link.wait_connected(10)
        monkeypatch.setattr(link._backoff, "next_s", lambda: 60.0)
        own_broker.freeze()
        link.subscribe("more", lambda _: None)
        await eventually(lambda: not link.connected)
        own_broker.unfreeze()
        await eventually(lambda: retained_online(own_broker, "status") is False)


async def test_a_lost_sender_s_will_carries_the_number_of_its_birth(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """The sender is taken over by a client of the same id, which looks to the broker like its death."""
    client_id = unique("edge")
    with Client(broker_endpoint) as watcher:
        watcher.subscribe(topic, qos=1)
        async with transport(broker_endpoint, client_id, presence=Presence(topic)) as link:
            assert await link.wait_connected(5)
            first = read_status((await asyncio.to_thread(watcher.next)).payload)
            with Client(broker_endpoint, client_id):
                will = read_status((await asyncio.to_thread(watcher.next)).payload)
            second = read_status((await asyncio.to_thread(watcher.next)).payload)
    assert (first.online, will.online, second.online) == (True, False, True)
    assert first.birth == will.birth < second.birth


async def test_an_offline_status_expires_whoever_says_it(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    """Farewell and will: a worker has a new id at each start, and its old ones must not pile up."""
    client_id = unique("worker")
    heard: list[Incoming] = []
    async with transport(broker_endpoint, unique("edge")) as edge:
        edge.subscribe(topic, heard.append, qos=1)
        assert await edge.wait_connected(5)
        async with transport(broker_endpoint, client_id, presence=Presence(topic)) as link:
            assert await link.wait_connected(5)
            with Client(broker_endpoint, client_id):  # takes over: the will speaks
                await eventually(lambda: len(heard) >= 2)
            await eventually(lambda: len(heard) >= 3)
            assert await link.wait_connected(5)
        await eventually(lambda: len(heard) == 4)
    assert [read_status(each.payload).online for each in heard] == [True, False, True, False]
    assert [each.expiry_s for each in heard] == [None, OFFLINE_EXPIRY_S] * 2
    with Client(broker_endpoint) as late:
        late.subscribe(topic)
        kept = await asyncio.to_thread(late.next)
    assert 0 < kept.properties.MessageExpiryInterval <= OFFLINE_EXPIRY_S


async def test_a_status_is_json_that_anybody_can_read(
    broker_endpoint: ServerProcess, topic: str, unique: Unique
) -> None:
    async with transport(broker_endpoint, unique("edge"), presence=Presence(topic)) as link:
        assert await link.wait_connected(5)
        with Client(broker_endpoint) as watcher:
            watcher.subscribe(topic)
            status = json.loads((await asyncio.to_thread(watcher.next)).payload)
    assert status["online"] is True
    assert isinstance(status["birth"], int)


async def test_a_password_shows_nowhere() -> None:
    settings = MqttSettings(host="h", port=1, client_id="c", username="u", password="hunter2")
    assert "hunter2" not in repr(settings)


async def test_a_frozen_broker_is_found_by_a_probe_and_taken_for_lost(
    own_broker: ServerProcess, topic: str, unique: Unique
) -> None:
    states: list[bool] = []
    async with transport(own_broker, unique("t")) as link:
        link.on_state(states.append)
        link.subscribe(f"{topic}/a", lambda _: None)
        await link.subscribed(f"{topic}/a", 5)
        assert await link.probe(5)
        own_broker.freeze()
        try:
            assert link.connected  # nothing has told it yet
            assert not await link.probe(0.2)
            assert states[-1] is False
        finally:
            own_broker.unfreeze()
        assert await link.wait_connected(10)
        assert await link.probe(5)


async def test_a_probe_without_a_connection_says_no_at_once(tmp_path: Path, unique: Unique) -> None:
    server = make_broker("embedded", tmp_path / "never")
    async with transport(server, unique("t")) as link:
        assert not await link.probe(60)
