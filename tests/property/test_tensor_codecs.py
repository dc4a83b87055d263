"""Hidden-state codecs: bounds of their error, rows independent, nothing malformed gets through."""

from __future__ import annotations

import contextlib
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CodecError
from shared.tensors.codec import CODECS, codec_named
from shared.tensors.grouped import GROUPED
from shared.tensors.int4 import WIDEST_MARKED
from shared.tensors.outliers import outlier_count

# Of the row's largest value, or of the largest that is not kept apart.
MAX_RELATIVE_ERROR = {"fp32": 0.0, "fp16": 2**-10, "bf16": 2**-8, "int8": 0.5 / 127 + 1e-6}
# Codecs, and widths of a row, that keep its largest values exactly.
APART = [("int8", 64), ("int4", 320)]
# Of the rest's norm: sixteen values off by half the widest step between levels, in every group.
INT4_MAX_ERROR = 0.4
INT4_FLOOR = 1e-3  # of the rest's largest value: the smallest factor that a group can have
# In a narrow row of int4: so many of the largest, at least, in bfloat16; a scale in bfloat16 also.
MARKED = 3
BF16_ERROR = 2.0**-8
LEAST_SCALE = torch.finfo(torch.float32).tiny


def rows_of(widths: st.SearchStrategy[int]) -> st.SearchStrategy[tuple]:
    """What `make_rows` makes rows of."""
    sizes = st.sampled_from([0.0, 1e-6, 1.0, 1e3, 1e7, 3e37])
    return st.tuples(st.integers(1, 6), widths, st.integers(0, 2**31), sizes, st.booleans())


rows = rows_of(st.integers(1, 67) | st.integers(68, 300))
narrow_rows = rows_of(st.integers(1, WIDEST_MARKED))
wide_rows = rows_of(st.integers(WIDEST_MARKED + 1, 400))


def make_rows(spec) -> torch.Tensor:
    count, width, seed, scale, outlier = spec
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale
    if outlier:
        values[0, seed % width] = 1e5 * min(max(scale, 1.0), 1e32)
    return values


def without_largest(values: torch.Tensor, count: int) -> torch.Tensor:
    places = values.abs().topk(min(count, values.shape[1]), dim=1).indices
    return values.clone().scatter_(1, places, 0.0)


def through(name: str, values: torch.Tensor) -> torch.Tensor:
    return CODECS[name].decode(CODECS[name].encode(values), *values.shape)


def half_a_level(width: int) -> float:
    """Of the largest value between the levels of a narrow row: seven bits up to 64, six to 96, then five."""
    last_level = 63 if width <= 64 else 31 if width <= 96 else 15
    return 0.5 / last_level * (1 + BF16_ERROR)


