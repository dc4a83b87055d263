"""Real MQTT clients for tests: paho with every wait bounded, and a bare socket that says what it is told."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.embedded import packets
from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.primitives import MAX_VARINT
from tests.servers import ServerProcess

TIMEOUT_S = 5.0
V5 = paho.MQTTv5
V311 = paho.MQTTv311
SILENCE_S = 0.3
"""How long a test listens before it believes that nothing comes."""


def properties(kind: int, **values: Any) -> Properties:
    """paho properties of one packet type by their MQTT names."""
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def publish_properties(**values: Any) -> Properties:
    return properties(PacketTypes.PUBLISH, **values)


class Client:
    """A paho client on a thread of its own.

    Args:
        server: the broker.
        client_id: a fresh one when left out.
        version: `V5` or `V311`.
        clean: clean start (5) or clean session (3.1.1).
        expiry_s: session expiry interval (5).
        connect_properties: further CONNECT properties (5).
        will: topic, payload, QoS, retain.
        will_delay_s: will delay interval (5).
        manual_ack: acknowledge only what the test acknowledges.
    """

    def __init__(
        self,
        server: ServerProcess,
        client_id: str | None = None,
        *,
        version: int = V5,
        clean: bool = True,
        expiry_s: int | None = None,
        username: str | None = None,
        password: str | None = None,
        connect_properties: dict[str, Any] | None = None,
        will: tuple[str, bytes, int, bool] | None = None,
        will_delay_s: int | None = None,
        manual_ack: bool = False,
        keepalive_s: int = 30,
    ) -> None:
        self.client_id = client_id if client_id is not None else f"test-{uuid4().hex[:12]}"
        self.version = version
        self.connack: Any = None
        self.connack_properties: Any = None
        self.session_present = False
        self.disconnect_reason: Any = None
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._answers: dict[int, Any] = {}
        self._changed = threading.Condition()
        self._lost = threading.Event()
        self._server, self._clean, self._keepalive_s = server, clean, keepalive_s
        self._properties = dict(connect_properties or {})
        if expiry_s is not None:
            self._properties["SessionExpiryInterval"] = expiry_s
        session = {"clean_session": clean} if version == V311 else {}
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            protocol=version,
            reconnect_on_failure=False,
            **session,
        )
        self.paho.manual_ack_set(manual_ack)
        if username is not None:
            self.paho.username_pw_set(username, password)
        if will is not None:
            delay = (
                None
                if will_delay_s is None
                else properties(PacketTypes.WILLMESSAGE, WillDelayInterval=will_delay_s)
            )
            self.paho.will_set(*will, delay)
        self._set_callbacks()

    def _set_callbacks(self) -> None:
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_message = lambda _client, _data, message: self.messages.put(message)
        self.paho.on_subscribe = lambda _c, _d, mid, reasons, _p: self._answer(
            mid, [_value(r) for r in reasons]
        )
        self.paho.on_unsubscribe = lambda _c, _d, mid, reasons, _p: self._answer(
            mid, [_value(r) for r in reasons]
        )
        self.paho.on_publish = lambda _c, _d, mid, reason, _p: self._answer(mid, _value(reason))

    # --- connection ---------------------------------------------------------------------------

    def connect(self) -> Self:
        """Connect and wait for CONNACK, whatever it says."""
        clean: Any = self._clean if self.version == V5 else paho.MQTT_CLEAN_START_FIRST_ONLY
        props = properties(PacketTypes.CONNECT, **self._properties) if self._properties else None
        self.paho.connect(
            self._server.host, self._server.port, self._keepalive_s, clean_start=clean, properties=props
        )
        self.paho.loop_start()
        self._wait(lambda: self.connack is not None or self._lost.is_set(), "CONNACK")
        return self

    def close(self) -> None:
        """DISCONNECT, unless the connection is gone already."""
        self.paho.disconnect()
        self.paho.loop_stop()
        self._shut()

    def close_with(self, reason: int, **values: Any) -> None:
        """DISCONNECT with a reason code and properties (5)."""
        code = ReasonCode(PacketTypes.DISCONNECT, identifier=reason)
        props = properties(PacketTypes.DISCONNECT, **values) if values else None
        self.paho.disconnect(code, props)
        self.paho.loop_stop()
        self._shut()

    def die(self) -> None:
        """Vanish without DISCONNECT, as a killed process does."""
        sock = self.paho.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._lost.wait(TIMEOUT_S)
        self.paho.loop_stop()
        self._shut()

    def wait_lost(self, timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until the broker has closed the connection; returns the reason code it gave."""
        if not self._lost.wait(timeout_s):
            raise AssertionError("the broker did not close the connection")
        return self.disconnect_reason

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self.connect()
        assert self.connack == 0, f"connection refused: {self.connack}"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- messages -----------------------------------------------------------------------------

    def subscribe(
        self,
        *filters: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        identifier: int | None = None,
    ) -> list[int]:
        """Subscribe and wait for the reason codes."""
        if self.version == V311:
            _, mid = self.paho.subscribe([(each, qos) for each in filters])
            return self._answer_to(mid)
        options = SubscribeOptions(qos, no_local, retain_as_published, retain_handling)
        props = (
            None
            if identifier is None
            else properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier)
        )
        _, mid = self.paho.subscribe([(each, options) for each in filters], properties=props)
        return self._answer_to(mid)

    def unsubscribe(self, *filters: str) -> list[int]:
        """Unsubscribe and wait for the reason codes (none on 3.1.1)."""
        _, mid = self.paho.unsubscribe(list(filters))
        return self._answer_to(mid)

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, **values: Any
    ) -> int:
        """Publish and wait: for the reason code of PUBACK, or until it is written."""
        props = publish_properties(**values) if values else None
        info = self.paho.publish(topic, payload, qos, retain, props)
        return self._answer_to(info.mid)

    def next(self, timeout_s: float = TIMEOUT_S) -> paho.MQTTMessage:
        """The next message."""
        try:
            return self.messages.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no message within {timeout_s:g} s") from None

    def payloads(self, count: int) -> list[bytes]:
        """The payloads of the next `count` messages."""
        return [self.next().payload for _ in range(count)]

    def silent(self, seconds: float = SILENCE_S) -> bool:
        """Whether no message comes for a while."""
        try:
            self.messages.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def ping(self) -> None:
        """Wait until the broker has handled everything sent so far, and we everything it sent."""
        self.unsubscribe(f"ping/{uuid4().hex}")

    # --- paho's thread ------------------------------------------------------------------------

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, props: Any) -> None:
        self.session_present = bool(flags.session_present)
        self.connack_properties = props
        with self._changed:
            self.connack = _value(reason)
            self._changed.notify_all()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        self.disconnect_reason = _value(reason)
        self._lost.set()
        with self._changed:
            self._changed.notify_all()

    def _answer(self, mid: int, answer: Any) -> None:
        with self._changed:
            self._answers[mid] = answer
            self._changed.notify_all()

    def _answer_to(self, mid: int | None) -> Any:
        assert mid is not None
        self._wait(lambda: mid in self._answers, "answer")
        return self._answers.pop(mid)

    def _wait(self, condition: Any, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, TIMEOUT_S):
                raise AssertionError(f"{what} did not come within {TIMEOUT_S:g} s")

    def _shut(self) -> None:
        sock = self.paho.socket()
        if sock is not None:
            sock.close()


