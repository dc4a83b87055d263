"""Compressed payloads: rows come back bit for bit, and a peer's word on a size allocates nothing."""

from __future__ import annotations

import sys

import pytest
import torch

from shared.errors import CodecError
from shared.tensors.codec import CODECS
from shared.tensors.compression import COMPRESSED, Payload, check_compression, pack, rows_codec, unpack
from shared.wire.messages import MAX_STATES_BYTES


def encoded(codec: str, count: int) -> bytes:
    values = torch.randn(count, 256, generator=torch.Generator().manual_seed(1)) * 20
    return CODECS[rows_codec(codec)].encode(values)


def test_the_rows_inside_have_a_codec_of_their_own():
    assert [rows_codec(name) for name in (*COMPRESSED, "int4", "zip+zstd")] == [
        "bf16",
        "int8",
        "int4",
        "zip+zstd",
    ]


def test_a_codec_that_does_not_compress_leaves_payloads_alone():
    rows = encoded("int4", 3)
    assert pack("int4", rows) == Payload("int4", rows)
    assert unpack(Payload("int4", rows), 7) == Payload("int4", rows)
    check_compression("int4")


@pytest.mark.parametrize("name", COMPRESSED)
def test_without_the_package_the_refusal_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for refused in (
        lambda: check_compression(name),
        lambda: pack(name, encoded(name, 2)),
        lambda: unpack(Payload(name, b"x"), 1),
    ):
        with pytest.raises(CodecError, match=r"pip install 'antiphon\[zstd\]'"):
            refused()


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("count", [16, 64])
def test_many_rows_become_shorter_and_come_back_bit_for_bit(name: str, count: int):
    pytest.importorskip("zstandard")
    rows = encoded(name, count)
    packed = pack(name, rows)
    if name == "bf16+zstd":
        assert packed.codec == name
        assert len(packed.states) < 0.85 * len(rows)
    assert unpack(packed, len(rows)) == Payload(rows_codec(name), rows)


def test_rows_that_do_not_become_shorter_travel_as_they_are():
    pytest.importorskip("zstandard")
    noise = bytes(torch.randint(0, 256, (500,), generator=torch.Generator().manual_seed(2)).tolist())
    assert pack("int8+zstd", noise) == Payload("int8", noise)


def test_a_frame_that_tells_another_size_is_refused_before_anything_is_allocated():
    zstandard = pytest.importorskip("zstandard")
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    assert len(bomb) < 1 << 14
    for size in (1 << 10, 1 << 26):
        with pytest.raises(CodecError, match="when decompressed"):
            unpack(Payload("int8+zstd", bomb), size)
    assert MAX_STATES_BYTES < 1 << 26


@pytest.mark.parametrize(
    "states", [b"", b"zstd?", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x20\x10garbage and more"]
)
def test_what_is_no_frame_is_refused(states: bytes):
    pytest.importorskip("zstandard")
    with pytest.raises(CodecError):
        unpack(Payload("int8+zstd", states), 16)


def test_a_frame_without_its_size_is_refused():
    zstandard = pytest.importorskip("zstandard")
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64))
    with pytest.raises(CodecError, match="when decompressed"):
        unpack(Payload("int8+zstd", frame), 64)


def test_a_frame_that_is_cut_short_is_refused():
    zstandard = pytest.importorskip("zstandard")
    frame = zstandard.ZstdCompressor().compress(bytes(range(256)) * 4)
    with pytest.raises(CodecError):
        unpack(Payload("int8+zstd", frame[:-3]), 1024)
