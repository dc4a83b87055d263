"""What each codec costs the cloud's tokens, along texts that the full model wrote.

The edge's rows of a text are computed once. The cloud then reads them exactly and through each codec, and
is asked for its greedy token at each place that it decides. Every codec sees the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ops.quality.ladder import Allowed, Ladder
from ops.quality.policy import Trace
from ops.quality.question import Question
from ops.quality.spread import best_token
from shared.model.calibration import CodecScore
from shared.model.stage import Segment
from shared.tensors.codec import Codec

# Rows of one forward; see `ladder.py`.
_MAX_ROWS: Final = 1024
_DIGITS: Final = 6


@dataclass(frozen=True)
class Passage:
    """A text as the cloud gets it.

    Attributes:
        rows: the edge's exact states, (positions, hidden).
        places: the rows behind which the cloud decides.
        allowed: at each place, the ids that a grammar leaves; None: all.
    """

    rows: Tensor
    places: tuple[int, ...]
    allowed: tuple[Allowed, ...]


@dataclass(frozen=True)
class CodecResult:
    """One codec on some passages.

    Attributes:
        score: what a calibration keeps.
        relative_error: see `relative_error`.
        tokens: places that were compared.
    """

    score: CodecScore
    relative_error: float
    tokens: int


def answer_passages(ladder: Ladder, questions: Sequence[Question], answers: Sequence[Trace]) -> list[Passage]:
    """Answers of the full model, each with the places that it decided; those without any are left out."""
    found = []
    for question, answer in zip(questions, answers, strict=True):
        places = dict(_decided(question, answer))
        if places:
            rows = edge_rows(ladder, (*question.prompt, *answer.tokens))
            found.append(Passage(rows, tuple(places), tuple(places.values())))
    return found


def text_passage(ladder: Ladder, ids: Sequence[int], prompt_tokens: int) -> Passage:
    """A text that somebody else wrote: every place from the end of its prompt on."""
    places = tuple(range(prompt_tokens - 1, len(ids)))
    return Passage(edge_rows(ladder, ids), places, (None,) * len(places))


@torch.inference_mode()
def edge_rows(ladder: Ladder, ids: Sequence[int]) -> Tensor:
    """States that leave the edge's last stage, (positions, hidden)."""
    rows = torch.tensor(ids)
    for stage in ladder.edge.stages:
        rows = stage.forward(rows, [Segment(stage.new_cache(), len(ids))])
    return rows


def compare(ladder: Ladder, passages: Sequence[Passage], codecs: Iterable[Codec]) -> list[CodecResult]:
    """Each codec against exact states.

    Args:
        ladder: whose cloud reads.
        passages: at least one, with at least one place.
        codecs: in any order.
    """
    exact = list(cloud_tokens(ladder, passages, None))
    return [_result(ladder, passages, exact, codec) for codec in codecs]


def _result(ladder: Ladder, passages: Sequence[Passage], exact: list[int], codec: Codec) -> CodecResult:
    same = sum(
        token == wanted for token, wanted in zip(cloud_tokens(ladder, passages, codec), exact, strict=True)
    )
    width = codec.row_bytes(ladder.bundle.hidden_size)
    score = CodecScore(codec.name, width, round(same / len(exact), _DIGITS))
    return CodecResult(score, relative_error(torch.cat([each.rows for each in passages]), codec), len(exact))


def relative_error(rows: Tensor, codec: Codec) -> float:
    """Root mean square, over rows, of the error's norm by the row's."""
    errors = (_through(rows, codec) - rows).norm(dim=1) / rows.norm(dim=1).clamp(min=1e-30)
    return float(errors.square().mean().sqrt())


def _through(rows: Tensor, codec: Codec | None) -> Tensor:
    return rows if codec is None else codec.decode(codec.encode(rows), *rows.shape)


@torch.inference_mode()
def cloud_tokens(ladder: Ladder, passages: Sequence[Passage], codec: Codec | None) -> Iterator[int]:
    """The cloud's greedy token at every place of every passage."""
    stage, head = ladder.cloud.stage, ladder.cloud.head
    for group in _groups(passages):
        segments = [Segment(stage.new_cache(), len(each.rows)) for each in group]
        out = stage.forward(torch.cat([_through(each.rows, codec) for each in group]), segments)
        start = 0
        for each in group:
            logits = head.logits(out[[start + place for place in each.places]]).numpy()
            start += len(each.rows)
            for line, allowed in zip(logits, each.allowed, strict=True):
                yield best_token(line, allowed)


def _groups(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Passages for one forward each."""
    group: list[Passage] = []
    for passage in passages:
        if group and sum(len(each.rows) for each in group) + len(passage.rows) > _MAX_ROWS:
            yield group
            group = []
        group.append(passage)
    if group:
        yield group


def _decided(question: Question, answer: Trace) -> Iterator[tuple[int, Allowed]]:
    """The row behind which each token was decided, and what the grammar left there."""
    grammar = question.constraint()
    for index, row in enumerate(range(len(question.prompt) - 1, len(question.prompt) + len(answer.tokens))):
        if index >= question.max_new_tokens:
            return
        allowed = grammar.allowed()
        if allowed is None or len(allowed) != 1:
            yield row, None if allowed is None else tuple(allowed)
        if index < len(answer.tokens):
            grammar.accept(answer.tokens[index])