def _value(reason: Any) -> int:
    return int(getattr(reason, "value", reason))


class RawClient:
    """A socket that writes whatever packets or bytes it is given, and reads packets.

    For what no library would send. Reading and acknowledging are the test's business.
    """

    def __init__(self, server: ServerProcess, version: int = packets.MQTT_5) -> None:
        self.version = version
        # Mosquitto looks for silent clients every few seconds only.
        self._socket = socket.create_connection((server.host, server.port), 2 * TIMEOUT_S)
        self._framer = Framer(MAX_VARINT)
        self._packets = self._read()

    def connect(self, client_id: str | None = None, **fields: Any) -> packets.ConnAck:
        """CONNECT and read CONNACK."""
        client_id = f"raw-{uuid4().hex[:12]}" if client_id is None else client_id
        self.send(packets.Connect(client_id, self.version, **fields))
        answer = self.receive()
        assert isinstance(answer, packets.ConnAck)
        return answer

    def send(self, *sent: packets.Packet) -> None:
        """Write packets in one go."""
        self.send_bytes(b"".join(encode(each, self.version) for each in sent))

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> packets.Packet:
        """The next packet.

        Raises:
            EOFError: the broker has closed the connection.
        """
        packet = next(self._packets, None)
        if packet is None:
            raise EOFError
        return packet

    def closed(self) -> packets.Disconnect | None:
        """Read until the broker has closed; returns the DISCONNECT that it sent before, if any."""
        last: packets.Disconnect | None = None
        for packet in self._packets:
            last = packet if isinstance(packet, packets.Disconnect) else last
        return last

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Iterator[packets.Packet]:
        while True:
            try:
                data = self._socket.recv(65_536)
            except ConnectionError:
                return
            if not data:
                return
            for first, body in self._framer.feed(data):
                yield decode(first, body, self.version)
