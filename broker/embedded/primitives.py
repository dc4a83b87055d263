"""The data types every MQTT packet is made of, read with bounds and written as bytes.

Source: MQTT 5 section 1.5.
"""

from __future__ import annotations

from broker.embedded.reasons import PacketError

MAX_VARINT = 268_435_455
"""Four bytes of seven bits: no packet can be longer. Source: MQTT 5 table 1-1."""


class Reader:
    """Reads one packet's body from front to back; running off its end is a malformed packet."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self._end - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            PacketError: when fewer are left.
        """
        start = self._at
        if start + count > self._end:
            raise PacketError("a field ends beyond its packet")
        self._at = start + count
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """All bytes not read yet."""
        return self.take(self.left)

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """A two-byte integer, big-endian."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """A four-byte integer, big-endian."""
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """A variable byte integer in its shortest form.

        Source: MQTT 5 section 1.5.5 [MQTT-1.5.5-1].
        """
        value = 0
        for place in range(4):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if byte == 0 and place:
                    raise PacketError("a variable byte integer is longer than it needs to be")
                return value
        raise PacketError("a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        """Length-prefixed bytes."""
        return self.take(self.u16())

    def text(self) -> str:
        """Length-prefixed UTF-8 without NUL.

        Source: MQTT 5 section 1.5.4 [MQTT-1.5.4-1], [MQTT-1.5.4-2].
        """
        try:
            text = self.binary().decode("utf-8")
        except UnicodeDecodeError:
            raise PacketError("a string is not UTF-8") from None
        if "\0" in text:
            raise PacketError("a string holds the NUL character")
        return text


def varint(value: int) -> bytes:
    """A variable byte integer (0 … 268,435,455)."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def u16(value: int) -> bytes:
    """A two-byte integer, big-endian."""
    return value.to_bytes(2, "big")


def binary(value: bytes) -> bytes:
    """Length-prefixed bytes (at most 65,535)."""
    return len(value).to_bytes(2, "big") + value


def text(value: str) -> bytes:
    """Length-prefixed UTF-8."""
    return binary(value.encode("utf-8"))
