"""What a bundle is for: how a prompt becomes token ids, and the output an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from edge_agent.constraint import Constraint, Unconstrained
from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.home import Home
from edge_agent.home.task import HomeTask
from shared.errors import PromptError
from shared.model.bundle import Bundle


class Result(NamedTuple):
    """An answer's two faces: `text` for people, `action` for machines (None for plain text)."""

    text: str
    action: Any


class Task(Protocol):
    """Encodes prompts for a bundle and reads its outputs."""

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the model's input."""
        ...

    def constraint(self, prompt: str) -> Constraint:
        """What the answer to `prompt` may be."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, special tokens left out."""
        ...

    def read(self, prompt: str, output: str) -> Result:
        """The answer in a finished output."""
        ...


class _TokenizerTask:
    def __init__(self, bundle: Bundle) -> None:
        self._tokenizer = bundle.tokenizer()

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class ChatTask(_TokenizerTask):
    """Free text through the checkpoint's own chat template; without one, the prompt goes on as it is."""

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the prompt in the chat template."""
        if not self._tokenizer.chat_template:
            return list(self._tokenizer.encode(prompt))
        turns = [{"role": "user", "content": prompt}]
        ids = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        return list(ids)

    def constraint(self, prompt: str) -> Constraint:  # noqa: ARG002  the port's signature
        """Free text is free."""
        return Unconstrained()

    def read(self, prompt: str, output: str) -> Result:  # noqa: ARG002  the port's signature
        """The output is the answer."""
        return Result(output, None)


class HomeActionTask(_TokenizerTask):
    """Requests to a home become actions.

    Args:
        bundle: of a home model.
        home: where requests are asked.
        grammar: of the same bundle, for many homes to share; None: one of its own.
    """

    def __init__(self, bundle: Bundle, home: Home, grammar: ActionGrammar | None = None) -> None:
        super().__init__(bundle)
        self._home = HomeTask(home)
        self._grammar = grammar or home_grammar(bundle)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the request and the parts of the home that matter to it."""
        return list(self._tokenizer.encode(self._home.prompt_text(prompt)))

    def constraint(self, prompt: str) -> Constraint:
        """Actions with names, places and words that this request and this home have."""
        return self._home.constraint(prompt, self._grammar)

    def read(self, prompt: str, output: str) -> Result:
        """The action, or a refusal, checked against the home."""
        answer = self._home.parse(prompt, output)
        return Result(answer.text, answer.action)


def home_grammar(bundle: Bundle) -> ActionGrammar:
    """The grammar of home actions in a bundle's tokens; it remembers those of the pieces it has met."""
    tokenizer = bundle.tokenizer()
    return ActionGrammar(lambda text: tokenizer.encode(text, add_special_tokens=False), bundle.eos_token_ids)


def task_for(bundle: Bundle, home: Home | None) -> Task:
    """The task that a bundle was made for.

    Raises:
        PromptError: a home model without a home.
    """
    if bundle.kind != "home":
        return ChatTask(bundle)
    if home is None:
        msg = f"bundle {bundle.name} turns requests into actions in a home: name one with --home FILE"
        raise PromptError(msg)
    return HomeActionTask(bundle, home)
