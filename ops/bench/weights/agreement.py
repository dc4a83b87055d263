"""How often weights in fewer bits lead to the same token as float32: along its answers, and on their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.quality import sources
from ops.quality.codecs import answer_passages, cloud_tokens
from ops.quality.forest import Forest
from ops.quality.ladder import Ladder
from ops.quality.policy import Trace, unsplit_policy
from ops.quality.question import Question, home_questions, text_questions
from shared.errors import ConfigError
from shared.model.bundle import Bundle
from shared.model.precision import precision_named
from shared.tensors.codec import codec_named

_PROMPT_TOKENS = 64
_NEW_TOKENS = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AgreementResult:
    """One precision of the whole model, both sides, on one bundle.

    Attributes:
        bundle: its name.
        precision: the weights'.
        tokens: places that were decided.
        agreement: share of them at which the choice is float32's, after float32's text so far.
        same_answers: share of answers that are float32's from end to end.
    """

    bundle: str
    precision: str
    tokens: int
    agreement: float
    same_answers: float


def measure_agreement(
    bundle: Bundle, precisions: Sequence[str], texts: Sequence[Path], count: int, progress: Progress
) -> list[AgreementResult]:
    """Decode the same questions in float32 and in each precision.

    Raises:
        ConfigError: the bundle goes on with text and none is given, or no token is left to decide.
    """
    questions = _questions(bundle, texts, count)
    exact = _ladder(bundle, "float32")
    answers = _answers(exact, questions, progress)
    wanted = _choices(exact, questions, answers)
    if not wanted:
        raise ConfigError(f"bundle {bundle.name} decides no token on these texts: give longer ones")
    return [_result(bundle, name, questions, answers, wanted, progress) for name in precisions]


def _questions(bundle: Bundle, texts: Sequence[Path], count: int) -> list[Question]:
    if bundle.kind == "home":
        tasks = sources.Tasks(bundle)
        return home_questions(bundle, tasks, sources.generated(tasks, count, sources.REPORT_SEED))
    if not texts:
        raise ConfigError(f"bundle {bundle.name} goes on with text: name some with --text FILE")
    found = sources.texts(texts, None)[:count]
    return text_questions(bundle, found, prompt_tokens=_PROMPT_TOKENS, new_tokens=_NEW_TOKENS)


def _ladder(bundle: Bundle, precision: str) -> Ladder:
    return Ladder(bundle, codec_named("fp32"), precision_named(precision))


def _answers(ladder: Ladder, questions: Sequence[Question], progress: Progress) -> list[Trace]:
    (answers,) = Forest(ladder, questions).decode([unsplit_policy(ladder.exits)], progress=progress)
    return answers


def _choices(ladder: Ladder, questions: Sequence[Question], answers: Sequence[Trace]) -> list[int]:
    """What this model would say at every place of these answers."""
    return list(cloud_tokens(ladder, answer_passages(ladder, questions, answers), None))


def _result(
    bundle: Bundle,
    precision: str,
    questions: Sequence[Question],
    answers: Sequence[Trace],
    wanted: Sequence[int],
    progress: Progress,
) -> AgreementResult:
    ladder = _ladder(bundle, precision)
    same = sum(one == other for one, other in zip(_choices(ladder, questions, answers), wanted, strict=True))
    own = _answers(ladder, questions, progress)
    equal = sum(one.tokens == other.tokens for one, other in zip(own, answers, strict=True))
    return AgreementResult(bundle.name, precision, len(wanted), same / len(wanted), equal / len(answers))
