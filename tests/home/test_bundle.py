"""The model that ships: small, and right on homes and phrasings that it has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import edge_agent.home
from edge_agent.home import HomeTask, load_home
from ops.home.evaluate import evaluate, load_model
from ops.home.ladder import NEVER, answer_together
from ops.home.model import ExitModel
from ops.home.sample import Sample, load_exam
from ops.quality.forest import Forest
from ops.quality.ladder import Ladder
from ops.quality.marks import is_invalid, is_right
from ops.quality.policy import unsplit_policy
from ops.quality.question import home_questions
from ops.quality.sources import NATURAL, Tasks, written
from shared.bundles import bundle_path
from shared.model.bundle import Bundle
from shared.tensors.codec import codec_named

EXAM = Path(__file__).with_name("exam.jsonl")
DEMO = load_home(Path(edge_agent.home.__file__).with_name("demo.yaml"))

Model = tuple[ExitModel, PreTrainedTokenizerFast]


def act(intent: str, **slots: Any) -> dict[str, Any]:
    return {"intent": intent, "slots": slots}


DEMO_ANSWERS = {
    "turn on the kitchen lights": act("HassTurnOn", area="Kitchen", domain="light"),
    "dim the bedroom lamp to 30 percent": act("HassLightSet", name="Bedroom lamp", brightness=30),
    "it's too dark in here": act("HassTurnOn", area="Living room", domain="light"),
    "close all the blinds upstairs": act(
        "HassTurnOff", floor="First floor", domain="cover", device_class="blind"
    ),
    "set the living room to 21 degrees": act("HassClimateSetTemperature", area="Living room", temperature=21),
    "lock the front door": act("HassTurnOn", name="Front door"),
    "is the garage door open?": act("HassGetState", name="Garage door", state="open"),
    "turn off the tv and the hallway light": [
        act("HassTurnOff", name="TV"),
        act("HassTurnOff", name="Hallway light"),
    ],
    "start the vacuum": act("HassVacuumStart", name="Robot vacuum"),
    "open the sauna": "no_such_entity",
    "tell me a joke": "not_a_command",
}


@pytest.fixture(scope="module")
def model() -> Model:
    torch.set_num_threads(1)
    return load_model(bundle_path("home"))


def test_the_bundle_is_small_enough_to_ship() -> None:
    folder = bundle_path("home")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 10_000_000


def test_the_full_model_passes_its_exam(model: Model) -> None:
    """Exact actions on held-out homes and phrasings; deeper exits know more."""
    report = evaluate(*model, load_exam(EXAM))
    assert report.rate(6) >= 0.87
    assert report.rate(2) <= report.rate(4) + 0.03 <= report.rate(6) + 0.06


def test_requests_as_people_write_them_are_mostly_understood_and_never_invented() -> None:
    """At least 80 % exact actions on the blind natural set, and no invalid one."""
    bundle = Bundle.open(bundle_path("home"))
    ladder = Ladder(bundle, codec_named("fp16"))
    requests, tasks = written(NATURAL), Tasks(bundle)
    forest = Forest(ladder, home_questions(bundle, tasks, requests))
    (traces,) = forest.decode([unsplit_policy(ladder.exits)])
    right = invalid = 0
    for request, trace in zip(requests, traces, strict=True):
        task = tasks.of(request.home)
        output = task.decode(trace.tokens)
        action = task.read(request.text, output).action
        right += is_right(action, request)
        invalid += is_invalid(output, action, request.home)
    assert len(requests) >= 300
    assert right >= 0.85 * len(requests)
    assert invalid == 0


def test_its_exits_are_calibrated_for_the_weights_that_ship() -> None:
    calibration = Bundle.open(bundle_path("home")).calibration
    assert calibration is not None
    assert {0.99, 0.995, 0.999} <= {level.agreement for level in calibration.levels}
    assert all(level.measured_agreement >= level.agreement for level in calibration.levels)


def test_demo_requests_that_it_never_met_are_answered_right(model: Model) -> None:
    task = HomeTask(DEMO)
    asked = [
        Sample("demo", DEMO, request, {"error": ""}, task.prompt_text(request)) for request in DEMO_ANSWERS
    ]
    written = answer_together(*model, asked, dict.fromkeys(model[0].exits, NEVER)).texts
    for (request, wanted), output in zip(DEMO_ANSWERS.items(), written, strict=True):
        answer = task.parse(request, output)
        got = answer.action["error"] if isinstance(answer.action, dict) and not answer.ok else answer.action
        assert got == wanted, f"{request}: {output}"
