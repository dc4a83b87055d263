"""The proxy between a client and a broker, both of which are sockets that the test holds itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.packets import (
    MQTT_5,
    MQTT_311,
    ConnAck,
    Connect,
    Packet,
    PingReq,
    PubAck,
    Publish,
)
from broker.embedded.primitives import MAX_VARINT
from broker.embedded.properties import Properties
from broker.embedded.reasons import Reason
from ops.faults import lane
from ops.faults.proxy import ChaosProxy, Direction, Weather
from tests.mqtt_clients import V5, V311, Client
from tests.servers import ServerProcess
from tests.waiting import eventually

TIMEOUT_S = 5.0
HOST = "127.0.0.1"
VERSIONS = pytest.mark.parametrize("version", [MQTT_5, MQTT_311], ids=["mqtt5", "mqtt311"])


class Peer:
    """One end of a connection: writes packets, reads packets, and knows how it ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.version = MQTT_5
        self.writer = writer
        self._reader = reader
        self._framer = Framer(MAX_VARINT)
        self._packets: list[Packet] = []

    def send(self, *packets: Packet) -> None:
        self.send_bytes(b"".join(encode(each, self.version) for each in packets))

    def send_bytes(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Packet:
        """The next packet.

        Raises:
            EOFError: the other end has closed. ConnectionResetError: it has reset.
        """
        async with asyncio.timeout(TIMEOUT_S):
            while not self._packets:
                data = await self._reader.read(65_536)
                if not data:
                    raise EOFError
                self._packets += [
                    decode(first, body, self.version) for first, body in self._framer.feed(data)
                ]
        return self._packets.pop(0)

    async def payloads_to(self, last: bytes) -> list[bytes]:
        """The payloads of all PUBLISH until the one with this payload comes, without it."""
        payloads: list[bytes] = []
        while not isinstance(packet := await self.receive(), Publish) or packet.payload != last:
            if isinstance(packet, Publish):
                payloads.append(packet.payload)
        return payloads

    async def ended(self) -> type[BaseException]:
        """Read to the end; how it came."""
        try:
            while True:
                await self.receive()
        except (EOFError, ConnectionResetError) as end:
            return type(end)

    @property
    def deaf(self) -> bool:
        """Whether nothing has come that was not taken."""
        return not self._packets and not self._reader._buffer  # type: ignore[attr-defined]


class Ends:
    """A broker's end that accepts, the proxy, and clients."""

    def __init__(self, seed: int = 1) -> None:
        self._accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self._seed = seed
        self._peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST)
        port = self._server.sockets[0].getsockname()[1]
        self.proxy = ChaosProxy(HOST, port, seed=self._seed)
        await self.proxy.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_broker()
        await self.proxy.stop()
        for peer in self._peers:
            peer.writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._peers.append(peer)
        self._accepted.put_nowait(peer)

    async def close_broker(self) -> None:
        self._server.close()

    async def client(self) -> Peer:
        peer = Peer(*await asyncio.open_connection(HOST, self.proxy.port))
        self._peers.append(peer)
        return peer

    async def far(self) -> Peer:
        """The broker's end of the next connection."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._accepted.get()

    @property
    def unheard_of(self) -> bool:
        """Whether the broker knows of no connection that `far` did not give out."""
        return self._accepted.empty()

    async def pair(self, version: int = MQTT_5) -> tuple[Peer, Peer]:
        """A client and its broker that have greeted each other."""
        client = await self.client()
        broker = await self.far()
        client.version = broker.version = version
        client.send(Connect("c", version))
        await broker.receive()
        broker.send(ConnAck(session_present=False, reason=Reason.SUCCESS))
        await client.receive()
        return client, broker


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    async with Ends() as made:
        yield made


def message(payload: bytes | int, qos: int = 0, **fields: Any) -> Publish:
    payload = b"%d" % payload if isinstance(payload, int) else payload
    return Publish("t", payload, qos, packet_id=1 if qos else 0, **fields)


LAST = message(b"last", 1)


async def sent_through(ends: Ends, packets: list[Publish]) -> list[bytes]:
    """Send packets and one that arrives for sure and after them; the payloads that came before it."""
    client, broker = await ends.pair()
    client.send(*packets, LAST)
    return await broker.payloads_to(LAST.payload)


# --- good weather -------------------------------------------------------------------------------


@VERSIONS
async def test_packets_arrive_as_they_were_sent_in_both_directions(ends: Ends, version: int) -> None:
    client, broker = await ends.pair(version)
    packets = [message(b"x" * 100_000), message(b"", 1), PubAck(1), PingReq()]
    client.send(*packets)
    broker.send(*packets)
    assert [await broker.receive() for _ in packets] == packets
    assert [await client.receive() for _ in packets] == packets


async def test_what_our_broker_does_not_speak_passes_untouched(ends: Ends) -> None:
    """QoS 2 is for the peers to judge."""
    client, broker = await ends.pair()
    client.send_bytes(b"\x50\x02\x00\x07\x62\x02\x00\x07")
    assert await broker._reader.readexactly(8) == b"\x50\x02\x00\x07\x62\x02\x00\x07"


async def test_both_sockets_of_a_connection_send_without_waiting_for_more(ends: Ends) -> None:
    await ends.pair()
    (connection,) = ends.proxy._connections.values()
    options = [
        writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for writer in connection._writers
    ]
    assert len(options) == 2
    assert all(options)


async def test_an_orderly_end_passes_behind_the_last_packet(ends: Ends) -> None:
    client, broker = await ends.pair()
    client.send(message(b"farewell"))
    client.writer.close()
    assert await broker.receive() == message(b"farewell")
    assert await broker.ended() is EOFError


async def test_a_reset_passes_as_a_reset(ends: Ends) -> None:
    client, broker = await ends.pair()
    raw = broker.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    broker.writer.transport.abort()
    assert await client.ended() is ConnectionResetError


async def test_without_a_broker_a_client_is_reset(ends: Ends) -> None:
    await ends.close_broker()
    client = await ends.client()
    assert await client.ended() is ConnectionResetError


async def test_what_is_not_mqtt_ends_its_connection_alone(ends: Ends) -> None:
    client, broker = await ends.pair()
    stranger = await ends.client()
    stranger.send_bytes(b"\x10\xff\xff\xff\xff\x01")
    assert await stranger.ended() is ConnectionResetError
    client.send(PingReq())
    assert await broker.receive() == PingReq()


@pytest.mark.parametrize("version", [V5, V311], ids=["mqtt5", "mqtt311"])
async def test_real_clients_and_brokers_work_through_it(
    broker_endpoint: ServerProcess, topic: str, version: int
) -> None:
    proxy = ChaosProxy(broker_endpoint.host, broker_endpoint.port, seed=1)
    await proxy.start()

    def talk() -> list[bytes]:
        sent = [b"%d" % number for number in range(50)]
        with Client(proxy, version=version) as receiver, Client(proxy, version=version) as sender:  # type: ignore[arg-type]
            receiver.subscribe(topic, qos=1)
            for payload in sent:
                sender.publish(topic, payload, 1)
            return receiver.payloads(len(sent))

    proxy.host = HOST  # type: ignore[attr-defined]  what clients ask a server for
    assert await asyncio.to_thread(talk) == [b"%d" % number for number in range(50)]
    await proxy.stop()


# --- bad weather --------------------------------------------------------------------------------


async def test_nothing_arrives_before_its_delay(ends: Ends) -> None:
    client, broker = await ends.pair()
    ends.proxy.up = ends.proxy.down = Weather(delay_s=0.15)
    start_s = asyncio.get_running_loop().time()
    client.send(message(b"ping", 1))
    broker.send(await broker.receive())
    await client.receive()
    assert asyncio.get_running_loop().time() - start_s >= 0.3


async def test_qos_0_is_lost_and_everything_else_is_not(ends: Ends) -> None:
    ends.proxy.up = Weather(loss=1.0)
    assert await sent_through(ends, [message(0), message(1, 1), message(2)]) == [b"1"]


async def test_each_direction_has_its_own_weather(ends: Ends) -> None:
    ends.proxy.down = Weather(loss=1.0)
    assert await sent_through(ends, [message(0)]) == [b"0"]


async def test_copies_are_of_qos_0_only(ends: Ends) -> None:
    ends.proxy.up = Weather(copies=3)
    assert await sent_through(ends, [message(0), message(1, 1)]) == [b"0", b"0", b"0", b"1"]


async def test_a_packet_that_introduces_a_topic_alias_is_not_lost(ends: Ends) -> None:
    """Later packets have no other name for their topic."""
    ends.proxy.up = Weather(loss=1.0)
    aliased = message(0, properties=Properties(topic_alias=1))
    assert await sent_through(ends, [aliased]) == [b"0"]


async def test_reordering_loses_nothing_and_keeps_the_order_of_qos_1(ends: Ends) -> None:
    client, broker = await ends.pair()
    ends.proxy.up = Weather(reorder=0.5)
    client.send(*(message(number, number % 2) for number in range(200)))
    payloads = [int((await broker.receive()).payload) for _ in range(200)]  # type: ignore[union-attr]
    assert sorted(payloads) == list(range(200))
    assert payloads != sorted(payloads)
    kept = [number for number in payloads if number % 2]
    assert kept == sorted(kept)


async def test_a_narrow_line_takes_its_time(ends: Ends) -> None:
    client, broker = await ends.pair()
    ends.proxy.up = Weather(rate_bytes_s=100_000.0)
    start_s = asyncio.get_running_loop().time()
    client.send(*(message(b"x" * 1000) for _ in range(20)))
    for _ in range(20):
        await broker.receive()
    assert asyncio.get_running_loop().time() - start_s >= 0.19


async def test_the_same_seed_loses_the_same_packets() -> None:
    async def survivors(seed: int) -> list[bytes]:
        async with Ends(seed) as ends:
            ends.proxy.up = Weather(loss=0.5)
            return await sent_through(ends, [message(number) for number in range(64)])

    assert await survivors(5) == await survivors(5)
    assert await survivors(5) != await survivors(6)


# --- partition and reset ------------------------------------------------------------------------


async def test_a_partition_holds_everything_and_healing_passes_it_on_in_order(ends: Ends) -> None:
    client, broker = await ends.pair()
    ends.proxy.partition()
    up, down = [message(number) for number in range(3)], message(b"down")
    client.send(*up)
    broker.send(down)
    size = sum(len(encode(each, MQTT_5)) for each in (*up, down))
    await eventually(lambda: ends.proxy.waiting_bytes == size)
    assert broker.deaf
    assert client.deaf
    ends.proxy.heal()
    assert [await broker.receive() for _ in up] == up
    assert await client.receive() == down


async def test_a_client_that_comes_during_a_partition_is_heard_of_after_it(ends: Ends) -> None:
    ends.proxy.partition()
    client = await ends.client()
    client.send(Connect("c"))
    await eventually(lambda: ends.proxy.waiting_bytes > 0)
    assert ends.unheard_of
    ends.proxy.heal()
    assert isinstance(await (await ends.far()).receive(), Connect)


async def test_a_client_that_gave_up_during_a_partition_is_never_heard_of(ends: Ends) -> None:
    ends.proxy.partition()
    client = await ends.client()
    client.send(Connect("c"))
    client.writer.close()
    await eventually(lambda: any(each._up.ended for each in ends.proxy._connections.values()))
    ends.proxy.heal()
    await eventually(lambda: ends.proxy.connections == 0)
    assert ends.unheard_of


async def test_that_a_peer_closed_during_a_partition_is_known_after_it(ends: Ends) -> None:
    client, broker = await ends.pair()
    ends.proxy.partition()
    client.send(message(b"farewell"))
    client.writer.close()
    await eventually(lambda: any(each._up.ended for each in ends.proxy._connections.values()))
    assert broker.deaf
    assert not broker._reader.at_eof()
    ends.proxy.heal()
    assert await broker.receive() == message(b"farewell")
    assert await broker.ended() is EOFError


async def test_a_cut_resets_both_ends_and_new_connections_work(ends: Ends) -> None:
    client, broker = await ends.pair()
    await ends.proxy.cut()
    assert await client.ended() is ConnectionResetError
    assert await broker.ended() is ConnectionResetError
    assert ends.proxy.connections == 0
    await ends.pair()


async def test_a_receiver_that_does_not_read_stops_its_sender(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: what does not pass stays with who sends it."""
    monkeypatch.setattr(lane, "MAX_WAITING_BYTES", 200_000)
    client, broker = await ends.pair()
    ends.proxy.partition()
    most, packet = 0, message(b"x" * 50_000, 1)

    async def send() -> None:
        for _ in range(600):
            client.send(packet)
            await client.writer.drain()

    sending = asyncio.ensure_future(send())
    await eventually(lambda: ends.proxy.waiting_bytes >= 200_000)
    ends.proxy.heal()
    for _ in range(600):
        most = max(most, ends.proxy.waiting_bytes)
        assert await broker.receive() == packet
    await sending
    assert most < 200_000 + 2 * 50_100


