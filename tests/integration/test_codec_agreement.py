"""What codecs do to the cloud's tokens, on a tiny model and on one with real weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_agent.home.home import load_home
from edge_agent.service import DEMO_HOME
from ops.bench.codec.agreement import AgreementResult, Given, measure_agreement
from ops.bench.codec.outcome import broken_promises, summary_of
from ops.cli import app
from ops.quality.codecs import CodecResult, answer_passages, cloud_tokens, compare
from ops.quality.forest import Forest
from ops.quality.ladder import Ladder
from ops.quality.policy import unsplit_policy
from ops.quality.question import home_questions, text_questions
from ops.quality.sources import Request, Tasks
from shared.bundles import bundle_path
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.calibration import CodecScore
from shared.tensors.codec import CODECS, codec_named
from tests import stories260k
from tests.integration.conftest import Reference

WORDS = ["turn on the kitchen light", "good night", "what is the temperature in the bedroom"]


def text_file(folder: Path, texts: list[str]) -> Path:
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def test_exact_states_give_the_tokens_that_the_full_model_decided(tiny: Reference):
    ladder = Ladder(tiny.bundle, codec_named("fp32"))
    questions = text_questions(tiny.bundle, WORDS, prompt_tokens=12, new_tokens=9)
    (answers,) = Forest(ladder, questions).decode([unsplit_policy(ladder.exits)])
    passages = answer_passages(ladder, questions, answers)
    decided = [decision.token for answer in answers for decision in answer.decisions]
    assert list(cloud_tokens(ladder, passages, None)) == decided


def test_tokens_that_a_grammar_forces_are_not_counted():
    bundle = Bundle.open(bundle_path("home"))
    ladder, home = Ladder(bundle, codec_named("fp32")), load_home(DEMO_HOME)
    asked = Request(home, "turn on the kitchen lights", ())
    questions = home_questions(bundle, Tasks(bundle), [asked])
    (answers,) = Forest(ladder, questions).decode([unsplit_policy(ladder.exits)])
    passages = answer_passages(ladder, questions, answers)
    assert list(cloud_tokens(ladder, passages, None)) == [each.token for each in answers[0].decisions]
    assert answers[0].forced > 0


def test_finer_codecs_have_smaller_errors_and_lossless_ones_none(tiny: Reference):
    ladder = Ladder(tiny.bundle, codec_named("fp32"))
    questions = text_questions(tiny.bundle, WORDS, prompt_tokens=12, new_tokens=9)
    (answers,) = Forest(ladder, questions).decode([unsplit_policy(ladder.exits)])
    results = compare(ladder, answer_passages(ladder, questions, answers), CODECS.values())
    errors = {result.score.name: result.relative_error for result in results}
    assert errors["fp32"] == 0.0
    assert errors["fp32"] < errors["fp16"] < errors["bf16"] < errors["int8"] < errors["int4"] < 0.12


def test_a_text_bundle_without_text_is_refused(tiny: Reference):
    with pytest.raises(ConfigError, match="--text FILE"):
        measure_agreement(tiny.bundle, Given([], None, 3), lambda _done, _all: None)


def test_the_bench_writes_the_figures_that_are_looked_at(tiny: Reference, tmp_path: Path):
    report, text = tmp_path / "report.json", text_file(tmp_path, WORDS)
    arguments = ["--bundle", tiny.bundle.path, "--text", text, "--quick", "--json", report]
    result = CliRunner().invoke(app, ["bench", "codec", *map(str, arguments)])
    assert result.exception is None, result.output
    summary = json.loads(report.read_bytes())["summary"]
    assert summary["int8_bytes_over_fp16"] <= 0.53
    assert summary["int4_bytes_over_fp16"] <= 0.30
    assert {"int8_agreement", "int4_agreement"} <= set(summary)


def results(bundle: str, agreements: dict[str, float]) -> AgreementResult:
    scores = [CodecResult(CodecScore(name, 8, share), 0.1, 100) for name, share in agreements.items()]
    return AgreementResult(bundle, 64, "its answers", scores)


def test_the_summary_has_the_worst_of_all_bundles():
    found = summary_of(
        [], [results("a", {"int8": 0.99, "int4": 0.9}), results("b", {"int8": 0.98, "int4": 0.95})]
    )
    assert found == {"int8_agreement": 0.98, "int4_agreement": 0.9}


def test_exact_states_that_give_other_tokens_are_named_as_a_fault():
    assert broken_promises([results("a", {"fp32": 1.0})]) == []
    (broken,) = broken_promises([results("b", {"fp32": 0.999, "int4": 0.5})])
    assert broken.startswith("b, its answers")


@pytest.mark.skipif(not stories260k.is_there(), reason=stories260k.MISSING)
def test_eight_bits_keep_the_tokens_of_a_model_with_real_weights(tmp_path: Path):
    bundle = stories260k.make_bundle(tmp_path / "stories")
    text = text_file(tmp_path, stories260k.beginnings()[::3])
    answers, given = measure_agreement(bundle, Given([text], None, 30), lambda _done, _all: None)
    for found in (answers, given):
        agreement = {codec.score.name: codec.score.agreement for codec in found.codecs}
        assert agreement["fp32"] == 1.0
        assert agreement["int8"] >= 0.99
        assert agreement["int4"] >= 0.985
