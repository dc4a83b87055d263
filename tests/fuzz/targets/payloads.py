"""A step's states on their way into a worker: compressed ones, and the step that they are in.

Input of `payloads.CODEC`: width, count (the top bit asks for as many rows as the frame says that it has),
frame. Of `payloads.step`: a message to a worker, judged by a session that is in the middle of its work.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from cloud_worker.session import Accept, Broken, Repeat, WorkerSession
from shared.errors import CodecError, WireError
from shared.tensors.codec import codec_named
from shared.tensors.compression import COMPRESSED, Payload, pack, rows_codec, unpack
from shared.wire.codec import decode_to_worker, encode
from shared.wire.messages import MAX_STATES_BYTES, Open, Sampling, Step
from shared.wire.topics import SessionAddress
from tests.fuzz.target import Target, same

ADDRESS = SessionAddress("home", "hub", "s-3f9c0a7be1d2c455")
WIDTH, FRONTIER, MOST = 16, 30, 64
SESSION_CODEC = "int8"

# What zstd makes of a wave: 256 values in bf16, by planes.
WAVE = bytes.fromhex(
    "28b52ffd600001c50300f40500222fd9113857fc3e9ed140cea13efa5d3910e62f21da222ecb123850ff3e9bd440cba43ef764390ff4"
    "30205a232dbe14374a013d98d740c8a73ff56a390e0140403ec0c0bf3f403fbfc03e4040bcc0c0be40bf3f4040bec0c03d403f003f08"
    "00aa215000e6de1c080c7b6a449b5ba6b2067c0315ce"
)
_MAGIC = b"\x28\xb5\x2f\xfd"
_WHOLE, _WINDOWED = 0xA0, 0x80  # one segment as large as the content, or a window of its own; 4 bytes of size
_RAW, _REPEATED = 0, 1
_BLOCK_BYTES = 128 * 1024
_GIB = 0xA0  # a window that large


def compressed(name: str, data: bytes) -> None:
    """What is unpacked is exactly as long as its rows are, decodes as they do, and comes back."""
    if len(data) < 2:
        raise CodecError("no head")
    base = codec_named(rows_codec(name))
    width, count, payload = 1 + data[0] % 64, 1 + data[1] % 128, Payload(name, data[2:])
    if data[1] & 0x80:
        count = max(1, _told(payload.states) // base.row_bytes(width))
    size = count * base.row_bytes(width)
    plain = unpack(payload, size)
    if plain.codec != rows_codec(name) or len(plain.states) != size:
        raise AssertionError(f"{count} × {width} values came as {len(plain.states)} bytes of {plain.codec}")
    same(lambda: unpack(pack(name, plain.states), size), plain)
    rows = base.decode(plain.states, count, width)
    if rows.shape != (count, width) or not bool(torch.isfinite(rows).all()):
        raise AssertionError(f"{count} × {width} values came as {rows}")


def step(data: bytes) -> None:
    """An accepted step moves the frontier to its end, and is a repeat from then on; others move nothing."""
    message = decode_to_worker(data)
    if not isinstance(message, Step):
        raise WireError("no step")
    session = _session()
    verdict = session.judge(message, 1.0)
    if not isinstance(verdict, Accept):
        if (session.frontier, session.last_number) != (FRONTIER, 1):
            raise AssertionError(f"{verdict} moved the session to {session}")
        if isinstance(verdict, Broken):
            raise verdict.error
        return
    if session.frontier != message.from_position + message.count or session.frontier > MOST:
        raise AssertionError(f"{message} moved the frontier to {session.frontier}")
    if message.codec in COMPRESSED and len(verdict.work.states) != message.count * _row_bytes(SESSION_CODEC):
        raise AssertionError(f"{len(verdict.work.states)} bytes of states in {message}")
    again = session.judge(message, 2.0)
    if again != Repeat(None):
        raise AssertionError(f"{message} was taken twice")


def _session() -> WorkerSession:
    """At position `FRONTIER`, after one step."""
    session = WorkerSession(ADDRESS, 1, SESSION_CODEC, Sampling(), MOST, 0.0, FRONTIER, 1)
    session.row_bytes = _row_bytes
    return session


def _row_bytes(codec: str) -> int:
    return codec_named(codec).row_bytes(WIDTH)


def _told(frame: bytes) -> int:
    """How long a frame says that it is, up to what a step may hold; 0 where its size has no 4 bytes."""
    place = {_WHOLE: 5, _WINDOWED: 6}.get(frame[4] if len(frame) > 4 else 0)
    told = int.from_bytes(frame[place : place + 4], "little") if place else 0
    return min(told, MAX_STATES_BYTES)


def _frame(told: int, *blocks: bytes, window: int | None = None) -> bytes:
    """A frame that says it has so many bytes."""
    head = bytes((_WHOLE,)) if window is None else bytes((_WINDOWED, window))
    return _MAGIC + head + told.to_bytes(4, "little") + b"".join(blocks)


def _block(kind: int, size: int, body: bytes, *, last: bool = True) -> bytes:
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + body


def _zeros(size: int) -> Iterator[bytes]:
    """So many of them, in blocks of four bytes each."""
    for left in range(size, 0, -_BLOCK_BYTES):
        yield _block(_REPEATED, min(left, _BLOCK_BYTES), b"\0", last=left <= _BLOCK_BYTES)


def _row(codec: str) -> bytes:
    """A valid one."""
    return codec_named(codec).encode(torch.linspace(-4.0, 3.0, WIDTH)[None])


def _frames(row: bytes) -> list[bytes]:
    """A row, and frames that say less or more than they hold."""
    row_bytes, raw = len(row), _block(_RAW, len(row), row)
    return [
        _frame(row_bytes, raw),
        _frame(2 * row_bytes, *_zeros(2 * row_bytes)),
        _frame(row_bytes, *_zeros(2 * row_bytes)),
        _frame(row_bytes, *_zeros(1 << 24)),
        _frame(1 << 31, *_zeros(1 << 24)),
        _frame(MAX_STATES_BYTES, *_zeros(MAX_STATES_BYTES)),
        _frame(MAX_STATES_BYTES, *_zeros(1 << 24)),
        _frame(row_bytes, raw, window=_GIB),
        _frame(row_bytes, raw[:-1], window=_GIB),
        _frame(row_bytes, raw, window=0xFF),
        _frame(row_bytes, raw) + _frame(row_bytes, raw),
        _frame(MAX_STATES_BYTES),
        b"",
    ]


def _seeds(name: str) -> list[bytes]:
    heads = (bytes((WIDTH - 1, 0)), bytes((WIDTH - 1, 0x80)))
    frames = [*_frames(_row(rows_codec(name))), WAVE]
    return [head + frame for head in heads for frame in frames]


def _steps() -> list[bytes]:
    row = _row(SESSION_CODEC)
    messages = [
        Step(1, 2, FRONTIER, 1, row, [FRONTIER]),
        Step(1, 2, FRONTIER - 2, 3, row * 3, [FRONTIER - 1, FRONTIER], [[7], []], after=1),
        Step(1, 2, FRONTIER, 1, b"", [FRONTIER], codec="bf16"),
        Step(1, 2, FRONTIER, 1, b"", [FRONTIER + 1]),
        Step(1, 2, FRONTIER - 2, 2, row * 2, [FRONTIER - 1, FRONTIER - 2]),
        Step(1, 2, FRONTIER, 1 << 20, b""),
        Step(1, 3, FRONTIER, 1, row, after=2),
        Step(1, 1, FRONTIER, 1, row),
        Step(2, 1, 0, 1, row),
        *(Step(1, 2, FRONTIER, 1, frame, codec="int8+zstd") for frame in _frames(row)),
    ]
    return [*map(encode, messages), encode(Open(1, "ab" * 32, SESSION_CODEC))]


TARGETS = [
    *(
        Target(f"payloads.{name}", partial(compressed, name), partial(_seeds, name), native=True)
        for name in COMPRESSED
    ),
    Target("payloads.step", step, _steps),
]
