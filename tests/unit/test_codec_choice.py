"""`edge.codec = auto`: the finest codec that the link carries unnoticed, never below the wanted quality."""

from __future__ import annotations

import math

import pytest

from edge_agent.codec_choice import FALLBACK, choose_codec
from shared.model.calibration import CodecScore

SCORES = (
    CodecScore("fp32", 8192, 1.0),
    CodecScore("fp16", 4100, 1.0),
    CodecScore("bf16", 4096, 0.999),
    CodecScore("int8", 2124, 0.998),
    CodecScore("int4", 1228, 0.97),
)


@pytest.mark.parametrize(
    ("bytes_per_s", "codec"),
    [(math.inf, "fp16"), (1e9, "fp16"), (2.1e7, "fp16"), (1.2e7, "int8"), (1e5, "int8"), (0.0, "int8")],
)
def test_a_slower_link_gets_shorter_rows_of_the_wanted_quality(bytes_per_s: float, codec: str):
    assert choose_codec(SCORES, bytes_per_s) == codec


@pytest.mark.parametrize(
    ("quality", "codec"), [(0.9, "int4"), (0.99, "int8"), (0.9985, "bf16"), (1.0, "fp16")]
)
def test_a_lower_quality_allows_shorter_rows(quality: float, codec: str):
    assert choose_codec(SCORES, 1e4, quality) == codec


def test_equal_agreement_is_bought_with_the_fewest_bytes():
    assert choose_codec(SCORES, math.inf, 1.0) == "fp16"


def test_a_quality_that_no_codec_keeps_gets_the_best_one():
    assert choose_codec(SCORES[2:], 1e4, 0.9999) == "bf16"


def test_without_calibration_or_before_the_link_is_known_the_choice_is_the_default():
    assert choose_codec((), 1e4, 0.9) == FALLBACK
    assert choose_codec(SCORES, None, 0.9) == FALLBACK
