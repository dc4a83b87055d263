"""Agreement of every codec on a bundle: along the full model's answers, and along text that is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.quality import sources
from ops.quality.codecs import CodecResult, Passage, answer_passages, compare, text_passage
from ops.quality.forest import Forest
from ops.quality.ladder import Ladder
from ops.quality.policy import unsplit_policy
from ops.quality.question import Question, home_questions, text_questions
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.tensors.codec import CODECS, codec_named

_PROMPT_TOKENS: Final = 64
_NEW_TOKENS: Final = 64
_TEXT_TOKENS: Final = 256  # read of each given text
_LEAST_TOKENS: Final = 2  # a text of one token has nothing to predict

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Given:
    """What bundles that go on with text are measured on.

    Attributes:
        paths: files of texts.
        field: where JSON lines keep theirs.
        count: requests or texts for each bundle.
    """

    paths: Sequence[Path]
    field: str | None
    count: int


@dataclass(frozen=True)
class AgreementResult:
    """Every codec on one bundle and one kind of text.

    Attributes:
        bundle: its name.
        width: of its rows.
        text: what the tokens follow.
        codecs: their results, in the order of `CODECS`.
    """

    bundle: str
    width: int
    text: str
    codecs: Sequence[CodecResult]


def measure_agreement(bundle: Bundle, given: Given, progress: Progress) -> list[AgreementResult]:
    """Measure a bundle.

    Raises:
        ConfigError: it goes on with text, and none is given; or the text has nothing to decide.
    """
    ladder = Ladder(bundle, codec_named("fp32"))
    if bundle.kind == "home":
        tasks = sources.Tasks(bundle)
        requests = sources.generated(tasks, given.count, sources.REPORT_SEED)
        questions = home_questions(bundle, tasks, requests)
        return [_result(ladder, "its answers", _answers(ladder, questions, progress))]
    texts = _texts(bundle, given)
    questions = text_questions(bundle, texts, prompt_tokens=_PROMPT_TOKENS, new_tokens=_NEW_TOKENS)
    return [
        _result(ladder, "its answers", _answers(ladder, questions, progress)),
        _result(ladder, "the given text", _passages(ladder, texts)),
    ]


def _texts(bundle: Bundle, given: Given) -> list[str]:
    if not given.paths:
        raise ConfigError(f"bundle {bundle.name} goes on with text: name some with --text FILE")
    return sources.texts(given.paths, given.field)[: given.count]


def _answers(ladder: Ladder, questions: Sequence[Question], progress: Progress) -> list[Passage]:
    (answers,) = Forest(ladder, questions).decode([unsplit_policy(ladder.exits)], progress=progress)
    return answer_passages(ladder, questions, answers)


def _passages(ladder: Ladder, texts: Sequence[str]) -> list[Passage]:
    tokenizer, longest = ladder.bundle.tokenizer(), min(_TEXT_TOKENS, ladder.bundle.max_positions)
    read = [list(tokenizer.encode(text))[:longest] for text in texts]
    return [text_passage(ladder, ids, prompt_tokens=1) for ids in read if len(ids) >= _LEAST_TOKENS]


def _result(ladder: Ladder, text: str, passages: Sequence[Passage]) -> AgreementResult:
    if not passages:
        raise ConfigError(f"bundle {ladder.bundle.name} decides no token on these texts: give longer ones")
    codecs = compare(ladder, passages, CODECS.values())
    return AgreementResult(ladder.bundle.name, ladder.bundle.hidden_size, text, codecs)
