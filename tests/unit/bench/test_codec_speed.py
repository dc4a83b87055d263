"""The codec bench's bytes and times of made-up rows."""

from __future__ import annotations

import sys

import pytest

from ops.bench.codec.outcome import report_of
from ops.bench.codec.speed import MANY_ROWS, measure_speed
from ops.commands.bench_codec import _compressing
from shared.tensors.codec import codec_named
from shared.tensors.compression import COMPRESSED, rows_codec

WIDTH = 256


@pytest.mark.parametrize("name", COMPRESSED)
def test_compression_is_measured_as_a_step_travels_and_loses_nothing(name: str) -> None:
    pytest.importorskip("zstandard")
    found, plain = measure_speed(name, WIDTH, 1), measure_speed(rows_codec(name), WIDTH, 1)
    assert found.row_bytes <= plain.row_bytes, "what does not get shorter travels plain"
    assert found.many_bytes < plain.many_bytes == plain.row_bytes
    assert found.relative_error == plain.relative_error
    assert found.encode_many_us.median > 0


def test_rows_of_a_codec_that_does_not_compress_are_as_long_together_as_alone() -> None:
    found = measure_speed("int8", WIDTH, 1)
    assert found.row_bytes == found.many_bytes == codec_named("int8").row_bytes(WIDTH)
    assert found.fp16_share == found.many_share == found.row_bytes / codec_named("fp16").row_bytes(WIDTH)


def test_the_table_has_both_sizes() -> None:
    (row,) = report_of([measure_speed("bf16", WIDTH, 1)], [], {}).rows
    assert row["bytes/row"] == row[f"bytes/row of {MANY_ROWS}"] == 2 * WIDTH


def test_an_installation_without_zstandard_leaves_its_codecs_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert _compressing() == ()
    said = capsys.readouterr().err
    assert all(name in said for name in COMPRESSED)
