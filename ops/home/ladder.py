"""How the exits answer, together or each alone: each token from the first exit that is sure of it.

Keys and values of skipped layers are always caught up exactly before they are used, so what the
installation writes is what a whole forward writes when every token is taken from the right rung. That
makes thresholds cheap to try, without edge, broker or worker. The grammar is the installation's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.shortlist import Shortlister
from edge_agent.token_paths import TokenPaths
from ops.home.model import ExitModel
from ops.home.sample import Sample, is_exact

_MAX_NEW_TOKENS = 112
_BATCH_ROWS = 48
NEVER = 2.0  # a threshold that no confidence passes


class Joint(msgspec.Struct, frozen=True):
    """What an exam looks like at given thresholds.

    Attributes:
        texts: what was written, in the samples' order.
        exact: share of exact actions.
        rungs: layer → share of the decided tokens that it answered; forced tokens are not counted.
    """

    texts: list[str]
    exact: float
    rungs: dict[int, float]


class _Row(msgspec.Struct):
    """One answer being written."""

    index: int
    prompt: int  # tokens
    ids: list[int]
    paths: TokenPaths

    def force(self, eos: int) -> bool:
        """Take what the grammar leaves no choice about; whether a choice is left."""
        while True:
            if self.ids[-1] == eos or len(self.ids) >= self.prompt + _MAX_NEW_TOKENS:
                return False
            allowed = self.paths.allowed()
            if len(allowed) != 1:
                return True
            self.take(allowed[0])

    def take(self, token: int) -> None:
        self.ids.append(token)
        self.paths.accept(token)


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
    grammar = ActionGrammar(
        lambda text: tokenizer.encode(text, add_special_tokens=False), [int(tokenizer.eos_token_id)]
    )
    rows = [_row(grammar, tokenizer, index, sample) for index, sample in enumerate(samples)]
    rows.sort(key=lambda row: row.prompt)
    taken: Counter[int] = Counter()
    for low in range(0, len(rows), _BATCH_ROWS):
        _write(model, tokenizer, rows[low : low + _BATCH_ROWS], thresholds, taken)
    texts = [""] * len(rows)
    for row in rows:
        texts[row.index] = str(tokenizer.decode(row.ids[row.prompt :], skip_special_tokens=True))
    exact = sum(is_exact(sample.answer, text) for sample, text in zip(samples, texts, strict=True))
    tokens = max(1, taken.total())
    shares = {layer: taken[layer] / tokens for layer in sorted(taken)}
    return Joint(texts, exact / max(1, len(samples)), shares)


def _row(grammar: ActionGrammar, tokenizer: PreTrainedTokenizerFast, index: int, sample: Sample) -> _Row:
    ids = list(tokenizer.encode(sample.prompt, add_special_tokens=False))
    shortlist = Shortlister(sample.home).pick(sample.request)
    return _Row(index, len(ids), ids, grammar.constraint(sample.request, shortlist))


def _write(
    model: ExitModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[_Row],
    thresholds: dict[int, float],
    taken: Counter[int],
) -> None:
    eos = int(tokenizer.eos_token_id)
    while rows := [row for row in rows if row.force(eos)]:
        tokens, rungs = _next(model, rows, thresholds)
        taken.update(rungs.tolist())
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.take(token)


@torch.inference_mode()
def _next(model: ExitModel, rows: list[_Row], thresholds: dict[int, float]) -> tuple[Tensor, Tensor]:
    """The next token of each row and the layer it comes from."""
    lengths = torch.tensor([len(row.ids) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    barred = torch.full((len(rows), model.lm.config.vocab_size), -torch.inf)
    for line, row in enumerate(rows):
        ids[line, : len(row.ids)] = torch.tensor(row.ids)
        barred[line, row.paths.allowed()] = 0.0
    places = torch.arange(len(rows))
    tokens, rungs = torch.zeros_like(lengths), torch.zeros_like(lengths)
    for layer, normed in model.hidden(ids).items():
        scores = model.logits(normed[places, lengths - 1]).float() + barred
        confidence, guess = scores.softmax(-1).max(-1)
        takes = (rungs == 0) & (confidence >= thresholds.get(layer, 0.0))
        tokens[takes], rungs[takes] = guess[takes], layer
    return tokens, rungs
