"""`bench split` at a tiny size: real processes at a real broker, and texts that are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.bench.cores import Cores
from ops.bench.random_llama import LlamaShape, random_bundle
from ops.bench.split.measure import CODEC, PROMPT, SplitCase, _difference, measure_case
from ops.bench.split.outcome import mismatches, report_of
from ops.bench.split.unsplit import Order, UnsplitModel, UnsplitProcess

SHAPE = LlamaShape(64, 128, 4, (1, 2), 320)
TOKENS = 6


async def test_the_split_model_says_what_the_unsplit_one_does(tmp_path: Path):
    """Every token is the cloud's, and none differs; the report has a figure for each promise."""
    case = SplitCase("tiny", SHAPE, TOKENS, 2)
    told: list[tuple[str, int]] = []
    result = await measure_case(
        case, tmp_path, Cores.choose(), embedded=True, on_round=lambda *each: told.append(each)
    )

    assert mismatches([result]) == []
    assert told == [("tiny", 1), ("tiny", 2)]
    assert all(each.split_ms > 0 and each.unsplit_ms > 0 for each in result.rounds)
    assert set(report_of([result], {}).summary) == {
        "split_overhead_ms_tiny",
        "split_ratio_tiny",
        "split_text_mismatches",
    }


def test_the_yardstick_is_the_unsplit_model(tmp_path: Path):
    """In its own process or not, and whatever is timed beside."""
    bundle = random_bundle(SHAPE, tmp_path / "bundle")
    order = Order(list(PROMPT), TOKENS, None)
    with UnsplitProcess(bundle.path, CODEC) as process:
        told = process.decode(order)
        beside = process.decode(Order(list(PROMPT), TOKENS, None, beside=True))
    here = UnsplitModel(bundle, CODEC).decode(order)

    assert told.ids == beside.ids == here.ids
    assert len(set(told.ids)) > 1
    assert len(told.token_s) == TOKENS - 1
    assert len(beside.pieces_s["codec"]) == TOKENS - 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ""),
        ({"output": "w5 w8"}, "instead of"),
        ({"degraded": True}, "not every token is the cloud's"),
        ({"rungs": {"cloud": 1, "edge-1": 1}}, "not every token is the cloud's"),
    ],
)
def test_another_text_or_another_speaker_is_a_difference(given: dict[str, object], words: str):
    answer = {"degraded": False, "rungs": {"cloud": 2}, "note": "", "output": "w5 w7", **given}

    assert words in _difference(answer, [5, 7])
    assert bool(_difference(answer, [5, 7])) == bool(given)
