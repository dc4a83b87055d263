"""paho's socket, driven by ourselves: one read for all that has arrived, one write for a turn of the loop.

paho reads a packet in four calls of the kernel and makes a condition variable and a `Properties` object for
each message in either direction. Steps and replies go past all that. Everything else (CONNECT, SUBSCRIBE,
QoS 1, pings) stays paho's: it is handed the bytes as if it had read them.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

import paho.mqtt.client as paho

from broker.embedded.framing import Framer
from broker.embedded.primitives import MAX_VARINT, varint
from broker.embedded.reasons import PacketError
from broker.publish_packet import read_publish
from broker.transport import Incoming

_READ_BYTES = 65_536

_DONE_ELSEWHERE = 1
"""The QoS that a packet is queued with: at 0 paho would tell of each, with a `Properties` object."""


class PahoSocket:
    """Moves bytes between a paho client and its broker, on the event loop's thread.

    Args:
        client: connects and closes; its socket is read and written here.
        take: called with every message of QoS 0 without properties; paho tells of the others.
        guarded: calls what it is given, and deals with what that raises.
    """

    def __init__(
        self,
        client: paho.Client,
        take: Callable[[Incoming], None],
        guarded: Callable[[Callable[[], object]], None],
    ) -> None:
        self._client = client
        self._take = take
        self._guarded = guarded
        self._framer = Framer(MAX_VARINT)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._for_paho = b""
        self._ended = False
        self._end: OSError | None = None
        self._receive = client._sock_recv  # noqa: SLF001  whatever kind of socket it is
        client._sock_recv = self._recv_for_paho  # type: ignore[method-assign]  # noqa: SLF001

    # --- reading -----------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in what has arrived; the end of the connection is paho's to tell."""
        self._read_once()
        while self._has_decrypted():
            self._read_once()

    def _read_once(self) -> None:
        try:
            data = self._receive(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end, data = error, b""
        if not data:
            self._ended = True
            self._client.loop_read()
            return
        self._client._last_bytes_received = time.monotonic()  # noqa: SLF001  for its keep-alive
        self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        try:
            for first, body in self._framer.feed(data):
                incoming = read_publish(first, body)
                if incoming is not None:
                    self._take(incoming)
                else:
                    self._hand_over(first, body)
        except PacketError:
            self._client._loop_rc_handle(paho.MQTT_ERR_PROTOCOL)  # noqa: SLF001  it closes and tells

    def _hand_over(self, first: int, body: bytes) -> None:
        self._for_paho = b"".join((bytes((first,)), varint(len(body)), body))
        self._client.loop_read()

    def _recv_for_paho(self, bufsize: int) -> bytes:
        """What paho reads instead of its socket: one whole packet, or the end."""
        if self._end is not None:
            raise self._end
        if not self._for_paho and not self._ended:
            raise BlockingIOError
        data, self._for_paho = self._for_paho[:bufsize], self._for_paho[bufsize:]
        return data

    def _has_decrypted(self) -> bool:
        """Whether TLS holds bytes that the loop can't see any more."""
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    # --- writing -----------------------------------------------------------------------------------

    @property
    def unwritten_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        queued = self._client._out_packet  # noqa: SLF001
        return self._waiting_bytes + sum(packet["to_process"] for packet in queued)

    @property
    def closed(self) -> bool:
        """Whether there is nothing to write to."""
        return self._client.socket() is None

    def send_soon(self, packet: bytes) -> None:
        """Write a packet together with all others of this turn of the loop, at its end."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._guarded, self.flush)
        self._waiting.append(packet)
        self._waiting_bytes += len(packet)

    def flush(self) -> None:
        """Write what waits; what the kernel does not take is paho's to write when it can."""
        data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        if not data or self.closed:
            return
        self._client._out_packet.append(  # noqa: SLF001  its own way there builds an event for each packet
            {
                "command": paho.PUBLISH,
                "mid": 0,
                "qos": _DONE_ELSEWHERE,
                "pos": 0,
                "to_process": len(data),
                "packet": data,
                "info": None,
            }
        )
        self._client.loop_write()
