"""How the exits answer together: each token from the first exit that is sure of it.

Keys and values of skipped layers are always caught up exactly before they are used, so what the
installation writes is what a whole forward writes when every token is taken from the right rung. That
makes thresholds cheap to try, without edge, broker or worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ops.home.model import ExitModel
from ops.home.sample import Sample, is_exact

_MAX_NEW_TOKENS = 96
_BATCH_ROWS = 48


class Joint(msgspec.Struct, frozen=True):
    """What an exam looks like at given thresholds.

    Attributes:
        exact: share of exact actions.
        rungs: layer → share of tokens that it answered.
    """

    exact: float
    rungs: dict[int, float]


def answer_together(
    model: ExitModel,
    tokenizer: PreTrainedTokenizerFast,
    samples: Sequence[Sample],
    thresholds: dict[int, float],
) -> Joint:
    """Let the exits answer `samples` greedily, each token from the first rung that is sure.

    Args:
        model: in fp32.
        tokenizer: the model's.
        samples: the exam.
        thresholds: exit layer → least confidence (largest probability) that stays there.
    """
    order = sorted(samples, key=lambda sample: len(sample.prompt))
    exact = 0
    taken: Counter[int] = Counter()
    for low in range(0, len(order), _BATCH_ROWS):
        batch = order[low : low + _BATCH_ROWS]
        texts = _write(model, tokenizer, [sample.prompt for sample in batch], thresholds, taken)
        exact += sum(is_exact(sample.answer, text) for sample, text in zip(batch, texts, strict=True))
    tokens = max(1, taken.total())
    return Joint(exact / max(1, len(samples)), {layer: taken[layer] / tokens for layer in sorted(taken)})


def _write(
    model: ExitModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    thresholds: dict[int, float],
    taken: Counter[int],
) -> list[str]:
    encoded = tokenizer(prompts)["input_ids"]
    lengths = torch.tensor([len(row) for row in encoded])
    ids = torch.full((len(encoded), int(lengths.max()) + _MAX_NEW_TOKENS), int(tokenizer.pad_token_id or 0))
    for line, row in enumerate(encoded):
        ids[line, : len(row)] = torch.tensor(row)
    starts, open_rows = lengths.clone(), torch.arange(len(encoded))
    while len(open_rows) and int(lengths[open_rows].max()) < ids.shape[1]:
        tokens, rungs = _next(model, ids[open_rows], lengths[open_rows], thresholds)
        taken.update(rungs.tolist())
        ids[open_rows, lengths[open_rows]] = tokens
        lengths[open_rows] += 1
        open_rows = open_rows[tokens != tokenizer.eos_token_id]
    spans = zip(ids, starts.tolist(), lengths.tolist(), strict=True)
    return [str(tokenizer.decode(row[first:last], skip_special_tokens=True)) for row, first, last in spans]


def _next(
    model: ExitModel, ids: Tensor, lengths: Tensor, thresholds: dict[int, float]
) -> tuple[Tensor, Tensor]:
    """The next token of each row and the layer it comes from."""
    with torch.inference_mode():
        states = model.hidden(ids[:, : int(lengths.max())])
        rows = torch.arange(len(ids))
        tokens = torch.zeros(len(ids), dtype=torch.int64)
        rungs = torch.zeros(len(ids), dtype=torch.int64)
        for layer, normed in states.items():
            confidence, guess = model.logits(normed[rows, lengths - 1]).softmax(-1).max(-1)
            takes = (rungs == 0) & (confidence >= thresholds.get(layer, 0.0))
            tokens[takes], rungs[takes] = guess[takes], layer
    return tokens, rungs
