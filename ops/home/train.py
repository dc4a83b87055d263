"""Training of the home model: all exits together, on one CPU core, within a set time.

A run is set by its seed, and by its steps if it is told steps: the same numbers then give the same
model. Told seconds, it plans its learning rate to the end of that time. It can be stopped at any
moment and goes on from its last checkpoint when started again.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from ops.folders import settle
from ops.home.dataset import Batch, Dataset, batches, build
from ops.home.dropout import drop_residuals
from ops.home.hardness import answer_nats, harder
from ops.home.initial import lay_out_copying, lay_out_senses
from ops.home.model import ExitModel, exit_weight, home_config
from ops.home.senses import token_senses
from ops.tuning.signals import stop_on_signals
from shared.errors import ConfigError

_DATA: Final = "data.npz"
_PLAN: Final = "plan.json"
_CHECKPOINT: Final = "training.pt"
_CHECKPOINT_EVERY_S: Final = 240.0
_REPORT_EVERY: Final = 50

_WARMUP_STEPS: Final = 60
_LAST_RATE: Final = 0.02  # of the peak, at the end of the cosine
_MATRIX_RATE: Final = 4e-3
_OTHER_RATE: Final = 1.5e-3
_WEIGHT_DECAY: Final = 0.05
_CLIP: Final = 1.0
_DROPOUT: Final = 0.1
# A later round's model is still wrong on one in twenty of training's own requests: it has learned too little
# rather than by heart.
_LATER_DROPOUT: Final = 0.05
# A second round begins where the first one's rate and exit weights were half-way.
_SECOND_ROUND: Final = 0.5
_CHANCE_RIVALS: Final = 400
_MAX_STEPS: Final = 10_000_000
_LINES_WEIGHT: Final = 0.2  # of the home's lines in the loss, beside the answer's 1
# Of answers with several actions: one request in twelve, and the hardest: which part is still to be done?
_SEVERAL_WEIGHT: Final = 2.5
_SEVERAL: Final = "["


class Progress(msgspec.Struct, frozen=True):
    """Where a run stands; `losses` are per answer token, by exit layer."""

    step: int
    share: float
    elapsed_s: float
    tokens: int
    tokens_per_s: float
    losses: dict[int, float]


class Plan(msgspec.Struct, frozen=True):
    """What a run is made of; two runs with equal plans in steps give equal models.

    Attributes:
        begun: where on the way from first rate to last the run begins.
        first_round: SHA-256 (hex) of the weights that it begins with; empty: none.
    """

    seed: int = 0
    samples: int = 400_000
    batch_tokens: int = 3_072
    seconds: float | None = 3_300.0
    steps: int | None = None
    begun: float = 0.0
    first_round: str = ""

    def share(self, step: int, elapsed_s: float) -> float:
        """How much of the run is done, 0 to 1; a second round begins at `begun`."""
        done = elapsed_s / self.seconds if self.seconds else 1.0
        if self.steps is not None:
            done = step / self.steps
        return self.begun + (1.0 - self.begun) * min(1.0, done)


def train(
    out: Path,
    *,
    seconds: float | None = 3_300.0,
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    samples: int = 400_000,
    batch_tokens: int = 3_072,
    first_round: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train the home model into `out`, or go on with the run that stands there.

    While it learns, SIGINT and SIGTERM save the run and leave it; the same call goes on with it.

    Args:
        out: folder for the Hugging Face checkpoint, `exits.safetensors`, the data and the run's state.
        seconds: how long to train; ignored when `steps` is given.
        steps: how many batches to train.
        seed: of data, weights and order.
        threads: torch's threads; on a shared machine more than one beside another busy process is slower.
        samples: how many requests to generate.
        batch_tokens: tokens in a batch, padding included.
        first_round: an earlier run whose weights and vocabulary this one begins with, on data of its own.
        progress: called every few steps and at the end.

    Returns:
        Where the run ended: at share 1, and `out` holds the model, unless it was told to stop.

    Raises:
        ConfigError: neither or no sensible length was given, or `out` holds a run of another plan.
    """
    if steps is not None:
        seconds = None
    if (seconds or steps or 0) <= 0:
        raise ConfigError("give `seconds` or `steps`, above zero, so that the learning rate can be planned")
    torch.set_num_threads(threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(seed, samples, batch_tokens, seconds, steps)
    if first_round is not None:
        plan = replace(plan, begun=_SECOND_ROUND, first_round=_weights_sha256(first_round))
    run = Run(plan, out, *_prepare(plan, out, first_round))
    if first_round is not None:
        run.begin_with(first_round)
    run.resume()
    with stop_on_signals() as stop:
        last = run.go(progress or (lambda _: None), stop)
    if last.share >= 1.0:
        run.model.save(out, run.tokenizer)
    return last


def _weights_sha256(folder: Path) -> str:
    """Of an earlier run.

    Raises:
        ConfigError: the folder holds none.
    """
    path = folder / _CHECKPOINT
    if not path.exists():
        raise ConfigError(f"{folder} holds no training run: name a folder that training wrote to")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prepare(
    plan: Plan, out: Path, first_round: Path | None = None
) -> tuple[PreTrainedTokenizerFast, Dataset]:
    """The run's data: made once, then read."""
    if (out / _PLAN).exists() or (out / _CHECKPOINT).exists():
        _refuse_another(plan, out)
        return PreTrainedTokenizerFast.from_pretrained(out), Dataset.load(out / _DATA)
    known = None if first_round is None else PreTrainedTokenizerFast.from_pretrained(first_round)
    tokenizer, data = build(plan.samples, plan.seed, processes=os.cpu_count() or 1, tokenizer=known)
    if first_round is not None:
        pad = int(tokenizer.pad_token_id or 0)
        nats = answer_nats(ExitModel.load(first_round), data, plan.batch_tokens, pad)
        data = harder(data, nats, plan.seed)
    tokenizer.save_pretrained(out)
    data.save(out / _DATA)
    (out / _PLAN).write_bytes(msgspec.json.encode(plan))  # last: what it stands beside is whole
    return tokenizer, data


def _refuse_another(plan: Plan, out: Path) -> None:
    """Data and state of one plan are of no use to another."""
    path = out / _PLAN
    if not path.exists() or msgspec.json.decode(path.read_bytes(), type=Plan) != plan:
        raise ConfigError(f"{out} holds a run with other settings; remove it to start anew")


class Run:
    """One training run and its state.

    Args:
        plan: its settings.
        out: its folder.
        tokenizer: the vocabulary.
        data: the encoded samples.
    """

    def __init__(self, plan: Plan, out: Path, tokenizer: PreTrainedTokenizerFast, data: Dataset) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.tokenizer = tokenizer
        self.model = ExitModel(home_config(tokenizer), senses=token_senses(tokenizer))
        lay_out_copying(self.model.lm)
        lay_out_senses(self.model.sense_map)
        drop_residuals(self.model.lm, _LATER_DROPOUT if plan.first_round else _DROPOUT)
        self._out = out
        self._data = data
        self._optimizers = _optimizers(self.model)
        # Tokens that an answer with several actions may begin with.
        starts = [token for text, token in tokenizer.get_vocab().items() if text.startswith(_SEVERAL)]
        self._several = torch.tensor(sorted(starts))
        self._step = 0
        self._tokens = 0
        self._elapsed_s = 0.0

    def begin_with(self, folder: Path) -> None:
        """Take the weights of an earlier run."""
        self.model.load_state_dict(torch.load(folder / _CHECKPOINT, weights_only=True)["model"])

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one."""
        path = self._out / _CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._step, self._tokens, self._elapsed_s = state["step"], state["tokens"], state["elapsed_s"]

    def go(self, progress: Callable[[Progress], None], stop: Callable[[], bool]) -> Progress:
        """Train to the end of the plan, or until `stop`."""
        started = time.monotonic() - self._elapsed_s
        saved_s = self._elapsed_s
        losses: dict[int, Tensor] = {}
        self.model.train()
        for batch in self._batches():
            if self.plan.share(self._step, self._elapsed_s) >= 1.0 or stop():
                break
            losses = self._learn(batch)
            self._elapsed_s = time.monotonic() - started
            if self._step % _REPORT_EVERY == 0:
                progress(self._progress(losses))
            if self._elapsed_s - saved_s > _CHECKPOINT_EVERY_S:
                self._save()
                saved_s = self._elapsed_s
        self._save()
        last = self._progress(losses)
        progress(last)
        return last

    def _batches(self) -> Iterator[Batch]:
        pad = int(self.tokenizer.pad_token_id or 0)
        return batches(self._data, self.plan.batch_tokens, self.plan.seed, pad, skip=self._step)

    def _learn(self, batch: Batch) -> dict[int, Tensor]:
        share = self.plan.share(self._step, self._elapsed_s)
        rate = _rate(self._step, share)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
        torch.manual_seed(self.plan.seed * _MAX_STEPS + self._step)  # what dropout drops
        chance = torch.Generator().manual_seed(self.plan.seed * _MAX_STEPS + self._step)
        losses = weighted_losses(self.model, batch, chance, self._several)
        total = torch.stack([exit_weight(layer, share) * loss for layer, (loss, _) in losses.items()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._step += 1
        self._tokens += int(batch.lengths.sum())
        return {layer: answers for layer, (_, answers) in losses.items()}

    def _progress(self, losses: dict[int, Tensor]) -> Progress:
        return Progress(
            step=self._step,
            share=self.plan.share(self._step, self._elapsed_s),
            elapsed_s=self._elapsed_s,
            tokens=self._tokens,
            tokens_per_s=self._tokens / max(self._elapsed_s, 1e-9),
            losses={layer: float(loss) for layer, loss in losses.items()},
        )

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "step": self._step,
            "tokens": self._tokens,
            "elapsed_s": self._elapsed_s,
        }
        # Written beside and renamed: a run killed while saving keeps its last checkpoint.
        fresh = self._out / (_CHECKPOINT + ".new")
        torch.save(state, fresh)
        settle(fresh, self._out / _CHECKPOINT)


def weighted_losses(
    model: ExitModel, batch: Batch, chance: torch.Generator, several: Tensor
) -> dict[int, tuple[Tensor, Tensor]]:
    """By exit layer: what to minimise, and the mean cross-entropy of the answers' tokens alone.

    The home's lines mostly repeat words of the request. Learning them a little teaches copying, which
    the answers need, from the first steps on. The request itself is not learned: nobody can foretell it.
    """
    ids = torch.from_numpy(batch.ids).long()
    places = torch.arange(ids.shape[1])[None]
    learned = (places >= torch.from_numpy(batch.homes)[:, None] - 1) & (
        places < torch.from_numpy(batch.lengths)[:, None] - 1
    )
    answers = (places >= torch.from_numpy(batch.answers)[:, None] - 1).expand_as(ids)[learned]
    first = ids[torch.arange(len(ids)), torch.from_numpy(batch.answers).long()]
    weight = torch.where(torch.isin(first, several), _SEVERAL_WEIGHT, 1.0)[:, None].expand_as(ids)[learned]
    rows = torch.from_numpy(batch.weights)[:, None].expand_as(ids)[learned]
    weights = torch.where(answers, weight, _LINES_WEIGHT) * rows
    targets, rivals = _rivals(torch.roll(ids, -1, 1)[learned], ids, model.vocabulary, chance)
    with torch.autocast("cpu", torch.bfloat16):
        states = model.hidden(ids)
        head = model.embeddings()[rivals]
        each = {
            layer: cross_entropy(linear(normed[learned], head).float(), targets, reduction="none")
            for layer, normed in states.items()
        }
    return {
        layer: ((loss * weights).sum() / rows[answers].sum(), loss.detach()[answers].mean())
        for layer, loss in each.items()
    }


def _rivals(targets: Tensor, ids: Tensor, vocabulary: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """The tokens that a batch's targets are told apart from, and the targets' places among them.

    The grammar leaves an answer the words of its request, of the home, and of actions: a batch holds them
    all. A few hundred others by chance teach that the rest of the vocabulary is no answer.
    """
    others = torch.randint(vocabulary, (_CHANCE_RIVALS,), generator=chance)
    rivals, places = torch.unique(torch.cat([targets, ids.flatten(), others]), return_inverse=True)
    return places[: len(targets)], rivals


def _optimizers(model: ExitModel) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    tables = ("lm.model.embed_tokens.weight", "sense_map")
    matrices = [value for name, value in named if value.ndim == 2 and name not in tables]
    others = [value for name, value in named if value.ndim != 2 or name in tables]
    muon = torch.optim.Muon(
        matrices, lr=_MATRIX_RATE, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(others, lr=_OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for optimizer, peak in ((muon, _MATRIX_RATE), (adam, _OTHER_RATE)):
        for group in optimizer.param_groups:
            group["peak"] = peak
    return [muon, adam]


def _rate(step: int, share: float) -> float:
    """Learning rate as a share of the peak: a short linear rise, then a cosine down."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * share))
    return min(1.0, (step + 1) / _WARMUP_STEPS) * (_LAST_RATE + (1.0 - _LAST_RATE) * cosine)
