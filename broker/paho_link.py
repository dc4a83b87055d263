"""One connection through aiomqtt, made fit for many small messages.

aiomqtt 2.5 and paho put messages into a queue that drops them when full, wake the event loop through a pipe
for each write, leave a socket open when TLS or CONNACK fails, and wait on when the broker closes instead of
answering CONNECT. `PahoLink` is where these are put right; it and `PahoSocket`, which reads and writes for
paho, are the only places that reach below aiomqtt's surface.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Set
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.embedded.primitives import MAX_VARINT
from broker.paho_socket import PahoSocket
from broker.publish_packet import publish_packet
from broker.transport import Incoming

_NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
"""Without it a QoS 1 round trip costs 44-88 ms instead of less than one."""

_HEAD_BYTES = 256
"""Room for lengths and the usual properties of a PUBLISH beside topic and payload."""

_MANY_CALLS = 1_000_000

_T = TypeVar("_T")

# A lost connection is an event of the transport, with its reason; paho's own words would say it twice.
_QUIET = logging.getLogger("broker.paho")
_QUIET.setLevel(logging.CRITICAL)


class DirectQueue(asyncio.Queue[aiomqtt.Message]):
    """Hands each message on instead of keeping it: nothing to fill up, nothing to drop."""

    def __init__(self, take: Callable[[aiomqtt.Message], None], maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._take = take

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Hand the message on."""
        self._take(item)


class ClosingSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho forgets it open."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, or close."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


