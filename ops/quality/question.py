"""One prompt to decode, as the ladder wants it: ids, a grammar, a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edge_agent.constraint import Constraint, Unconstrained
from edge_agent.task import ChatTask, HomeActionTask
from ops.quality.sources import Request, Tasks
from shared.model.bundle import Bundle

# An answer to a home is a few dozen tokens; eight actions with long names stay below this.
HOME_NEW_TOKENS = 160


@dataclass(frozen=True)
class Question:
    """One prompt.

    Attributes:
        prompt: its ids, at least one.
        constraint: makes the grammar of an answer; called for each.
        max_new_tokens: bound of an answer, forced tokens included.
    """

    prompt: tuple[int, ...]
    constraint: Callable[[], Constraint]
    max_new_tokens: int


def home_questions(bundle: Bundle, tasks: Tasks, requests: Iterable[Request]) -> list[Question]:
    """Requests to homes."""
    return [_home_question(bundle, tasks.of(request.home), request.text) for request in requests]


def text_questions(
    bundle: Bundle, texts: Iterable[str], *, prompt_tokens: int, new_tokens: int
) -> list[Question]:
    """The beginning of each text as a prompt, in the model's chat template if it has one.

    Args:
        bundle: whose tokenizer reads them.
        texts: those without any token are left out.
        prompt_tokens: of each text.
        new_tokens: bound of each answer.
    """
    tokenizer, task = bundle.tokenizer(), ChatTask(bundle)
    found = []
    for text in texts:
        ids = list(tokenizer.encode(text))[:prompt_tokens]
        if ids and tokenizer.chat_template:
            ids = task.encode(task.decode(ids))
        if ids:
            found.append(_text_question(bundle, ids, new_tokens))
    return found


def _home_question(bundle: Bundle, task: HomeActionTask, request: str) -> Question:
    ids = tuple(task.encode(request))
    room = bundle.max_positions - len(ids)
    return Question(ids, lambda: task.constraint(request), min(HOME_NEW_TOKENS, room))


def _text_question(bundle: Bundle, ids: Sequence[int], new_tokens: int) -> Question:
    kept = tuple(ids[: bundle.max_positions - 1])
    return Question(kept, Unconstrained, min(new_tokens, bundle.max_positions - len(kept)))
