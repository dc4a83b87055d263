"""What stands in Redis: a record's bytes, and what our scripts answer.

Both are read as a stranger's: whoever else uses that Redis may have put anything under our keys.

    record   from_position, count, length of codec (4, 4, 1 bytes, big endian), codec, rows
"""

from __future__ import annotations

import struct
from typing import Final

from shared.context.store import LogRecord
from shared.errors import CodecError

_HEAD: Final = struct.Struct(">IIB")
_STATUSES: Final = (b"ok", b"stale", b"gap", b"full")


def encode_record(record: LogRecord) -> bytes:
    """The bytes of a record."""
    codec = record.codec.encode()
    return _HEAD.pack(record.from_position, record.count, len(codec)) + codec + record.states


def decode_record(blob: object) -> LogRecord:
    """A record from its bytes.

    Raises:
        CodecError: They are none.
    """
    if not isinstance(blob, bytes):
        raise CodecError(f"a record is bytes, this is {type(blob).__name__}")
    try:
        from_position, count, codec_bytes = _HEAD.unpack_from(blob)
        states_at = _HEAD.size + codec_bytes
        codec = blob[_HEAD.size : states_at].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise CodecError(f"no record of ours: {error}") from None
    return LogRecord(from_position, count, codec, blob[states_at:])


def read_claim(answer: object) -> tuple[LogRecord, ...] | int:
    """What `claim.lua` answers: the session's records, or the newer epoch that has it.

    Raises:
        CodecError: It is no such answer, or its records don't follow each other from position 0.
    """
    match answer:
        case [b"ok", list(blobs)]:
            return _followed(tuple(decode_record(blob) for blob in blobs))
        case [b"stale", int(stored)]:
            return stored
    raise CodecError("no answer of ours to a claim")


def read_append(answer: object) -> tuple[bytes, int]:
    """What `append.lua` answers: a status, and the frontier, epoch or bytes that it is about.

    Raises:
        CodecError: It is no such answer.
    """
    match answer:
        case [bytes(status), int(number)] if status in _STATUSES:
            return status, number
    raise CodecError("no answer of ours to an append")


def _followed(records: tuple[LogRecord, ...]) -> tuple[LogRecord, ...]:
    end = 0
    for record in records:
        if record.from_position != end:
            raise CodecError(f"records leave off at position {end} and go on at {record.from_position}")
        end = record.end_position
    return records
