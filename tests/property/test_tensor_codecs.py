"""Hidden-state codecs: bounds of their error, rows independent, nothing malformed gets through."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CodecError
from shared.tensors.codec import CODECS, codec_named

MAX_RELATIVE_ERROR = {"fp32": 0.0, "fp16": 2**-10, "int8": 0.5 / 127 + 1e-6}

rows = st.tuples(
    st.integers(1, 6),
    st.integers(1, 67),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 1e-6, 1.0, 1e3, 1e7]),
    st.booleans(),
)


def make_rows(spec) -> torch.Tensor:
    count, width, seed, scale, outlier = spec
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale
    if outlier:
        values[0, seed % width] = 1e5 * max(scale, 1.0)
    return values


@pytest.mark.parametrize("name", CODECS)
@given(spec=rows)
def test_each_value_comes_back_within_the_codecs_share_of_its_rows_peak(name, spec):
    values = make_rows(spec)
    codec = CODECS[name]
    encoded = codec.encode(values)
    assert len(encoded) == values.shape[0] * codec.row_bytes(values.shape[1])
    back = codec.decode(encoded, *values.shape)
    peak = values.abs().amax(dim=1, keepdim=True)
    assert ((back - values).abs() <= peak * MAX_RELATIVE_ERROR[name] + 1e-7).all()


@pytest.mark.parametrize("name", CODECS)
@given(spec=rows)
def test_rows_are_encoded_independently_so_any_range_is_a_slice(name, spec):
    values = make_rows(spec)
    codec = CODECS[name]
    width = codec.row_bytes(values.shape[1])
    encoded = codec.encode(values)
    for i in range(len(values)):
        assert encoded[i * width : (i + 1) * width] == codec.encode(values[i : i + 1])


@pytest.mark.parametrize("name", CODECS)
def test_wrong_lengths_and_unfinite_values_are_refused_on_both_sides(name):
    codec = CODECS[name]
    with pytest.raises(CodecError, match="disagree"):
        codec.decode(b"123", 1, 8)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(CodecError):
            codec.encode(torch.full((1, 8), bad))
    if name != "int8":
        encoded = bytearray(codec.encode(torch.ones(1, 8)))
        encoded[-4:] = b"\xff\xff\xff\xff"  # NaN in both float formats
        with pytest.raises(CodecError, match="NaN"):
            codec.decode(bytes(encoded), 1, 8)


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_scale_that_is_not_a_number_is_refused(name):
    codec = CODECS[name]
    encoded = bytearray(codec.encode(torch.ones(1, 8)))
    encoded[:4] = b"\xff\xff\xff\xff"
    with pytest.raises(CodecError):
        codec.decode(bytes(encoded), 1, 8)


def test_an_unknown_codec_is_refused_with_the_known_ones():
    with pytest.raises(CodecError, match="fp32, fp16, int8"):
        codec_named("zip")


def test_random_bytes_of_the_right_length_decode_to_finite_rows_or_are_refused():
    generator = torch.Generator().manual_seed(7)
    for name, codec in CODECS.items():
        for _ in range(200):
            data = bytes(torch.randint(0, 256, (codec.row_bytes(16),), generator=generator).tolist())
            with contextlib.suppress(CodecError):
                assert torch.isfinite(codec.decode(data, 1, 16)).all(), name


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_what_rounding_would_carry_to_infinity_is_refused_by_its_sender(name):
    """The receiver would refuse it, and name the wrong side."""
    codec = codec_named(name)
    with pytest.raises(CodecError, match="overflowed"):
        codec.encode(torch.tensor([[torch.finfo(torch.float32).max, 1.0]]))
    large = torch.tensor([[3.29e38, -3.29e38]])
    assert torch.allclose(codec.decode(codec.encode(large), 1, 2), large, rtol=MAX_RELATIVE_ERROR[name])
