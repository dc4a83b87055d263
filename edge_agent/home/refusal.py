"""Why a request can't become an action."""

from __future__ import annotations

from typing import Any, Final

Action = dict[str, Any]

REASONS: Final[dict[str, str]] = {
    "no_such_entity": "The home has no such device.",
    "no_such_area": "The home has no such room or floor.",
    "not_a_command": "The request is not something the home can do.",
    "not_understood": "The model's answer was not a valid action.",
}


class Refusal(Exception):  # noqa: N818 — an outcome that ends the reading, not a fault
    """The request can't become an action; `code` is a key of `REASONS`."""

    def __init__(self, code: str) -> None:
        super().__init__(REASONS[code])
        self.code = code

    def action(self) -> Action:
        """The refusal in the form that a device gets."""
        return {"error": self.code, "reason": REASONS[self.code]}