class PahoLink(aiomqtt.Client):
    """An aiomqtt client for one connection.

    Args:
        host: the broker.
        port: its port.
        client_id: ours.
        take: called with every message.
        username: where the broker asks for one.
        password: the same.
        tls: encrypts when given.
        will: what the broker publishes when we are lost.
        keepalive_s: how long the line may be silent before we ask whether the broker is alive.
        timeout_s: how long connecting, and every acknowledgement, may take.

    Attributes:
        max_packet_bytes: the largest packet that the broker takes.
        owes_farewell: leave without DISCONNECT, so that the broker publishes the will. Source: MQTT 5
            section 3.1.2.5.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        take: Callable[[Incoming], None],
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        will: aiomqtt.Will | None = None,
        keepalive_s: int = 10,
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__(
            host,
            port,
            identifier=client_id,
            username=username,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            keepalive=keepalive_s,
            timeout=timeout_s,
            tls_context=tls,
            will=will,
            socket_options=_NODELAY,
            logger=_QUIET,
            queue_type=cast(
                "type[asyncio.Queue[aiomqtt.Message]]",
                lambda maxsize: DirectQueue(lambda message: take(incoming_of(message)), maxsize),
            ),
        )
        if tls is not None:
            tls.sslsocket_class = ClosingSocket
        self.pending_calls_threshold = _MANY_CALLS
        self._client.connect_timeout = timeout_s
        self.max_packet_bytes = MAX_VARINT
        self.owes_farewell = False
        self._discarded = False
        self._socket = PahoSocket(self._client, take, self._guarded)

    @property
    def unwritten_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._socket.unwritten_bytes

    def fits(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a packet of this size; it would close the connection over a larger one."""
        return len(topic) + len(payload) + _HEAD_BYTES <= self.max_packet_bytes

    def publish_now(self, topic: str, payload: bytes) -> bool:
        """Give one QoS 0 message to the socket, in this turn of the loop; False when there is none.

        Raises:
            TopicError: the topic is no topic name.
        """
        if self._socket.closed:
            return False
        self._socket.send_soon(publish_packet(topic, payload))
        return True

    def flush(self) -> None:
        """Write at once what `publish_now` was given."""
        self._guarded(self._socket.flush)

    async def subscribe_all(
        self,
        filters: dict[str, int],
        as_published: Set[str] = frozenset(),
        timeout_s: float | None = None,
        *,
        retained_too: bool = True,
    ) -> dict[str, int]:
        """Subscribe to filters at their QoS with one packet.

        Args:
            filters: topic filter → QoS.
            as_published: filters whose messages say whether they were published as retained.
            timeout_s: how long the answer may take; None: as long as connecting.
            retained_too: send what is retained.

        Returns:
            The reason code of each; 0x80 and above is a refusal.

        Raises:
            aiomqtt.MqttError: the broker did not answer in time.
        """
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        if not retained_too:
            handling = SubscribeOptions.RETAIN_DO_NOT_SEND
        asked = [
            (each, SubscribeOptions(qos, False, each in as_published, handling))
            for each, qos in filters.items()
        ]
        reasons = await self.subscribe(asked, timeout=timeout_s)
        return {each: _code(reason) for each, reason in zip(filters, reasons, strict=True)}

    async def until_lost(self) -> None:
        """Wait for the end of the connection.

        Raises:
            aiomqtt.MqttError: always; it says how the connection ended.
        """
        async for _ in self.messages:  # DirectQueue keeps none, so this only ever ends
            pass

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Disconnect, or just close where the will has to speak."""
        if self.owes_farewell and not self._disconnected.done():
            self.discard()
            self._disconnected.set_result(None)
        await super().__aexit__(exc_type, exc, tb)

    def discard(self) -> None:
        """Close what is left open, without a word to the broker; this link is of no use afterwards."""
        self._discarded = True
        if self._misc_task is not None:
            self._misc_task.cancel()
        left = self._client.socket()
        if left is not None and left.fileno() > -1:
            self._loop.remove_reader(left.fileno())
            self._loop.remove_writer(left.fileno())
            with contextlib.suppress(OSError):
                left.close()

    async def _wait_for(self, fut: Awaitable[_T], timeout: float | None) -> _T:  # noqa: ASYNC109  aiomqtt's
        """Wait without `asyncio.wait_for`: before Python 3.12 it may swallow a cancellation."""
        allowed_s = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(None if allowed_s == math.inf else allowed_s):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError(f"no answer within {allowed_s:g} s") from None

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        """Also keep what the broker says it can take."""
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", MAX_VARINT)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        """Also tell whoever waits for CONNACK: the broker has closed instead of answering."""
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code, "closed instead of CONNACK"))

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """Refuse a socket that connected after we were given up: nobody else would close it."""
        if self._discarded:
            sock.close()
            raise OSError("given up while connecting")
        super()._on_socket_open(client, userdata, sock)
        reading = partial(self._loop.add_reader, sock.fileno(), self._guarded, self._socket.read)
        self._loop.call_soon_threadsafe(self._guarded, reading)

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, mid: int, reason_codes: Any, properties: Any = None
    ) -> None:
        """Leave out answers that nobody waits for any more; aiomqtt would log a traceback for each."""
        if mid in self._pending_subscribes:
            super()._on_subscribe(client, userdata, mid, reason_codes, properties)

    def _on_unsubscribe(
        self, client: paho.Client, userdata: Any, mid: int, reason_codes: Any, properties: Any = None
    ) -> None:
        """The same: whoever stops while an UNSUBACK is under way does not wait for it."""
        if mid in self._pending_unsubscribes:
            super()._on_unsubscribe(client, userdata, mid, reason_codes, properties)

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """Watch for writability at once on the loop's own thread; aiomqtt would wake itself by a pipe."""
        if _running_loop() is not self._loop:
            super()._on_socket_register_write(client, userdata, sock)
        elif sock.fileno() > -1:
            # uvloop refuses a socket whose end it has seen and we have not.
            self._guarded(partial(self._loop.add_writer, sock.fileno(), self._guarded, client.loop_write))

    def _on_socket_unregister_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """Guarded for the same reason."""
        self._guarded(partial(super()._on_socket_unregister_write, client, userdata, sock))

    def _guarded(self, move: Callable[[], object]) -> None:
        """Move bytes; whatever breaks there, the connection is not usable any more."""
        try:
            move()
        except Exception as error:  # noqa: BLE001  it is raised where the connection is waited for
            if not self._disconnected.done():
                self._disconnected.set_exception(error)


def message_properties(
    expiry_s: int | None = None,
    response_topic: str | None = None,
    correlation_data: bytes | None = None,
    user_properties: tuple[tuple[str, str], ...] = (),
) -> Properties | None:
    """Properties of a PUBLISH; None when there are none, which is much cheaper."""
    if expiry_s is None and response_topic is None and correlation_data is None and not user_properties:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if correlation_data is not None:
        properties.CorrelationData = correlation_data
    if user_properties:
        properties.UserProperty = list(user_properties)
    return properties


def will_properties(expiry_s: int) -> Properties:
    """Properties of a will; the broker counts its expiry from when it publishes it."""
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = expiry_s
    return properties


def incoming_of(message: aiomqtt.Message) -> Incoming:
    """A message in the words of our own port."""
    topic, properties = message.topic.value, message.properties
    if properties is None or properties.isEmpty():  # type: ignore[no-untyped-call]
        return Incoming(topic, message.payload, message.qos, message.retain)
    # paho sets only the properties that were sent.
    return Incoming(
        topic,
        message.payload,
        message.qos,
        message.retain,
        expiry_s=getattr(properties, "MessageExpiryInterval", None),
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation_data=getattr(properties, "CorrelationData", None),
        user_properties=tuple(
            (str(key), str(value)) for key, value in getattr(properties, "UserProperty", ())
        ),
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _code(reason: Any) -> int:
    return int(getattr(reason, "value", reason))
