"""The decode loop of one session: which stage runs next, and whose token is kept. Sans I/O.

Theory. A token is looked for on a ladder: edge stages first, the cloud last. Each rung makes a guess
with a confidence; the first sure guess is the token. A rung that was not asked falls behind, and
catches up on all its pending positions when it is asked (the caller keeps the frontiers).

    state        event               next state   action returned by next_action()
    ----------   -----------------   ----------   --------------------------------
    stage(i)     guess, sure         stage(0)     RunStage(0) for the next position
    stage(i)     guess, unsure       stage(i+1)   RunStage(i + 1)
    stage(last)  guess, unsure       cloud        AskCloud(position)
    cloud        cloud token         stage(0)     RunStage(0) for the next position
    cloud        cloud unavailable   stage(0)     the last guess is kept, marked degraded
    any          stop token, length  done         Finish(reason)

After each kept token the constraint is asked what may follow. As long as it is a single token, that
token is forced: kept at once, with no stage run (every stage catches up on it later).

In `standalone` mode the last edge stage always answers, and nothing is degraded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from edge_agent.constraint import Constraint, Unconstrained
from edge_agent.exits import ExitPolicy

CLOUD_RUNG = "cloud"
# No rung at all: the grammar left no choice.
FORCED_RUNG = "forced"

Allowed = tuple[int, ...] | None


def edge_rung(stage: int) -> str:
    """The name of an edge stage's rung: `edge-1` is the first."""
    return f"edge-{stage + 1}"


class Guess(NamedTuple):
    """What an exit would say, and how sure it is."""

    token: int
    confidence: float


class DecodedToken(NamedTuple):
    """A kept token: who answered, how sure, and whether the cloud was wanted but away."""

    token: int
    rung: str
    confidence: float
    degraded: bool


class RunStage(NamedTuple):
    """Run edge stage `stage` over all its pending positions; report its guess among `allowed`."""

    stage: int
    allowed: Allowed = None


class AskCloud(NamedTuple):
    """Ask the cloud for the token after `position`, one of `allowed`; report it or its absence."""

    position: int
    allowed: Allowed = None


class Finish(NamedTuple):
    """The answer is complete: `stop` (a stop token) or `length`."""

    reason: str


Action = RunStage | AskCloud | Finish


@dataclass(slots=True)
class DecodeLoop:
    """One session's way down the ladder, token by token.

    Attributes:
        prompt_tokens: length of the prompt, at least 1.
        policy: one threshold for each edge stage.
        max_new_tokens: the answer's bound, at least 1.
        stop_tokens: ids that end the answer; they are not kept.
        use_cloud: False in standalone mode.
        constraint: what may come next, from the answer's start on.
        tokens: the answer so far, without its stop token.
        stop: the stop token that ended the answer, and who said it.
    """

    prompt_tokens: int
    policy: ExitPolicy
    max_new_tokens: int
    stop_tokens: Collection[int]
    use_cloud: bool
    constraint: Constraint = field(default_factory=Unconstrained)
    tokens: list[DecodedToken] = field(default_factory=list)
    stop: DecodedToken | None = None
    _next: Action = field(init=False, default=RunStage(0))
    _allowed: Allowed = field(init=False, default=None)
    _guess: Guess | None = None

    def __post_init__(self) -> None:
        self._look_ahead()

    @property
    def position(self) -> int:
        """The last known position: its next token is being looked for."""
        return self.prompt_tokens + len(self.tokens) - 1

    def next_action(self) -> Action:
        """What to do now."""
        return self._next

    def on_guess(self, guess: Guess) -> None:
        """The running edge stage has guessed."""
        assert isinstance(self._next, RunStage)
        stage = self._next.stage
        last = stage == len(self.policy.thresholds) - 1
        if self.policy.is_sure(stage, guess.confidence) or (last and not self.use_cloud):
            self._keep(guess, edge_rung(stage), degraded=False)
        elif last:
            self._guess = guess
            self._next = AskCloud(self.position, self._allowed)
        else:
            self._next = RunStage(stage + 1, self._allowed)

    def on_cloud_token(self, guess: Guess) -> None:
        """The cloud has answered; a token that may not come here is no answer."""
        assert isinstance(self._next, AskCloud)
        if self._allowed is not None and guess.token not in self._allowed:
            self.on_cloud_unavailable()
            return
        self._keep(guess, CLOUD_RUNG, degraded=False)

    def on_cloud_unavailable(self) -> None:
        """The cloud can't answer in time: the last edge stage's guess is the token."""
        assert isinstance(self._next, AskCloud)
        assert self._guess is not None
        self._keep(self._guess, edge_rung(len(self.policy.thresholds) - 1), degraded=True)

    def _keep(self, guess: Guess, rung: str, *, degraded: bool) -> None:
        self._guess = None
        if self._append(DecodedToken(guess.token, rung, guess.confidence, degraded)):
            self._look_ahead()

    def _append(self, decoded: DecodedToken) -> bool:
        """Keep a token; whether the answer goes on."""
        if decoded.token in self.stop_tokens:
            self.stop = decoded
            self._next = Finish("stop")
            return False
        self.tokens.append(decoded)
        self.constraint.accept(decoded.token)
        if len(self.tokens) >= self.max_new_tokens:
            self._next = Finish("length")
            return False
        return True

    def _look_ahead(self) -> None:
        """Keep what is forced, then look for the next token on the ladder."""
        while True:
            allowed = self.constraint.allowed()
            if allowed is None or len(allowed) != 1:
                break
            if not self._append(DecodedToken(allowed[0], FORCED_RUNG, 1.0, degraded=False)):
                return
        self._allowed = None if allowed is None else tuple(allowed)
        self._next = RunStage(0, self._allowed)
