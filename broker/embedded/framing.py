"""Cuts a byte stream into packets, however the network fragmented it.

Source: MQTT 5 section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.embedded.reasons import PacketError, Reason


class Framer:
    """Feed it bytes, take `(first byte, body)` of each packet that is complete.

    Args:
        max_packet_bytes: a longer packet is refused as soon as its header is seen, before it is kept.
    """

    def __init__(self, max_packet_bytes: int) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a packet that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take bytes in and give out every complete packet, in order.

        Raises:
            PacketError: the length is malformed or the packet too large; the stream can't be read on.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while (header := self._header(at)) is not None:
                body_at, end = header
                if end > len(buffer):
                    return
                first, start, at = buffer[at], body_at, end
                yield first, bytes(buffer[start:end])
        finally:
            del buffer[:at]

    def _header(self, at: int) -> tuple[int, int] | None:
        """Where the body of the packet at `at` starts and ends; None when its length isn't all there."""
        buffer, length = self._buffer, 0
        for place in range(4):
            here = at + 1 + place
            if here >= len(buffer):
                return None
            byte = buffer[here]
            length |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if byte == 0 and place:
                    raise PacketError("a remaining length is longer than it needs to be")
                return self._bounded(at, here + 1, here + 1 + length)
        raise PacketError("a remaining length has more than four bytes")

    def _bounded(self, at: int, start: int, end: int) -> tuple[int, int]:
        if end - at > self._max_packet_bytes:
            raise PacketError(f"a packet may have {self._max_packet_bytes} bytes", Reason.PACKET_TOO_LARGE)
        return start, end
