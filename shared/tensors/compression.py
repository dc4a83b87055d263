"""Compressed payloads: the rows of one step, squeezed together on their way over the link.

Rows stay of a fixed size wherever they are kept (state log, worker, Redis). Only a step's payload is
compressed, so that logs can still be cut anywhere. Nothing is gained on few rows: such a step says that its
states are plain, in `Step.codec`.
"""

from __future__ import annotations

import importlib
from typing import Any, Final, NamedTuple

import numpy as np

from shared.errors import CodecError
from shared.wire.messages import MAX_STATES_BYTES

_SUFFIX: Final = "+zstd"
# Where it pays; four bits, and halves with their noisy last bits, have nothing left to squeeze out.
COMPRESSED: Final = ("bf16+zstd", "int8+zstd")
_LEVEL: Final = 1  # higher ones find nothing more in states, and take longer
# Bytes of a value; like bytes of all values are compressed together: exponents are alike, mantissas not.
_VALUE_BYTES: Final = {"bf16": 2, "int8": 1}


class Payload(NamedTuple):
    """A step's states and the codec that they are in."""

    codec: str
    states: bytes


def rows_codec(name: str) -> str:
    """The codec of the rows inside payloads of `name`, which is `name` itself if it does not compress."""
    return name.removesuffix(_SUFFIX) if name in COMPRESSED else name


def check_compression(name: str) -> None:
    """Refuse a codec that needs what is not installed; to be asked when an edge or session starts.

    Raises:
        CodecError: it compresses and the package is missing.
    """
    if name in COMPRESSED:
        _zstandard()


def pack(name: str, rows: bytes) -> Payload:
    """A step's payload.

    Args:
        name: the session's codec.
        rows: encoded in `rows_codec(name)`.

    Returns:
        Compressed states, or the rows as they are where that is no longer.

    Raises:
        CodecError: zstandard is not installed.
    """
    base = rows_codec(name)
    if base == name:
        return Payload(name, rows)
    squeezed = _zstandard().ZstdCompressor(level=_LEVEL).compress(_by_plane(rows, _VALUE_BYTES[base]))
    return Payload(name, squeezed) if len(squeezed) < len(rows) else Payload(base, rows)


def unpack(payload: Payload, size: int) -> Payload:
    """A payload that a peer sent, with plain rows.

    Args:
        payload: as it came.
        size: bytes of its rows, by their count; nothing larger is ever allocated.

    Raises:
        CodecError: it does not hold exactly `size` bytes, or zstandard is not installed (the message says
            which; both end the session's use of this codec).
    """
    base = rows_codec(payload.codec)
    if base == payload.codec:
        return payload
    return Payload(base, _by_value(_decompressed(payload, size), _VALUE_BYTES[base]))


def _decompressed(payload: Payload, size: int) -> bytes:
    zstandard = _zstandard()
    try:
        # The frame's own word on its size is what the library allocates.
        told = zstandard.frame_content_size(payload.states)
        if told != size or size > MAX_STATES_BYTES:
            msg = f"states in codec {payload.codec} are {told} bytes when decompressed, not {size}"
            raise CodecError(msg)
        data: bytes = zstandard.ZstdDecompressor().decompress(payload.states, allow_extra_data=False)
    except zstandard.ZstdError as error:
        msg = f"states in codec {payload.codec} can't be decompressed: {error}"
        raise CodecError(msg) from error
    return data


def _by_plane(rows: bytes, value_bytes: int) -> bytes:
    if value_bytes == 1:
        return rows
    return np.frombuffer(rows, np.uint8).reshape(-1, value_bytes).T.tobytes()


def _by_value(planes: bytes, value_bytes: int) -> bytes:
    if value_bytes == 1:
        return planes
    return np.frombuffer(planes, np.uint8).reshape(value_bytes, -1).T.tobytes()


def _zstandard() -> Any:
    """The package, which few hosts need.

    Raises:
        CodecError: it is not installed.
    """
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        msg = (
            "codecs that compress need the package zstandard: install it with pip install 'antiphon[zstd]', "
            "or choose a codec without +zstd, such as int8"
        )
        raise CodecError(msg) from error
