"""The embedded broker in this process: its life, its hooks, and faults that must stay one client's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.embedded import BrokerSettings, Client, EmbeddedBroker, Login
from broker.mqtt import MqttTransport
from broker.mqtt_settings import MqttSettings
from shared.errors import ConfigError, LinkError
from tests.waiting import eventually


class Doorkeeper:
    """Lets `friend` in, and breaks when it meets `bug`."""

    def authenticate(self, login: Login) -> bool:
        if login.username == "bug":
            raise RuntimeError("a fault of the hook's own")
        return login.username == "friend" and login.password == b"open"


class OwnTopics:
    """Everybody has the topics under their own client id."""

    def may_publish(self, client: Client, topic: str) -> bool:
        return topic.startswith(f"{client.client_id}/")

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return topic_filter.startswith(f"{client.client_id}/")


def transport(broker: EmbeddedBroker, client_id: str = "c", username: str | None = None) -> MqttTransport:
    password = None if username is None else "open"
    settings = MqttSettings(
        host=broker.host, port=broker.port, client_id=client_id, username=username, password=password
    )
    return MqttTransport(settings)


async def test_port_0_takes_a_free_one(embedded_broker: EmbeddedBroker) -> None:
    assert embedded_broker.port > 0
    async with transport(embedded_broker) as link:
        assert await link.wait_connected(5)
    assert embedded_broker.counters.connections == 1


async def test_a_broker_can_be_stopped_and_started_again() -> None:
    broker = EmbeddedBroker(BrokerSettings(port=0))
    for _ in range(2):
        await broker.start()
        async with transport(broker) as link:
            assert await link.wait_connected(5)
        await broker.stop()
        await broker.stop()
    with pytest.raises(LinkError, match="not running"):
        _ = broker.port


async def test_a_port_in_use_is_named(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(LinkError, match=f":{embedded_broker.port}"):
        await EmbeddedBroker(BrokerSettings(port=embedded_broker.port)).start()


async def test_stopping_does_not_wait_for_clients_that_stay() -> None:
    broker = EmbeddedBroker(BrokerSettings(port=0, close_timeout_s=0.2))
    await broker.start()
    async with transport(broker) as link:
        assert await link.wait_connected(5)
        await asyncio.wait_for(broker.stop(), 2)
        await eventually(lambda: not link.connected)


async def test_hooks_decide_who_and_what() -> None:
    hooks = {"authenticator": Doorkeeper(), "authoriser": OwnTopics()}
    async with EmbeddedBroker(BrokerSettings(port=0), **hooks) as broker:  # type: ignore[arg-type]
        async with transport(broker, username="stranger") as stranger:
            assert not await stranger.wait_connected(0.3)
            assert "Bad user name or password" in stranger.trouble
        async with transport(broker, "me", "friend") as friend:
            assert await friend.wait_connected(5)
            friend.subscribe("me/+", lambda _: None)
            friend.subscribe("you/+", lambda _: None)
            await friend.subscribed("me/+", 5)
            with pytest.raises(LinkError, match="0x87"):
                await friend.subscribed("you/+", 5)


async def test_a_fault_of_the_broker_closes_one_client_only() -> None:
    async with (
        EmbeddedBroker(BrokerSettings(port=0), authenticator=Doorkeeper()) as broker,
        transport(broker, "good", "friend") as friend,
        transport(broker, "bad", "bug") as bug,
    ):
        assert await friend.wait_connected(5)
        assert not await bug.wait_connected(0.3)
        await friend.publish("a", b"", qos=1, timeout_s=5)


async def test_files_that_can_t_be_used_are_named_at_start() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        EmbeddedBroker(BrokerSettings(port=0, certfile="nowhere.pem", keyfile="nowhere.key"))
    with pytest.raises(ConfigError, match="nowhere"):
        await EmbeddedBroker(BrokerSettings(port=0, acl_file="nowhere")).start()


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"keyfile": "k"}, "certfile"),
        ({"cafile": "a"}, "certfile"),
        ({"certfile": "c", "keyfile": "k", "require_certificate": True}, "cafile"),
        ({"certfile": "c", "keyfile": "k", "use_identity_as_username": True}, "cafile"),
    ],
)
def test_half_of_a_tls_setting_is_refused_instead_of_left_out(given: dict[str, Any], needed: str) -> None:
    with pytest.raises(ConfigError, match=f"needs its {needed}"):
        EmbeddedBroker(BrokerSettings(port=0, **given))


async def test_many_clients_and_bursts_lose_nothing(embedded_broker: EmbeddedBroker) -> None:
    """Twenty clients, each sending two hundred QoS 1 messages to a pool of four."""
    got: list[bytes] = []
    workers = [transport(embedded_broker, f"w{number}") for number in range(4)]
    edges = [transport(embedded_broker, f"e{number}") for number in range(20)]
    for link in [*workers, *edges]:
        await link.start()
    for worker in workers:
        worker.subscribe("$share/pool/open/+", lambda incoming: got.append(incoming.payload), qos=1)
        await worker.subscribed("$share/pool/open/+", 5)
    sent = [f"{edge}-{number}".encode() for edge in range(20) for number in range(200)]

    async def burst(number: int, link: MqttTransport) -> None:
        assert await link.wait_connected(5)
        mine = sent[number * 200 : (number + 1) * 200]
        await asyncio.gather(*(link.publish(f"open/{number}", each, qos=1, timeout_s=20) for each in mine))

    await asyncio.gather(*(burst(number, link) for number, link in enumerate(edges)))
    await eventually(lambda: len(got) == len(sent), 20)
    assert sorted(got) == sorted(sent)
    for link in [*workers, *edges]:
        await link.stop()
