"""The home model's exam: exact actions on homes and phrasings it has never seen, by exit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from ops.home.bundle import open_bundle
from ops.home.ladder import NEVER, answer_together
from ops.home.model import ExitModel
from ops.home.sample import Sample, is_exact, load_exam, save_exam
from ops.home.samples import SampleMaker
from ops.home.templates import Grammar

EXAM_SEED: Final = 20_260_101


class Mark(msgspec.Struct, frozen=True):
    """One sample's result at one exit."""

    category: str
    request: str
    wanted: str
    written: str
    exact: bool


class Report(msgspec.Struct, frozen=True):
    """Marks by exit layer; the deepest is the full model."""

    marks: dict[int, list[Mark]]

    def rate(self, layer: int, category: str | None = None) -> float:
        """Share of exact actions at `layer`, in `category` or in all."""
        marks = [mark.exact for mark in self.marks[layer] if category in (None, mark.category)]
        return sum(marks) / max(1, len(marks))

    def table(self) -> str:
        """Rates by category and exit, worst first."""
        full = max(self.marks)
        categories = sorted(
            {mark.category for mark in self.marks[full]}, key=lambda name: self.rate(full, name)
        )
        lines = [
            f"{'category':16} {'asked':>6} " + " ".join(f"{_title(layer, full):>7}" for layer in self.marks)
        ]
        for name in [*categories, None]:
            asked = sum(name in (None, mark.category) for mark in self.marks[full])
            rates = " ".join(f"{self.rate(layer, name):7.1%}" for layer in self.marks)
            lines.append(f"{name or 'all':16} {asked:6} {rates}")
        return "\n".join(lines)


def load_model(folder: Path) -> tuple[ExitModel, PreTrainedTokenizerFast]:
    """The model and tokenizer of a bundle, or of a training run."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    if (folder / "manifest.json").exists():
        return open_bundle(folder)
    return ExitModel.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)


def exam(count: int, seed: int = EXAM_SEED) -> list[Sample]:
    """`count` requests from held-out homes in held-out phrasings, mixed like training's."""
    maker = SampleMaker(Grammar(), seed, held_out=True)
    return [maker.draw() for _ in range(count)]


def evaluate(model: ExitModel, tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample]) -> Report:
    """Let each exit alone, and the full model, answer `samples` greedily, within the grammar."""
    layers = [*model.exits, model.lm.config.num_hidden_layers]
    return Report({layer: _marks(model, tokenizer, samples, layer) for layer in layers})


def _marks(
    model: ExitModel, tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample], alone: int
) -> list[Mark]:
    passed_by = {layer: NEVER for layer in model.exits if layer < alone}
    texts = answer_together(model, tokenizer, samples, passed_by).texts
    return [_mark(sample, text) for sample, text in zip(samples, texts, strict=True)]


def _mark(sample: Sample, written: str) -> Mark:
    return Mark(sample.category, sample.request, sample.answer, written, is_exact(sample.answer, written))


def _title(layer: int, full: int) -> str:
    return "full" if layer == full else f"exit {layer}"


def main() -> None:
    """Print the exam's table and the first failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a bundle, or the folder of a training run")
    parser.add_argument("--count", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=EXAM_SEED)
    parser.add_argument("--samples", type=Path, help="an exam to repeat (JSON lines)")
    parser.add_argument("--save", type=Path, help="where to write the exam")
    parser.add_argument("--failures", type=int, default=20, help="how many to show")
    parser.add_argument(
        "--thresholds", type=float, nargs="*", default=(), help="to let the exits share the work"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    samples = load_exam(options.samples) if options.samples else exam(options.count, options.seed)
    if options.save:
        save_exam(options.save, samples)
    model, tokenizer = load_model(options.model)
    report = evaluate(model, tokenizer, samples)
    print(report.table())
    for threshold in options.thresholds:
        joint = answer_together(model, tokenizer, samples, dict.fromkeys(model.exits, threshold))
        rungs = ", ".join(f"{layer}: {share:.1%}" for layer, share in joint.rungs.items())
        print(f"threshold {threshold:<4} exact {joint.exact:6.1%}  tokens by layer {rungs}")
    failed = [mark for mark in report.marks[max(report.marks)] if not mark.exact]
    for mark in failed[: options.failures]:
        print(f"\n{mark.category}: {mark.request}\n  wanted  {mark.wanted}\n  written {mark.written}")


if __name__ == "__main__":
    main()
