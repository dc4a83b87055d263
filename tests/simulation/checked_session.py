"""A session of the edge that says when it believes a word which it should not (invariants 2, 5, 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from edge_agent.cloud_session import CloudSession, Phase
from edge_agent.patience import Patience
from edge_agent.reply_time import ReplyTime
from edge_agent.session_actions import Action, Answered, Failed, SendStep
from edge_agent.want import Want
from shared.wire.messages import Sampling, Step, ToEdge, Tokens
from tests.simulation.toy_model import VOCAB, ToyStates, cloud_token

DIGEST = "d" * 64
# Virtual time has no jitter; what is added up in another order differs in the last digits.
TOLERANCE_S = 1e-6


class _Question(NamedTuple):
    """A token that is wanted, and when its answer is due at the latest."""

    want: Want
    bound_s: float
    step: tuple[int, int] = (0, 0)  # epoch and number of the newest step that asked for it


class CheckedSession(CloudSession):
    """The real session, watched from its outside.

    Attributes:
        wrong: broken promises.
        ahead: questions that were asked while others were waited for.
        codecs: what its steps' states were in.
    """

    def __init__(
        self,
        sampling: Sampling,
        states: ToyStates,
        patience: Patience | None = None,
        reply_time: ReplyTime | None = None,
        codec: str = "fp32",
    ) -> None:
        super().__init__(DIGEST, VOCAB, codec, sampling, states, patience, reply_time)
        self.wrong: list[str] = []
        self.ahead = 0
        self.codecs: set[str] = set()
        self._questions: dict[int, _Question] = {}
        self._newest = (0, 0)

    def ask(self, wants: Sequence[Want], now_s: float, until_s: float = math.inf) -> list[Action]:
        """Ask, and remember what, and until when."""
        self.ahead += len(wants) if self._questions else 0
        for want in wants:
            allowance_s = self.patience.catch_up_s(want.position + 1)
            bound_s = min(until_s, now_s + self.patience.deadline_s + allowance_s)
            self._questions[want.position] = _Question(want, max(now_s, bound_s))
        actions = super().ask(wants, now_s, until_s)
        if self.phase is Phase.REFUSED:
            self._questions.clear()
        return actions

    def rewind(self, position: int) -> None:
        """What is taken back is not asked any more."""
        super().rewind(position)
        for each in [each for each in self._questions if each >= position]:
            del self._questions[each]

    def on_message(self, message: ToEdge, now_s: float) -> list[Action]:
        """Take a word in; only the newest step that asked for a position may answer it."""
        actions = super().on_message(message, now_s)
        number = message.number if isinstance(message, Tokens) else 0
        for action in actions:
            if isinstance(action, Answered):
                self._check_answer(action, (message.epoch, number))
        self._check_time(now_s)
        return actions

    def on_deadline(self, now_s: float) -> list[Action]:
        """Time passes."""
        actions = super().on_deadline(now_s)
        self._check_time(now_s)
        return actions

    def _done(self, actions: list[Action]) -> list[Action]:
        """Every action passes here, whatever it comes from."""
        for action in actions:
            if isinstance(action, SendStep):
                self._note(action.message)
            elif isinstance(action, Failed):
                self._questions.clear()
        return super()._done(actions)

    def _note(self, step: Step) -> None:
        """A step goes up; one that goes up again asks for nothing new."""
        if (step.epoch, step.number) <= self._newest:
            return
        self._newest = (step.epoch, step.number)
        self.codecs.add(step.codec)
        for position in step.wants:
            self._questions[position] = self._questions[position]._replace(step=self._newest)

    def _check_answer(self, answer: Answered, step: tuple[int, int]) -> None:
        question = self._questions.pop(answer.position, None)
        if question is None:
            self.wrong.append(f"{answer} was believed, and nobody asked")
            return
        if question.step != step:
            self.wrong.append(f"{answer} of step {step} was believed, {question.step} was asked")
        rows = self.states.rows(0, answer.position + 1)
        right = cloud_token(rows, self._sampling, question.want.allowed or ())
        if answer.guess.token != right:
            self.wrong.append(f"{answer} of step {step} was drawn from other rows than the edge's")

    def _check_time(self, now_s: float) -> None:
        for position, question in self._questions.items():
            if now_s > question.bound_s + TOLERANCE_S:
                self.wrong.append(f"{position} was due at {question.bound_s:.3f}, and it is {now_s:.3f}")
