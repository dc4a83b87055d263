"""`antiphon model calibrate`, and the promises that a request may then ask for."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from edge_agent.agent import EdgeAgent
from edge_agent.request import Request
from edge_agent.service import edge_service
from ops.cli import app
from shared.config import load
from shared.errors import ConfigError, PromptError
from shared.model.bundle import Bundle
from shared.model.calibration import Calibration, CodecScore, Level
from shared.model.manifest import EXITS_FILE
from shared.tensors.codec import CODECS
from tests.integration.conftest import Reference

# Least testing texts for an agreement of 0.8 with a confidence of 0.8 are 9.
LAX = ["--agreement", "0.8", "--confidence", "0.8"]
SHORT = ["--prompt-tokens", "6", "--new-tokens", "4", "--codec", "fp32"]


@pytest.fixture
def bundle(tiny: Reference, tmp_path: Path) -> Bundle:
    """A copy of the tiny bundle, to be changed."""
    return Bundle.open(shutil.copytree(tiny.bundle.path, tmp_path / "bundle"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Forty short documents."""
    file = tmp_path / "text.jsonl"
    words = ["kitchen", "light", "garage", "door", "bedroom", "lamp", "window", "heating"]
    lines = (f"{words[n % 8]} {words[n // 8]} {n} {words[(3 * n) % 8]}" for n in range(40))
    file.write_text("".join(json.dumps({"said": line}) + "\n" for line in lines))
    return file


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_thresholds_and_the_table_are_stored_in_the_bundle(bundle: Bundle, text: Path):
    output = run(
        "model", "calibrate", bundle.path, "--text", text, "--jsonl-field", "said", *LAX, *SHORT,
        "--splits", 2, "--measure", "margin",
    )  # fmt: skip
    assert "quality 0.99 left out: needs at least" in output
    assert "2 random halves: 2 of them certified 0.8" in output
    found = Bundle.open(bundle.path)
    assert found.digest == bundle.digest
    assert found.calibration is not None
    (level,) = [each for each in found.calibration.levels if each.agreement == 0.8]
    assert found.thresholds == list(level.thresholds)
    assert found.temperatures == list(found.calibration.temperatures)
    assert found.measures == ["margin", "margin"]
    assert level.measured_agreement >= 0.8
    assert sum(level.exit_shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert level.request_rate == level.exit_shares["cloud"]
    assert found.calibration.documents == 28


def test_the_report_says_which_measure_separates_best(bundle: Bundle, text: Path):
    """In words: what is bold on a terminal is lost in a pipe."""
    output = run("model", "calibrate", bundle.path, "--text", text, "--jsonl-field", "said", *LAX, *SHORT)
    said = " ".join(output.split())  # a narrow terminal breaks lines
    area = r"([01]\.\d{4})"
    found = re.search(
        rf"separates best: its mean AUROC is {area}, of the others \w+ {area}, \w+ {area}", said
    )
    assert found is not None
    best, *others = map(float, found.groups())
    assert best >= max(others)


def test_a_calibrated_bundle_shows_its_levels_and_their_price(bundle: Bundle):
    output = run("model", "info", calibrated(bundle).path)
    assert "promises with a confidence of 0.95" in output
    assert re.search(r"0\.99\s+1 1", output)


def test_a_count_bounds_the_texts_that_are_taken(bundle: Bundle, text: Path):
    given = ["model", "calibrate", bundle.path, "--text", text, "--jsonl-field", "said", *LAX, *SHORT]
    with pytest.raises(ConfigError, match="10 texts are too few"):
        run(*given, "--count", 10)


def test_each_codecs_agreement_is_measured_and_stored(bundle: Bundle, text: Path):
    output = run("model", "calibrate", bundle.path, "--text", text, "--jsonl-field", "said", *LAX, *SHORT)
    assert "cloud's tokens unchanged" in output
    found = Bundle.open(bundle.path).calibration
    assert found is not None
    scores = {score.name: score for score in found.codecs}
    assert set(scores) == set(CODECS)
    assert scores["fp32"] == CodecScore("fp32", 4 * bundle.hidden_size, 1.0)
    assert scores["int8"].bytes_per_token == CODECS["int8"].row_bytes(bundle.hidden_size)
    assert scores["int8"].agreement > 0.9
    assert scores["int4"].agreement <= scores["fp16"].agreement


def test_too_small_a_text_is_refused_and_changes_nothing(bundle: Bundle, text: Path):
    before = (bundle.path / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="40 texts are too few: 28 of them"):
        run("model", "calibrate", bundle.path, "--text", text, "--jsonl-field", "said", *SHORT)
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_a_text_bundle_is_not_calibrated_without_text(bundle: Bundle):
    with pytest.raises(ConfigError, match="--text FILE"):
        run("model", "calibrate", bundle.path)


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_certainty_can_not_be_promised(share: str, bundle: Bundle, text: Path):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        run("model", "calibrate", bundle.path, "--text", text, "--agreement", share)


def calibrated(bundle: Bundle) -> Bundle:
    """Two levels that can be told apart: the shallow exit always, and no exit ever."""
    levels = tuple(
        Level(agreement, thresholds, agreement, {}, 0.0, 0.0, 0.0)
        for agreement, thresholds in ((0.9, (0.0, 0.0)), (0.99, (1.0, 1.0)))
    )
    exits = bundle.manifest.files[EXITS_FILE].sha256
    table = Calibration(exits, "max_probability", (1.0, 1.0), 0.95, "fp32", 500, 4000, levels)
    msgspec.structs.replace(bundle.manifest, calibration=table).write(bundle.path)
    return Bundle.open(bundle.path)


@asynccontextmanager
async def agent(bundle: Bundle) -> AsyncIterator[EdgeAgent]:
    settings = load({"general.bundle": str(bundle.path), "general.log_level": "error"}, environ={})
    async with edge_service(settings, serve_devices=False, with_broker=False) as found:
        yield found


async def test_a_request_chooses_thresholds_by_quality(bundle: Bundle):
    async with agent(calibrated(bundle)) as edge:
        lax = await edge.answer(Request("good night", quality=0.85, max_new_tokens=4))
        strict = await edge.answer(Request("good night", quality=0.95, max_new_tokens=4))
    assert set(lax.rungs) == {"edge-1"}
    assert not lax.degraded
    assert strict.degraded  # every token was wanted from a cloud that is not there


def test_ask_takes_a_quality(bundle: Bundle):
    answer = run(
        "ask", "good night", "--json", "--local", "--bundle", calibrated(bundle).path, "--quality", 0.85,
        "--max-new-tokens", 4,
    )  # fmt: skip
    assert set(json.loads(answer)["rungs"]) == {"edge-1"}


async def test_a_quality_that_was_not_calibrated_is_refused_with_those_there_are(bundle: Bundle):
    async with agent(calibrated(bundle)) as edge:
        with pytest.raises(PromptError, match=r"it has: 0\.9, 0\.99"):
            await edge.answer(Request("good night", quality=0.999))
        with pytest.raises(PromptError, match="both a threshold and a quality"):
            await edge.answer(Request("good night", quality=0.9, threshold=0.9))


async def test_a_quality_is_refused_where_no_cloud_may_keep_it(bundle: Bundle):
    async with agent(calibrated(bundle)) as edge:
        with pytest.raises(PromptError, match="mode standalone never asks"):
            await edge.answer(Request("good night", quality=0.85, mode="standalone"))


async def test_a_bundle_without_calibration_promises_nothing(bundle: Bundle):
    async with agent(bundle) as edge:
        with pytest.raises(PromptError, match="not calibrated"):
            await edge.answer(Request("good night", quality=0.9))


def test_a_calibration_of_other_exit_heads_counts_as_none(bundle: Bundle):
    manifest = calibrated(bundle).manifest
    assert manifest.calibration is not None
    stale = msgspec.structs.replace(manifest.calibration, exits_sha256="another")
    msgspec.structs.replace(manifest, calibration=stale).write(bundle.path)
    assert Bundle.open(bundle.path).calibration is None


def test_the_quality_report_has_a_flat_summary(bundle: Bundle, text: Path, tmp_path: Path):
    calibrated(bundle)
    report = tmp_path / "report.json"
    output = run(
        "bench", "quality", bundle.path, "--text", text, "--jsonl-field", "said", "--count", 6, *SHORT,
        "--timed", 2, "--rounds", 2, "--json", report, "--markdown", tmp_path / "table.md",
    )  # fmt: skip
    assert "| quality 0.99 |" in (tmp_path / "table.md").read_text()
    assert "quality 0.99" in output
    found = json.loads(report.read_bytes())
    assert found["machine"]["cores"] >= 1
    assert found["settings"]["codec"] == "fp32"
    assert all(isinstance(value, float | int) for value in found["summary"].values())
    assert found["summary"]["at99_request_rate"] == 1.0
    assert found["summary"]["at99_edge_token_share"] == 0.0
    assert found["summary"]["at99_cloud_time_share"] > 0.0
    rows = {row["setting"]: row for row in found["rows"]}
    assert rows["full model"]["agreement"] == rows["θ 1"]["agreement"] == 1.0
    assert rows["θ 1"]["rouge_l"] == 1.0
    assert rows["edge-1 alone"]["request_rate"] == 0.0
    share = rows["θ 1"]["cloud_time_share"]
    assert share["least"] <= share["median"] <= share["most"]
