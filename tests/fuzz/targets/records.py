"""What comes out of Redis: records, and answers that our scripts never gave."""

from __future__ import annotations

import struct

import msgspec

from shared.context.layout import decode_record, encode_record, read_append, read_claim
from shared.context.store import LogRecord
from shared.errors import CodecError
from tests.fuzz.target import Target, same

ROWS = LogRecord(0, 2, "fp16", bytes(range(16)))
MORE = LogRecord(2, 1, "int8", b"12345678")


def record(data: bytes) -> None:
    """A record is the bytes that it was read from."""
    read = decode_record(data)
    same(lambda: encode_record(read), data)


def _records() -> list[bytes]:
    wide = struct.pack(">IIB", 2**32 - 1, 2**32 - 1, 255)
    return [encode_record(ROWS), encode_record(MORE), wide + bytes(300), b"", b"\0" * 9]


def answer(data: bytes) -> None:
    """Anything that a script could answer: integers, bytes, lists of them."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        raise CodecError("not even a value") from None
    found = [result for result in (_claimed(value), _appended(value)) if result is not None]
    if not found:
        raise CodecError("no answer of ours")


def _claimed(value: object) -> object:
    try:
        records = read_claim(value)
    except CodecError:
        return None
    if not isinstance(records, int):
        ends = [0, *(record.end_position for record in records)]
        same(lambda: [record.from_position for record in records], ends[:-1])
    return records


def _appended(value: object) -> object:
    try:
        return read_append(value)
    except CodecError:
        return None


def _answers() -> list[bytes]:
    log = [encode_record(ROWS), encode_record(MORE)]
    good = [[b"ok", log], [b"ok", []], [b"stale", 7], [b"ok", 3], [b"gap", 3], [b"full", 9]]
    bad = [[b"ok", log[::-1]], [b"ok", [1]], [b"ok", [log]], [b"stale", b"x"], [b"ok"], b"ok", 1, None, []]
    return [msgspec.msgpack.encode(each) for each in [*good, *bad]]


TARGETS = [
    Target("records.record", record, _records),
    Target("records.answer", answer, _answers),
]
