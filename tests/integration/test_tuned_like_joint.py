"""Exits that were thrown away come back, as good as those that a model was trained with."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ops.prepare import prepare
from ops.tuning.report import Report
from ops.tuning.tune import Output, Tuning
from shared.model.bundle import Bundle
from shared.model.families import family_of
from tests.parity.cases import Case
from tests.parity.checkpoints import save_checkpoint
from tests.tuning_texts import WORDS, plan_for, spoil_exits

EXITS = (2, 4)
STEPS = 300
WIDTH = 32
# Joint training needs a start that can learn; the parity cases' weights are too wild for that.
CALM = {"initializer_range": 0.05}
CASES = [Case("qwen3", "qwen3", {**CALM, "head_dim": 16}), Case("granite", "granite", CALM)]


def sentence(choice: random.Random) -> str:
    """Half of it is chance, and half follows from what stands before."""
    words = choice.choices(WORDS, k=4)
    about = f"{' '.join(words)} the temperature in the {words[0]} is {choice.randint(0, 99)}"
    return f"{about}: {words[-1]} {words[1]}"


def write_sentences(path: Path, count: int) -> Path:
    choice = random.Random(4)
    path.write_text("".join(json.dumps({"text": sentence(choice)}) + "\n" for _ in range(count)))
    return path


def train_jointly(model: Any, family: Any, ids: Tensor) -> dict[str, Tensor]:
    """Train a model and a norm for each exit together; returns the norms as a checkpoint stores them."""
    norms = nn.ModuleDict({str(layer): family.norm(model.config) for layer in EXITS})
    model.train()
    weights = [*model.parameters(), *norms.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=4e-3)
    for step in range(STEPS):
        rows = ids[(step * 16) % (len(ids) - 16) :][:16]
        losses = [each(model, family, norms, rows) for each in (_exit_loss, _own_loss)]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    model.eval()
    return {f"exit.{layer}.norm.weight": norm.weight.detach() for layer, norm in norms.items()}


def _loss(logits: Tensor, rows: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())


def _own_loss(model: Any, _family: Any, _norms: nn.ModuleDict, rows: Tensor) -> Tensor:
    return _loss(model(rows).logits, rows)


def _exit_loss(model: Any, family: Any, norms: nn.ModuleDict, rows: Tensor) -> Tensor:
    states = model(rows, output_hidden_states=True).hidden_states
    logits = [model.lm_head(norm(states[int(layer)])) for layer, norm in norms.items()]
    finish = family.logits or (lambda _config, values: values)
    return torch.stack([_loss(finish(model.config, each), rows) for each in logits]).sum()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained with exits, as `joint`; and as `bare`, prepared without them."""
    case: Case = request.param
    made = tmp_path_factory.mktemp(case.name)
    text = write_sentences(made / "text.jsonl", 1200)
    model = case.model()
    checkpoint = save_checkpoint(model, made / "checkpoint")
    ids = rows_of(prepare(checkpoint, EXITS, None, made / "untrained"), text)
    trained = train_jointly(model, family_of(case.family), ids)
    model.save_pretrained(checkpoint)
    prepare(checkpoint, EXITS, None, made / "bare")
    save_file(trained, checkpoint / "exits.safetensors")
    prepare(checkpoint, EXITS, None, made / "joint")
    return made


@pytest.mark.parametrize(
    ("head", "rate", "signs"), [("norm", 2e-3, False), ("mlp", 5e-3, True)], ids=["norm", "mlp"]
)
def test_random_exits_come_within_three_points_of_jointly_trained_ones(
    folder: Path, tmp_path: Path, head: str, rate: float, signs: bool
) -> None:
    """Of agreement with the full model, on held-out text, at every exit."""
    bare = Path(shutil.copytree(folder / "bare", tmp_path / "bare"))
    spoil_exits(bare, signs=signs)
    text = folder / "text.jsonl"
    wanted = report_of(Bundle.open(folder / "joint"), text, tmp_path, tokens=1, head="norm")
    report = report_of(Bundle.open(bare), text, tmp_path, tokens=50_000, head=head, rate=rate)
    for each, joint in zip(report.exits, wanted.exits, strict=True):
        assert each.before.agreement < joint.before.agreement - 0.03
        assert each.after.agreement >= joint.before.agreement - 0.03


def report_of(bundle: Bundle, text: Path, folder: Path, **plan: Any) -> Report:
    tuning = Tuning(bundle, plan_for(bundle, [text], **plan), folder / "run")
    assert tuning.go(checkpoint_s=1e9)
    return tuning.finish(Output(folder / f"tuned-{bundle.path.name}"))


def rows_of(bundle: Bundle, text: Path) -> Tensor:
    """The text as rows of `WIDTH` tokens."""
    tokenizer = bundle.tokenizer()
    lines = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    ids = [token for line in lines for token in tokenizer.encode(line)]
    whole = ids[: len(ids) // WIDTH * WIDTH]
    return torch.tensor(whole).reshape(-1, WIDTH)
