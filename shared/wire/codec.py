"""Bytes of messages: one version byte, then msgpack. Size first, version second, types last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.errors import MessageTooLargeError, UnknownVersionError, WireError
from shared.wire.group import MAX_GROUP_BYTES, Part, Parts
from shared.wire.messages import MAX_STATES_BYTES, ToEdge, ToWorker

WIRE_VERSION = 1
_VERSION_BYTE = bytes([WIRE_VERSION])
# The largest step carries MAX_STATES_BYTES of states, its wants (≤ 5 bytes each) and a small head.
MAX_MESSAGE_BYTES = MAX_STATES_BYTES + 8 * 1024

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_edge: msgspec.msgpack.Decoder[ToEdge] = msgspec.msgpack.Decoder(ToEdge)
_group: msgspec.msgpack.Decoder[Parts] = msgspec.msgpack.Decoder(Parts)


def encode(message: ToWorker | ToEdge) -> bytes:
    """The bytes of a message."""
    return _VERSION_BYTE + _encoder.encode(message)


def decode_to_worker(payload: bytes) -> ToWorker:
    """A message of an edge, read by a worker.

    Raises:
        MessageTooLargeError: over `MAX_MESSAGE_BYTES`; nothing was decoded.
        UnknownVersionError: not `WIRE_VERSION`.
        WireError: not a message, or a field out of its bounds.
    """
    message: ToWorker = _decode(payload, _to_worker)
    return message


def decode_to_edge(payload: bytes) -> ToEdge:
    """A message of a worker, read by an edge. Raises as `decode_to_worker`."""
    message: ToEdge = _decode(payload, _to_edge)
    return message


def encode_group(parts: Sequence[Part]) -> bytes:
    """The bytes of several messages together; the caller keeps the bounds of `shared/wire/group.py`."""
    return _VERSION_BYTE + _encoder.encode(parts)


def decode_group(payload: bytes) -> list[Part]:
    """The messages of a group, which are not decoded yet: a malformed one is its session's own fault.

    Raises:
        MessageTooLargeError: over `MAX_GROUP_BYTES`; nothing was decoded.
        UnknownVersionError: not `WIRE_VERSION`.
        WireError: no group, or a session id that can't stand in a topic.
    """
    parts: list[Part] = _decode(payload, _group, MAX_GROUP_BYTES)
    return parts


def _decode(payload: bytes, decoder: msgspec.msgpack.Decoder[Any], max_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    if len(payload) > max_bytes:
        msg = f"message of {len(payload)} bytes; at most {max_bytes} are read: send smaller chunks"
        raise MessageTooLargeError(msg)
    if payload[:1] != _VERSION_BYTE:
        got = payload[0] if payload else "none"
        msg = f"wire version {got}, this build speaks {WIRE_VERSION}: run the same release on both sides"
        raise UnknownVersionError(msg)
    try:
        return decoder.decode(memoryview(payload)[1:])
    # A ValidationError is a DecodeError; a broken tag leaves msgspec as the UnicodeDecodeError it is.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"malformed message: {error}"
        raise WireError(msg) from error
