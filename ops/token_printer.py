"""Shows an answer in a terminal while it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from edge_agent.request import TokenEvent
from ops.render import answer_tokens, printable, token_text


class _Shown(NamedTuple):
    """What of a token can be seen."""

    text: str
    rung: str
    degraded: bool


class TokenPrinter:
    """Prints token events as they come, then whatever they did not tell.

    Events travel at QoS 0: a lost broker loses some, and an edge that starts again begins anew. At the
    first hole or repeat the printing stops, and the whole answer is printed at the end.

    Args:
        console: where answers go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[_Shown] = []
        self._whole = True

    def on_event(self, event: TokenEvent) -> None:
        """Print the next token."""
        if event.done:
            return
        self._whole = self._whole and event.index == len(self._shown)
        if self._whole:
            self._shown.append(_Shown(event.text, event.rung, event.degraded))
            token = token_text(event.text, event.rung, degraded=event.degraded)
            self._console.print(token, end="", soft_wrap=True)

    def end_line(self) -> None:
        """No answer will come: what is printed next begins a line."""
        if self._shown:
            self._console.print()

    def finish(self, answer: Mapping[str, Any]) -> None:
        """Print the answer's tokens, unless they have all been shown, and its text where it says more."""
        tokens = [_Shown(each["text"], each["rung"], each["degraded"]) for each in answer["tokens"]]
        if self._shown != tokens:
            if self._shown:
                self._console.print(" …", style="dim")
            self._console.print(answer_tokens(answer["tokens"]), end="", soft_wrap=True)
        self._console.print()
        if answer["text"] != answer["output"]:
            self._console.print(printable(answer["text"]), style="bold", markup=False, highlight=False)
        if (
            answer.get("action") is not None
        ):  # what was written above is the model's draft; this is what counts
            action = printable(msgspec.json.encode(answer["action"]).decode())
            self._console.print(action, markup=False, highlight=False, soft_wrap=True)
