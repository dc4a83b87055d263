"""One client's connection: bytes in, actions on the broker, bytes out. It knows no socket.

Source: MQTT 5 sections 3 (packets), 4.12 (keep-alive 3.1.2.10), 4.13 (errors).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from broker.embedded.auth import Client
from broker.embedded.core import BrokerCore
from broker.embedded.decoding import decode
from broker.embedded.encoding import encode
from broker.embedded.framing import Framer
from broker.embedded.handshake import Admission, admit, granted
from broker.embedded.packets import (
    MQTT_5,
    MQTT_311,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    Subscribe,
    Unsubscribe,
)
from broker.embedded.primitives import MAX_VARINT
from broker.embedded.properties import NONE, Properties
from broker.embedded.publishing import Publisher
from broker.embedded.reasons import PacketError, Reason
from broker.embedded.session import Session
from broker.embedded.subscribing import subscribe, unsubscribe
from broker.embedded.timers import Timer

_log = structlog.get_logger(__name__)

_CONNECT = 0x10
_KEEP_ALIVE_GRACE = 1.5
"""Source: MQTT 5 [MQTT-3.1.2-22]."""

_DEFAULT_RECEIVE_MAXIMUM = 65_535


class Connection:
    """The protocol of one connection; also the `Link` of the session it is attached to.

    Attributes:
        closing: nothing more is read; once the output is written the socket closes.
        paused: set by the socket while it takes no more bytes.
    """

    def __init__(self, core: BrokerCore, certificate_name: str | None = None) -> None:
        self.core = core
        self.version = MQTT_311
        self.max_packet_bytes = MAX_VARINT
        self.receive_maximum = core.settings.max_inflight
        self.session: Session | None = None
        self.closing = False
        self.paused = False
        self._certificate_name = certificate_name
        self._framer = Framer(core.settings.max_packet_bytes)
        self._publisher: Publisher | None = None
        self._client: Client | None = None
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._explains = True
        self._will_wanted = True
        self._keep_alive_s = 0
        self._heard_s = core.clock()
        self._timer: Timer | None = core.timers.at(
            self._heard_s + core.settings.connect_timeout_s, self._check_connected
        )
        core.connections.add(self)

    @property
    def writable(self) -> bool:
        """Whether more messages may be written now."""
        return (
            not (self.paused or self.closing)
            and self._output_bytes < self.core.settings.max_write_buffer_bytes
        )

    def receive(self, data: bytes) -> None:
        """Act on bytes of the client; what is wrong with them ends in a DISCONNECT, not an exception."""
        self._heard_s = now = self.core.clock()
        try:
            self._check_begins(data)
            for first, body in self._framer.feed(data):
                self._handle(first, body, now)
                if self.closing:
                    return
        except PacketError as error:
            self._violation(error)

    def take_output(self) -> bytes:
        """The bytes to write now; empty when there are none."""
        output = b"".join(self._output)
        self._output.clear()
        self._output_bytes = 0
        return output

    def pump(self) -> None:
        """The socket took everything: let waiting messages follow."""
        if self.session is not None:
            self.session.pump(self.core.clock())

    def send_frame(self, frame: bytes) -> None:
        """Write one encoded packet."""
        if not self._output:
            self.core.unflushed.append(self)
        self._output.append(frame)
        self._output_bytes += len(frame)

    def send(self, packet: Packet) -> None:
        """Write one packet; what the client can't take in full goes without its explanation."""
        frame = encode(packet, self.version)
        if len(frame) > self.max_packet_bytes and isinstance(packet, PubAck | Disconnect):
            frame = encode(replace(packet, properties=NONE), self.version)
        if len(frame) <= self.max_packet_bytes:
            self.send_frame(frame)

    def close(self, reason: Reason, explanation: str = "") -> None:
        """Say why (MQTT 5 can) and close. Source: MQTT 5 section 4.13."""
        if self.closing:
            return
        if self.version == MQTT_5 and self._client is not None:
            self.send(Disconnect(reason, self._explained(explanation)))
        self._finish()

    def lost(self) -> None:
        """The socket is closed or about to be: the session goes on without it, or ends."""
        self.closing = True
        self.core.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        session, self.session = self.session, None
        if session is not None and session.link is self:
            self.core.registry.lose(session, self.core.clock(), publish_will=self._will_wanted)

    # --- reading -----------------------------------------------------------------------------

    def _check_begins(self, data: bytes) -> None:
        """Refuse what is not MQTT at its first byte, before waiting for a length it may never mean."""
        if self.session is None and not self._framer.buffered_bytes and data[0] != _CONNECT:
            raise PacketError("the first packet must be CONNECT", Reason.PROTOCOL_ERROR)

    def _handle(self, first: int, body: bytes, now: float) -> None:
        if self.session is None:
            if first != _CONNECT:
                raise PacketError("the first packet must be CONNECT", Reason.PROTOCOL_ERROR)
            self._on_connect(decode(first, body, MQTT_5), now)
            return
        packet = decode(first, body, self.version)
        act = _ACTIONS.get(type(packet))
        if act is None:
            raise PacketError(f"a client may not send {type(packet).__name__}", Reason.PROTOCOL_ERROR)
        act(self, packet, now)

    def _on_connect(self, connect: Packet, now: float) -> None:
        if not isinstance(connect, Connect):
            raise PacketError("the first packet must be CONNECT", Reason.PROTOCOL_ERROR)
        self._take_limits(connect)
        try:
            admission = admit(self.core, connect, self._certificate_name)
            session, present = self.core.registry.open(connect, admission.client.client_id, now)
        except PacketError as error:
            self._refuse(error)
            return
        self._enter(admission, session)
        props = granted(self.core, connect, admission) if self.version == MQTT_5 else NONE
        self.send(ConnAck(present, Reason.SUCCESS, props))
        self._watch(admission.keep_alive_s)
        session.attach(self, now)

    def _on_publish(self, packet: Publish, now: float) -> None:
        if self._publisher is not None:
            reason, explanation = self._publisher.publish(packet, now)
            if packet.qos:
                self.send(PubAck(packet.packet_id, reason, self._explained(explanation)))

    def _on_puback(self, packet: PubAck, now: float) -> None:
        if self.session is not None:
            self.session.acknowledge(packet.packet_id, now)

    def _on_subscribe(self, packet: Subscribe, now: float) -> None:
        if self.session is not None and self._client is not None:
            subscribe(self.core, self.session, self._client, packet, self.send, now)

    def _on_unsubscribe(self, packet: Unsubscribe, _: float) -> None:
        if self.session is not None:
            self.send(unsubscribe(self.core, self.session, packet))

    def _on_ping(self, _: PingReq, __: float) -> None:
        self.send(PingResp())

    def _on_disconnect(self, packet: Disconnect, _: float) -> None:
        expiry_s = packet.properties.session_expiry_interval
        if expiry_s is not None and self.session is not None:
            if self.session.expiry_s == 0 and expiry_s:
                raise PacketError(
                    "a session that ends with its connection can't be kept", Reason.PROTOCOL_ERROR
                )
            self.session.expiry_s = min(expiry_s, self.core.settings.max_session_expiry_s)
        self._will_wanted = packet.reason != Reason.SUCCESS
        self._finish()

    def _on_auth(self, _: Auth, __: float) -> None:
        raise PacketError("no extended authentication was begun", Reason.PROTOCOL_ERROR)

    # --- the life of the connection -------------------------------------------------------------

    def _take_limits(self, connect: Connect) -> None:
        props = connect.properties
        self.version = connect.version
        self.max_packet_bytes = props.maximum_packet_size or MAX_VARINT
        self.receive_maximum = min(
            props.receive_maximum or _DEFAULT_RECEIVE_MAXIMUM, self.core.settings.max_inflight
        )
        self._explains = connect.version == MQTT_5 and props.request_problem_information != 0

    def _enter(self, admission: Admission, session: Session) -> None:
        self.core.counters.connections += 1
        self._client = admission.client
        self.session = session
        self._publisher = Publisher(self.core, admission.client)

    def _refuse(self, error: PacketError) -> None:
        props = Properties(reason_string=str(error)) if self.version == MQTT_5 else NONE
        self.send(ConnAck(session_present=False, reason=error.reason, properties=props))
        self._finish()

    def _violation(self, error: PacketError) -> None:
        self.core.counters.protocol_errors += 1
        _log.info("mqtt_protocol_error", reason=error.reason.name, detail=str(error), client=self._name)
        if self._client is None and error.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION:
            self._refuse(error)
        else:
            self.close(error.reason, str(error))

    def _finish(self) -> None:
        self.closing = True
        if not self._output:
            self.core.unflushed.append(self)

    @property
    def _name(self) -> str | None:
        return None if self._client is None else self._client.client_id

    def _explained(self, explanation: str) -> Properties:
        """Source: MQTT 5 section 3.1.2.11.7 (request problem information)."""
        return Properties(reason_string=explanation) if explanation and self._explains else NONE

    def _watch(self, keep_alive_s: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._keep_alive_s = None, keep_alive_s
        if keep_alive_s:
            self._check_alive(self._heard_s)

    def _check_alive(self, now: float) -> None:
        due_s = self._heard_s + _KEEP_ALIVE_GRACE * self._keep_alive_s
        if self.closing:
            return
        if now >= due_s:
            self.close(Reason.KEEP_ALIVE_TIMEOUT, "nothing was heard for 1.5 times the keep-alive")
        else:
            self._timer = self.core.timers.at(due_s, self._check_alive)

    def _check_connected(self, _: float) -> None:
        if self.session is None:
            self._finish()


_ACTIONS: dict[type[Packet], Callable[[Connection, Any, float], None]] = {
    Publish: Connection._on_publish,  # noqa: SLF001  the table belongs to the class
    PubAck: Connection._on_puback,  # noqa: SLF001
    Subscribe: Connection._on_subscribe,  # noqa: SLF001
    Unsubscribe: Connection._on_unsubscribe,  # noqa: SLF001
    PingReq: Connection._on_ping,  # noqa: SLF001
    Disconnect: Connection._on_disconnect,  # noqa: SLF001
    Auth: Connection._on_auth,  # noqa: SLF001
}
