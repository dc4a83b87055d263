"""The loop: a batch, a pass of the backbone, a step for every head."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import nn

from ops.tuning.backbone import Backbone
from ops.tuning.checkpoint import Checkpoint, Progress
from ops.tuning.heads import Heads
from ops.tuning.losses import GOALS
from ops.tuning.pieces import Batch, PieceStream
from ops.tuning.plan import Plan
from shared.errors import ConfigError

_WARM_UP: Final = 0.02  # of the tokens
_LAST_RATE: Final = 0.05  # of the peak, at the end of the cosine
# A norm has one number per column, all near 1: it may move faster than matrices.
_NORM_RATE: Final = 20.0
_BETAS: Final = (0.9, 0.98)
_CLIP: Final = 1.0


class Trainer:
    """Tunes heads along a plan.

    Args:
        plan: the run's.
        backbone: of the bundle.
        heads: changed in place.
        stream: training text.
        checkpoint: the run's.
    """

    def __init__(
        self, plan: Plan, backbone: Backbone, heads: Heads, stream: PieceStream, checkpoint: Checkpoint
    ) -> None:
        self.progress = Progress()
        self._plan = plan
        self._backbone = backbone
        self._heads = heads
        self._stream = stream
        self._checkpoint = checkpoint
        self._modules = nn.ModuleDict({str(layer): head for layer, head in heads.items()})
        self._optimizer = _optimizer(self._modules, plan.rate)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = self._checkpoint.load()
        if saved is not None:
            self._modules.load_state_dict(saved.weights)
            self._optimizer.load_state_dict(saved.optimizer)
            self.progress = saved.progress

    def go(
        self,
        *,
        checkpoint_s: float,
        report: Callable[[Progress], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> bool:
        """Learn to the end of the plan, saving on the way.

        Args:
            checkpoint_s: how long to learn between checkpoints; 0 saves after each step.
            report: told of every step.
            stop: asked after every step whether to save and leave.
            clock: in seconds.

        Returns:
            Whether the plan is done.
        """
        saved_s, started = self.progress.elapsed_s, clock() - self.progress.elapsed_s
        stopped = False
        for batch in self._stream.batches(self.progress.position, self._plan.batch_tokens):
            if self.done or stopped:
                break
            self._learn(batch, lambda: clock() - started)
            report(self.progress)
            stopped = stop()
            if stopped or self.progress.elapsed_s - saved_s >= checkpoint_s:
                self._save()
                saved_s = self.progress.elapsed_s
        self._save()
        return self.done

    @property
    def done(self) -> bool:
        """Whether the plan's tokens have been read."""
        return self.progress.tokens >= self._plan.tokens

    def _learn(self, batch: Batch, elapsed_s: Callable[[], float]) -> None:
        rate = _rate(self.progress.tokens / self._plan.tokens)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        losses = self._gradients(batch)
        _refuse_divergence(losses, self._plan.rate)
        for head in self._heads.values():  # each alone: no exit changes how another one learns
            nn.utils.clip_grad_norm_(head.parameters(), _CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.progress = Progress(
            self.progress.step + 1, self.progress.tokens + batch.tokens, batch.after, elapsed_s(), losses
        )

    def _gradients(self, batch: Batch) -> dict[int, float]:
        """Add up every head's gradient, a chunk of rows at a time, and return the losses per row."""
        seen = self._backbone.run(batch.pieces)
        count = len(seen.targets)
        losses = dict.fromkeys(self._heads, 0.0)
        for rows in self._backbone.chunks(count):
            goal = GOALS[self._plan.loss](self._backbone, seen, rows)
            for layer, head in self._heads.items():
                with self._mixed():
                    logits = head(seen.exits[layer][rows], self._backbone.lm_head)
                loss = goal(logits.float()) / count
                loss.backward()  # type: ignore[no-untyped-call]
                losses[layer] += loss.item()
        return losses

    def _mixed(self) -> AbstractContextManager[object]:
        """Weights stay fp32; their products are in the backbone's dtype."""
        if self._backbone.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._backbone.device, self._backbone.dtype)

    def _save(self) -> None:
        self._checkpoint.save(self.progress, self._modules.state_dict(), self._optimizer.state_dict())


def _refuse_divergence(losses: Mapping[int, float], rate: float) -> None:
    for layer, loss in losses.items():
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss of the exit after layer {layer} is no number any more: learning diverged at "
                f"--lr {rate:g}. Nothing was written; remove the run's folder and take a lower --lr."
            )


def _optimizer(modules: nn.ModuleDict, rate: float) -> torch.optim.Optimizer:
    """AdamW without decay: heads start from weights that were trained already."""
    vectors = [weight for weight in modules.parameters() if weight.ndim < 2]
    matrices = [weight for weight in modules.parameters() if weight.ndim >= 2]
    groups = [
        {"params": weights, "peak": peak}
        for weights, peak in ((vectors, rate * _NORM_RATE), (matrices, rate))
        if weights
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=_BETAS, weight_decay=0.0)


def _rate(share: float) -> float:
    """Learning rate at a share of the run, as a share of the peak: a warm-up, then half a cosine."""
    falling = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return falling * min(1.0, (share + 1e-3) / _WARM_UP)
