"""One run from a bundle to the same bundle with better exits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ops.tuning.backbone import Backbone
from ops.tuning.checkpoint import Checkpoint, Progress
from ops.tuning.heads import Heads, make_heads
from ops.tuning.machine import DTYPES
from ops.tuning.output import write_heads
from ops.tuning.pieces import HELD_OUT_SHARE, Encoder, Piece, PieceStream, Position, held_out_pieces
from ops.tuning.plan import Plan
from ops.tuning.report import Report, exit_reports
from ops.tuning.scores import Scores, score
from ops.tuning.text import Document, documents
from ops.tuning.trainer import Trainer
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.loading import load_exit_heads

# Agreement on fewer tokens would be off by more than 3 points two times out of three.
MIN_HELD_OUT_TOKENS: Final = 256


@dataclass(frozen=True)
class Output:
    """Where a run's result goes.

    Attributes:
        folder: of a new bundle; None changes the bundle itself.
        force: replace what is at `folder`.
    """

    folder: Path | None = None
    force: bool = False


class Tuning:
    """A run: its text is checked and its exits are measured before the first step.

    Args:
        bundle: whose exits.
        plan: the run's.
        run: folder for the checkpoint.
        held_out_tokens: for the report.

    Raises:
        ConfigError: the text is too short, or `run` holds a run of another plan.
        BundleError: a weight file is missing or damaged.
    """

    def __init__(self, bundle: Bundle, plan: Plan, run: Path, *, held_out_tokens: int = 20_000) -> None:
        torch.set_num_threads(plan.threads)
        self.plan = plan
        self._bundle = bundle
        encoder = _encoder(bundle, plan.context)
        self._held_out = held_out_pieces(self._documents, encoder, held_out_tokens)
        self._stream = PieceStream(self._documents, encoder, plan.seed)
        _check_length(self._held_out, self._stream)
        self._checkpoint = Checkpoint(run, plan)
        self._backbone = Backbone(bundle, DTYPES[plan.dtype], plan.device)
        self._heads: Heads = make_heads(bundle, plan, plan.device)
        self._trainer = Trainer(plan, self._backbone, self._heads, self._stream, self._checkpoint)
        self._trainer.resume()

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return self._trainer.progress

    def weights(self) -> dict[str, Tensor]:
        """The tuned weights, in fp32, by exit layer and name (`2.norm.weight`)."""
        return {
            f"{layer}.{name}": value
            for layer, head in self._heads.items()
            for name, value in head.state_dict().items()
        }

    def go(
        self,
        *,
        checkpoint_s: float,
        report: Callable[[Progress], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Learn to the end of the plan, or until `stop`; returns whether it is done."""
        return self._trainer.go(checkpoint_s=checkpoint_s, report=report, stop=stop)

    def finish(self, output: Output) -> Report:
        """Write the bundle, measure what was written, and forget the checkpoint."""
        before = self._score(self._bundle)
        tuned = write_heads(self._bundle, self.plan, self._heads, output.folder, force=output.force)
        self._checkpoint.remove()
        after = self._score(tuned)
        return Report(
            bundle=self._bundle.name,
            plan=self.plan,
            steps=self.progress.step,
            tokens=self.progress.tokens,
            epochs=self.progress.position.epoch + 1,
            elapsed_s=self.progress.elapsed_s,
            held_out_tokens=after.rows,
            full_nll=after.full_nll,
            exits=exit_reports(self.plan, before, after),
        )

    def _score(self, bundle: Bundle) -> Scores:
        """The tuned exits' scores with the heads that `bundle` has, as it serves them."""
        loaded = load_exit_heads(bundle, self._backbone.lm_head, self._backbone.dtype, self._backbone.device)
        heads = dict(zip(bundle.partition.exits, loaded, strict=True))
        logits = {layer: heads[layer].logits for layer in self.plan.layers}
        return score(self._backbone, logits, self._held_out, self.plan.batch_tokens)

    def _documents(self) -> Iterator[Document]:
        files = [Path(file.path) for file in self.plan.text]
        return documents(files, self.plan.field, self.plan.prompt_field)


def _encoder(bundle: Bundle, context: int) -> Encoder:
    end = next(iter(bundle.eos_token_ids), None)
    return Encoder(bundle.tokenizer(), end, context)


def _check_length(held_out: Sequence[Piece], stream: PieceStream) -> None:
    rows = sum(piece.rows for piece in held_out)
    if rows < MIN_HELD_OUT_TOKENS or next(stream.batches(Position(), 1), None) is None:
        raise ConfigError(
            f"The text is too short: of its tokens, {rows} are held out for the report (one document in "
            f"{HELD_OUT_SHARE}), and {MIN_HELD_OUT_TOKENS} are needed. Give at least some "
            f"{2 * HELD_OUT_SHARE * MIN_HELD_OUT_TOKENS:,} tokens in {2 * HELD_OUT_SHARE} documents or more."
        )