def rows_with_massive_values(count: int, width: int, size: float) -> torch.Tensor:
    """Ordinary rows in which three dimensions are `size` times the others."""
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(5))
    values[:, [3, width // 2, width - 1]] *= size
    return values


@pytest.mark.parametrize("name", MAX_RELATIVE_ERROR)
@given(spec=rows)
def test_each_value_comes_back_within_the_codecs_share_of_its_rows_peak(name, spec):
    values = make_rows(spec)
    codec = CODECS[name]
    encoded = codec.encode(values)
    assert len(encoded) == values.shape[0] * codec.row_bytes(values.shape[1])
    back = codec.decode(encoded, *values.shape)
    rest = without_largest(values, outlier_count(values.shape[1])) if name == "int8" else values
    peak = rest.abs().amax(dim=1, keepdim=True)
    floor = 2.0**-24 if name == "fp16" else 1e-37
    assert ((back - values).abs() <= peak * MAX_RELATIVE_ERROR[name] + floor).all()


@given(spec=wide_rows)
def test_four_bits_keep_the_rest_of_a_wide_row_within_a_share_of_its_norm(spec):
    values = make_rows(spec).double()
    rest = without_largest(values, outlier_count(values.shape[1]))
    error = (through("int4", values).double() - values).norm(dim=1)
    floor = rest.abs().amax(dim=1) * values.shape[1] ** 0.5 * INT4_FLOOR + 1e-37
    assert (error <= rest.norm(dim=1) * INT4_MAX_ERROR + floor).all()


@given(spec=narrow_rows)
def test_each_value_of_a_narrow_row_is_off_by_half_a_level_or_by_a_bfloat16s_rounding(spec):
    values = make_rows(spec)
    rest = without_largest(values, MARKED)
    peak = rest.abs().amax(dim=1, keepdim=True)
    allowed = torch.where(rest == 0, values.abs() * BF16_ERROR, peak * half_a_level(values.shape[1]))
    assert ((through("int4", values) - values).abs() <= allowed * (1 + 1e-5) + LEAST_SCALE).all()


@given(spec=narrow_rows)
def test_a_narrow_rows_largest_values_come_back_as_bfloat16(spec):
    values = make_rows(spec)
    back, rounded = through("int4", values), values.bfloat16().float()
    assert ((back == rounded).sum(dim=1) >= min(MARKED, values.shape[1])).all()
    assert torch.equal(back.abs().amax(dim=1), rounded.abs().amax(dim=1))


@pytest.mark.parametrize(("name", "specs"), [("int8", rows), ("int4", wide_rows)])
@given(data=st.data())
def test_the_largest_values_come_back_exactly(name, specs, data):
    values = make_rows(data.draw(specs))
    back = through(name, values)
    places = values.abs().topk(outlier_count(values.shape[1]), dim=1).indices
    # Of equal values any may have been kept; their sizes tell.
    kept = (back == values).sum(dim=1)
    assert (kept >= outlier_count(values.shape[1])).all()
    largest = values.abs().amax(dim=1)
    assert torch.equal(back.gather(1, places[:, :1]).abs()[:, 0], largest)


@pytest.mark.parametrize(("name", "most"), [("int8", 0.012), ("int4", 0.085)])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e5])
@pytest.mark.parametrize("width", [64, 96, 128, 256, 257, 2048])
def test_massive_values_cost_the_ordinary_ones_nothing(name, most, size, width):
    """Residual streams have them in a few dimensions; a shared scale would round all else to zero."""
    values = rows_with_massive_values(8, width, size)
    back = through(name, values)
    ordinary = torch.ones(width, dtype=torch.bool)
    ordinary[[3, width // 2, width - 1]] = False
    error = (back - values)[:, ordinary].norm() / values[:, ordinary].norm()
    assert error <= most


@pytest.mark.parametrize(("name", "most"), [("int8", 0.53), ("int4", 0.30)])
def test_a_row_of_width_2048_is_as_short_as_promised(name, most):
    assert CODECS[name].row_bytes(2048) <= most * CODECS["fp16"].row_bytes(2048)


@pytest.mark.parametrize(("width", "most"), [(64, 64), (96, 82), (128, 100), (256, 172)])
def test_a_narrow_row_of_int4_is_no_longer_than_one_in_groups(width, most):
    assert CODECS["int4"].row_bytes(width) <= most == GROUPED.layout(width).itemsize


def test_no_width_has_longer_rows_than_groups_would_make():
    for width in range(1, 301):
        assert CODECS["int4"].row_bytes(width) <= GROUPED.layout(width).itemsize


@pytest.mark.parametrize(("width", "most"), [(64, 0.012), (96, 0.024), (128, 0.04), (256, 0.05)])
def test_narrow_rows_are_finer_than_four_bits(width, most):
    values = torch.randn(64, width, generator=torch.Generator().manual_seed(width))
    assert (through("int4", values) - values).norm() <= most * values.norm()


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
@pytest.mark.parametrize("width", [16, 67, 96, 320, 2048])
def test_what_a_row_decodes_to_does_not_depend_on_its_neighbours(name, width):
    """A worker that takes many rows at once must see what one that takes them singly saw."""
    codec = CODECS[name]
    encoded = codec.encode(rows_with_massive_values(5, width, 1e3))
    together = codec.decode(encoded, 5, width)
    size = codec.row_bytes(width)
    for i in range(5):
        assert torch.equal(codec.decode(encoded[i * size : (i + 1) * size], 1, width)[0], together[i])


@pytest.mark.parametrize("name", CODECS)
@given(count=st.integers(1, 4), width=st.integers(1, 300))
def test_zeros_stay_zeros(name, count, width):
    codec = CODECS[name]
    assert not codec.decode(codec.encode(torch.zeros(count, width)), count, width).any()


@pytest.mark.parametrize("name", CODECS)
def test_no_rows_are_no_bytes(name):
    codec = CODECS[name]
    assert codec.encode(torch.empty(0, 8)) == b""
    assert codec.decode(b"", 0, 8).shape == (0, 8)


@pytest.mark.parametrize("name", CODECS)
def test_decoded_rows_are_the_receivers_own(name):
    """The engine writes into what it gets; a message's bytes must not change under it."""
    data = CODECS[name].encode(torch.ones(1, 8))
    kept = bytes(bytearray(data))
    CODECS[name].decode(data, 1, 8).zero_()
    assert data == kept


@pytest.mark.parametrize("name", CODECS)
def test_wrong_lengths_and_unfinite_values_are_refused_on_both_sides(name):
    codec = CODECS[name]
    with pytest.raises(CodecError, match="disagree"):
        codec.decode(b"123", 1, 8)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(CodecError):
            codec.encode(torch.full((1, 8), bad))
        values = torch.ones(3, 8)
        values[1, 5] = bad
        with pytest.raises(CodecError):
            codec.encode(values)
    if name in ("fp32", "fp16", "bf16"):
        encoded = bytearray(codec.encode(torch.ones(1, 8)))
        encoded[-4:] = b"\xff\xff\xff\xff"  # NaN in every float format
        with pytest.raises(CodecError, match="NaN"):
            codec.decode(bytes(encoded), 1, 8)


@pytest.mark.parametrize(
    ("name", "width", "scale_bytes"), [("fp16", 64, 4), ("int8", 64, 4), ("int4", 64, 2), ("int4", 320, 4)]
)
def test_a_scale_that_is_not_a_number_is_refused(name, width, scale_bytes):
    codec = CODECS[name]
    encoded = bytearray(codec.encode(torch.ones(1, width)))
    encoded[:scale_bytes] = b"\xff" * scale_bytes
    with pytest.raises(CodecError, match="NaN"):
        codec.decode(bytes(encoded), 1, width)


@pytest.mark.parametrize(("name", "width"), APART)
@pytest.mark.parametrize(
    "places",
    [b"\x00\x00\x01\x00\x02\x00\x40\x01", b"\xff\xff" * 4, b"\x03\x00\x02\x00\x04\x00\x05\x00", bytes(8)],
)
def test_places_of_outliers_outside_the_row_or_out_of_order_are_refused(name, width, places):
    codec = CODECS[name]
    encoded = bytearray(codec.encode(torch.ones(1, width)))
    encoded[4:12] = places
    with pytest.raises(CodecError, match="outliers"):
        codec.decode(bytes(encoded), 1, width)


@pytest.mark.parametrize(
    ("name", "width", "at", "not_a_number"),
    [
        *((name, width, 12, b"\x00\x00\xc0\x7f") for name, width in APART),
        *(("int4", width, 2, b"\xc0\x7f") for width in (1, 64, 256)),
    ],
)
def test_an_outlier_that_is_not_a_number_is_refused(name, width, at, not_a_number):
    codec = CODECS[name]
    encoded = bytearray(codec.encode(torch.ones(1, width)))
    encoded[at : at + len(not_a_number)] = not_a_number
    with pytest.raises(CodecError, match="NaN"):
        codec.decode(bytes(encoded), 1, width)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_rows_too_wide_for_places_of_two_bytes_are_refused(name):
    with pytest.raises(CodecError, match="wider than 65536"):
        codec_named(name).row_bytes(65_537)


def test_an_unknown_codec_is_refused_with_the_known_ones():
    with pytest.raises(CodecError, match="fp32, fp16, bf16, int8, int4"):
        codec_named("zip")


def test_random_bytes_of_the_right_length_decode_to_finite_rows_or_are_refused():
    generator = torch.Generator().manual_seed(7)
    for (name, codec), width in product(CODECS.items(), (16, 320)):
        for _ in range(200):
            data = bytes(torch.randint(0, 256, (codec.row_bytes(width),), generator=generator).tolist())
            with contextlib.suppress(CodecError):
                assert torch.isfinite(codec.decode(data, 1, width)).all(), name


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8", "int4"])
def test_what_rounding_would_carry_to_infinity_is_refused_by_its_sender(name):
    """The receiver would refuse it, and name the wrong side."""
    codec = codec_named(name)
    with pytest.raises(CodecError, match="overflowed"):
        codec.encode(torch.tensor([[torch.finfo(torch.float32).max, 1.0]]))
    large = torch.full((1, 64), 3.29e38)
    large[0, ::2] *= -1
    assert torch.isfinite(codec.decode(codec.encode(large), 1, 64)).all()


def test_half_precision_scales_rows_past_its_range_instead_of_sending_infinity():
    codec = codec_named("fp16")
    values = torch.tensor([[1e5, -7e6, 1.0], [60_000.0, -1.0, 65_519.0]])
    back = codec.decode(codec.encode(values), 2, 3)
    assert torch.allclose(back, values, rtol=2**-10, atol=2**-10)
