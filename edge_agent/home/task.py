"""The home task: from a request to the model's input, and from its output to an answer."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.home.actions import ActionReader
from edge_agent.home.grammar import ActionGrammar
from edge_agent.home.home import Home
from edge_agent.home.prompt import prompt_text
from edge_agent.home.refusal import Refusal
from edge_agent.home.shortlist import Shortlister
from edge_agent.home.speech import sentence
from edge_agent.home.words import normalise
from edge_agent.token_paths import TokenPaths
from shared.errors import PromptError

# "Everything off but the hall" is many actions; nobody wants to hear them all.
_SPOKEN_ACTIONS = 4


class Answer(msgspec.Struct, frozen=True):
    """What a device gets.

    Attributes:
        action: Home Assistant intent and slots; a list when the request asked for several; for a refusal
            `{"error": code, "reason": sentence}`.
        text: one or more sentences to say.
        ok: whether `action` can be carried out.
    """

    action: dict[str, Any] | list[dict[str, Any]] | None
    text: str
    ok: bool


class HomeTask:
    """Answers requests about one home with a home model.

    Args:
        home: the home, already checked.
    """

    def __init__(self, home: Home) -> None:
        self._shortlister = Shortlister(home)
        self._reader = ActionReader(home)

    def prompt_text(self, request: str) -> str:
        """The model's input for `request`.

        Raises:
            PromptError: the request has no words; recoverable with another request.
        """
        if not normalise(request):
            raise PromptError("the request has no words; say what the home should do")
        return prompt_text(request, self._shortlister.pick(request))

    def constraint(self, request: str, grammar: ActionGrammar) -> TokenPaths:
        """What the model may answer to `request`."""
        return grammar.constraint(request, self._shortlister.pick(request))

    def parse(self, request: str, output: str) -> Answer:
        """The answer that the model's `output` means; text that is no valid action becomes a refusal."""
        try:
            actions = self._reader.read(request, output)
        except Refusal as refusal:
            return Answer(action=refusal.action(), text=f"Sorry, I can't do that. {refusal}", ok=False)
        said = [sentence(action, self._reader.targets(action)) for action in actions]
        more = [f"And {len(said) - _SPOKEN_ACTIONS} more."] if len(said) > _SPOKEN_ACTIONS else []
        text = " ".join(said[:_SPOKEN_ACTIONS] + more)
        return Answer(action=actions[0] if len(actions) == 1 else actions, text=text, ok=True)