# --- the hook -----------------------------------------------------------------------------------


async def test_the_hook_is_told_of_each_packet_before_it_passes(ends: Ends) -> None:
    client, broker = await ends.pair()
    told: list[tuple[Direction, Packet]] = []
    ends.proxy.on_packet = lambda direction, packet: told.append((direction, packet))
    client.send(message(b"up"))
    await broker.receive()
    broker.send(PubAck(4))
    await client.receive()
    assert told == [(Direction.UP, message(b"up")), (Direction.DOWN, PubAck(4))]


async def test_the_hook_holds_a_packet_and_those_behind_it_in_its_direction(ends: Ends) -> None:
    client, broker = await ends.pair()
    held, free = asyncio.Event(), asyncio.Event()

    async def hold(direction: Direction, _packet: Packet) -> None:
        if direction is Direction.UP:
            held.set()
            await free.wait()

    ends.proxy.on_packet = hold
    client.send(message(0), message(1))
    await held.wait()
    broker.send(message(b"down"))
    assert await client.receive() == message(b"down")
    assert broker.deaf
    free.set()
    assert [await broker.receive() for _ in range(2)] == [message(0), message(1)]


async def test_a_packet_at_which_the_hook_cuts_never_arrives(ends: Ends) -> None:
    client, broker = await ends.pair()

    async def cut(_direction: Direction, _packet: Packet) -> None:
        await ends.proxy.cut()

    ends.proxy.on_packet = cut
    client.send(message(b"never"))
    assert await broker.ended() is ConnectionResetError
    assert await client.ended() is ConnectionResetError


async def test_a_packet_at_which_the_hook_makes_a_partition_waits_for_its_end(ends: Ends) -> None:
    client, broker = await ends.pair()
    told = asyncio.Event()

    def split(_direction: Direction, _packet: Packet) -> None:
        ends.proxy.partition()
        told.set()

    ends.proxy.on_packet = split
    client.send(message(b"later"))
    await told.wait()
    ends.proxy.on_packet = None
    client.send(message(b"behind"))
    await eventually(lambda: ends.proxy.waiting_bytes > 0)
    assert broker.deaf
    ends.proxy.heal()
    assert [await broker.receive() for _ in range(2)] == [message(b"later"), message(b"behind")]


async def test_an_error_of_the_hook_ends_its_connection_and_is_told_when_the_proxy_stops() -> None:
    async with Ends() as ends:
        client, _ = await ends.pair()

        def fail(_direction: Direction, _packet: Packet) -> None:
            raise ValueError("a test's own mistake")

        ends.proxy.on_packet = fail
        client.send(message(0))
        assert await client.ended() in (EOFError, ConnectionResetError)
        with pytest.raises(ValueError, match="own mistake"):
            await ends.proxy.stop()
