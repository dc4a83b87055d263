"""The decode loop of one session: which stage runs next, and whose token is kept. Sans I/O.

Theory. A token is looked for on a ladder: edge stages first, the cloud last. Each rung makes a guess
with a confidence; the first sure guess is the token. A rung that was not asked falls behind, and
catches up on all its pending positions when it is asked (the caller keeps the frontiers).

    state        event               next state   action returned by next_action()
    ----------   -----------------   ----------   --------------------------------
    stage(i)     guess, sure         stage(0)     RunStage(0) for the next position
    stage(i)     guess, unsure       stage(i+1)   RunStage(i + 1)
    stage(last)  guess, unsure       asking       AskCloud(wants)
    stage(last)  no guess wanted     asking       AskCloud(wants)
    asking       may draft           stage(0)     RunStage(0) for the position behind the guess
    asking       may not draft       asking       Wait
    any          cloud agrees        same         –
    any          cloud disagrees     stage(0)     Rewind(length), then RunStage(0) behind its token
    any          cloud unavailable   same         – (the guesses are kept, marked degraded)
    any          too late to ask     same         – (the guesses about that are kept, marked degraded)
    asking       the same, no guess  stage(last)  RunStage(last), for its guess
    any          stop token, length  done         Finish(reason), once all that is asked is answered

Asking does not stop the ladder: the last edge stage's guess stands for the token until the cloud has
spoken, and the text behind it is a *draft*. When the cloud says another token, the draft is thrown away
and everybody is rewound; when it agrees, all that stood behind that token alone is kept. So the text
is what it would be without drafting, token for token. How far to draft is the lookahead's business; a
window of 0 waits for every answer, and an exit that can't be sure then guesses only if there is none.

After each token the constraint is asked what may follow. As long as it is a single token, that
token is forced: kept with no stage run (every stage catches up on it later).

Modes: `standalone`, where the last edge stage always answers and nothing is degraded; `collaborative`;
and `exact`, where no guess is ever sure and the cloud is asked about all, so that the text is the
full model's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from edge_agent.constraint import Constraint, Unconstrained
from edge_agent.decode_actions import Action, Allowed, AskCloud, Finish, Rewind, RunStage, Wait
from edge_agent.exits import ExitPolicy
from edge_agent.lookahead import Lookahead
from edge_agent.request import Mode
from edge_agent.rungs import CLOUD_RUNG, FORCED_RUNG, DecodedToken, Guess, edge_rung
from edge_agent.want import Want

# Questions on their way at once. Further ones wait for a reply and then go up together: on a slow link
# that makes fewer and larger steps, and a worker runs a few rows in about the time of one.
MAX_ASKS = 4

Use = Literal["never", "unsure", "always"]


_USES: Final[dict[Mode, Use]] = {"standalone": "never", "collaborative": "unsure", "exact": "always"}


def use_of(mode: Mode) -> Use:
    """When a mode asks the cloud."""
    return _USES[mode]


# Stands for a guess that is still being made.
_UNKNOWN: Final = DecodedToken(-1, "", 0.0, degraded=False)


@dataclass(slots=True)
class _Draft:
    """A token that is not yet kept."""

    token: DecodedToken
    allowed: Allowed = None
    asked: bool = False
    sure: bool = False
    before: Constraint | None = None  # as it was before the token, where it may be taken back
    ask: int = 0  # which question it went up with; 0: none yet
    asked_s: float = 0.0
    answer: Guess | None = None
    settled: bool = False  # nothing about it is waited for


@dataclass(slots=True)
class DecodeLoop:
    """One session's way down the ladder, token by token.

    Attributes:
        prompt_tokens: length of the prompt, at least 1.
        policy: one threshold for each edge stage.
        max_new_tokens: the answer's bound, at least 1.
        stop_tokens: ids that end the answer; they are not kept.
        use_cloud: never (standalone), for tokens that the edge is unsure of, or always (exact).
        constraint: what may come next, from the answer's start on.
        lookahead: how far to draft.
        tokens: the answer so far, without its stop token and without drafts.
        stop: the stop token that ended the answer, and who said it.
        discarded: drafted tokens that were thrown away.
    """

    prompt_tokens: int
    policy: ExitPolicy
    max_new_tokens: int
    stop_tokens: Collection[int]
    use_cloud: Use
    constraint: Constraint = field(default_factory=Unconstrained)
    lookahead: Lookahead = field(default_factory=Lookahead)
    tokens: list[DecodedToken] = field(default_factory=list)
    stop: DecodedToken | None = None
    discarded: int = 0
    _drafts: deque[_Draft] = field(default_factory=deque)
    _coming: _Draft | None = None  # asked about, and not guessed (yet)
    _stage: int = 0
    _stages_run: int = 0  # stages that have run, and so read the prompt
    _allowed: Allowed = None
    _ended: str = ""  # why nothing comes behind the newest token; the text's end once all is settled
    _rewind_to: int | None = None
    _asks: int = 0
    _since_s: float | None = None  # when the ladder began for the present position

    def __post_init__(self) -> None:
        self._follow_grammar()

    @property
    def position(self) -> int:
        """The last position of the text and its draft: its next token is being looked for."""
        return self.prompt_tokens + len(self.tokens) + len(self._drafts) - 1

    @property
    def is_rewound(self) -> bool:
        """Whether a `Rewind` is due: what runs now is about a text that is no more."""
        return self._rewind_to is not None

    def text(self, start: int) -> list[int]:
        """Ids of the answer and its draft from its `start`-th token on, for the stages to read."""
        kept = [token.token for token in self.tokens[start:]]
        skipped = max(0, start - len(self.tokens))
        return kept + [draft.token.token for draft in self._drafts][skipped:]

    def next_action(self, now_s: float, *, crowded: bool = False) -> Action:
        """What to do now; each action is given once.

        Args:
            now_s: the caller's clock.
            crowded: others want the stages, so nothing is run that may be in vain.
        """
        if self._rewind_to is not None:
            length, self._rewind_to = self._rewind_to, None
            return Rewind(length)
        if self._ended and not self._drafts:
            return Finish(self._ended)
        wants = self._to_ask(now_s)
        if wants:
            return AskCloud(wants)
        if self._coming is not None:
            return RunStage(self._stage, self._allowed) if self._coming.settled else Wait()
        if self._ended or not self._may_run(now_s, crowded=crowded):
            return Wait()
        if self._since_s is None:
            self._since_s = now_s
        return self._run()

    def on_states(self, now_s: float) -> tuple[Want, ...]:
        """The states of a position that is asked about are there; what goes up before its guess is known."""
        if self.is_rewound:
            return ()  # about a text that is no more
        self._coming = _Draft(_UNKNOWN, self._allowed, asked=True)
        return self._to_ask(now_s)

    def on_guess(self, guess: Guess | None, now_s: float) -> None:
        """The running edge stage has guessed, or run without a guess where none was wanted."""
        if self.is_rewound:
            return  # about a text that is no more
        stage = self._stage
        self._note_run(stage)
        if guess is None and self._is_last(stage):
            self._ask_unguessed()
            return
        sure = guess is not None and self.policy.is_sure(stage, guess.confidence)
        last = self._is_last(stage)
        if not last and not (sure and self._may_end(stage)):
            self._stage += 1
            return
        assert guess is not None
        if self._since_s is not None:
            self.lookahead.draft_time.observe(now_s - self._since_s)
        asked = self.use_cloud == "always" or (self.use_cloud == "unsure" and not sure)
        draft, self._coming = self._coming or _Draft(_UNKNOWN, self._allowed, asked), None
        draft.token = DecodedToken(guess.token, edge_rung(stage), guess.confidence, degraded=False)
        draft.sure = sure
        draft.before = self.constraint.fork() if asked else None
        self._observe(draft)
        self._add(draft)
        self._follow_grammar()

    def on_cloud_token(self, position: int, guess: Guess) -> None:
        """The cloud has said which token follows `position`; one that may not come there is no answer."""
        if self.is_rewound:
            return  # about a text that is no more
        index = position + 1 - self.prompt_tokens - len(self.tokens)
        if index < 0 or self._open()[index].settled:
            return  # given up already
        draft = self._open()[index]
        draft.settled = True
        if draft.allowed is None or guess.token in draft.allowed:
            draft.answer = guess
            self._observe(draft)
            if draft is self._coming and self._blocks:
                self._take_answer(guess)
        self._settle()

    def on_cloud_unavailable(self) -> None:
        """Nothing that was asked will be answered: the guesses are the tokens."""
        for draft in self._open():
            draft.settled = draft.settled or draft.ask > 0
        self._settle()

    def on_too_late(self, wants: Collection[Want]) -> None:
        """These questions are not asked: their answers would come too late, so the guesses are the tokens."""
        first, drafts = self.prompt_tokens + len(self.tokens) - 1, self._open()
        for want in wants:
            drafts[want.position - first].settled = True
        self._settle()

    @property
    def _blocks(self) -> bool:
        """Whether nothing is drafted behind a question: only a token without an answer needs a guess."""
        return self.lookahead.limit == 0

    def _run(self) -> RunStage:
        """The next stage; its guess is wanted where it could be the token or the start of a draft."""
        ends, last = self._may_end(self._stage), self._is_last(self._stage)
        asked = last and not ends and self.use_cloud != "never"
        late = asked and self._blocks
        return RunStage(self._stage, self._allowed, (ends or last) and not late, asked and not late)

    def _note_run(self, stage: int) -> None:
        """A stage that runs for the first time reads the prompt: that is no draft's time."""
        if stage == self._stages_run:
            self._stages_run += 1
            self._since_s = None

    def _ask_unguessed(self) -> None:
        """The last stage has run, and its exit says what it thinks only if the cloud does not answer."""
        self._coming = _Draft(_UNKNOWN, self._allowed, asked=True)
        self._since_s = None  # a draft's time has no waiting in it

    def _take_answer(self, answer: Guess) -> None:
        """The cloud has answered, and nothing was guessed: its token is next."""
        self._coming = None
        self._add(_Draft(DecodedToken(answer.token, CLOUD_RUNG, answer.confidence, degraded=False)))
        self._follow_grammar()

    def _open(self) -> list[_Draft]:
        """The draft, and what is asked about behind it."""
        return [*self._drafts, self._coming] if self._coming is not None else list(self._drafts)

    def _observe(self, draft: _Draft) -> None:
        """Learn from a guess and its answer, once both are there."""
        if draft.answer is not None and draft.token is not _UNKNOWN:
            self.lookahead.agreement.observe(draft.answer.token == draft.token.token, sure=draft.sure)

    def _to_ask(self, now_s: float) -> tuple[Want, ...]:
        """What goes up now: all that was not asked yet, unless enough is on its way."""
        waiting = [draft for draft in self._open() if draft.asked and not draft.ask]
        under_way = {draft.ask for draft in self._open() if draft.ask and not draft.settled}
        if not waiting or len(under_way) >= MAX_ASKS:
            return ()
        self._asks += 1
        for draft in waiting:
            draft.ask, draft.asked_s = self._asks, now_s
        first = self.prompt_tokens + len(self.tokens) - 1
        return tuple(
            Want(first + index, draft.allowed)
            for index, draft in enumerate(self._open())
            if draft.ask == self._asks
        )

    def _may_run(self, now_s: float, *, crowded: bool) -> bool:
        """Whether the ladder goes on: always, unless an answer is waited for that it could depend on."""
        if not self._drafts or self._stage > 0:
            return True
        if crowded:
            return False
        chain = 1.0
        for draft in self._drafts:
            if draft.asked and not draft.settled:
                chain *= self.lookahead.agreement.share(sure=draft.sure)
        return self.lookahead.may_draft(len(self._drafts) - 1, chain, now_s - self._drafts[0].asked_s)

    def _may_end(self, stage: int) -> bool:
        """Whether that stage's guess could be the token."""
        return self.use_cloud != "always" and self.policy.thresholds[stage] < 1.0

    def _is_last(self, stage: int) -> bool:
        return stage == len(self.policy.thresholds) - 1

    def _add(self, draft: _Draft) -> None:
        """Put a token behind the text, and keep what is certain of it."""
        self._drafts.append(draft)
        self._move_on(draft.token.token)
        self._settle()

    def _move_on(self, token: int) -> None:
        """What comes behind `token`, the newest of the text and its draft."""
        self._stage, self._since_s = 0, None
        if token in self.stop_tokens:
            self._ended = "stop"
            return
        self.constraint.accept(token)
        if len(self.tokens) + len(self._drafts) >= self.max_new_tokens:
            self._ended = "length"

    def _settle(self) -> None:
        """Keep tokens from the front of the draft as far as they are certain."""
        while self._drafts:
            draft = self._drafts[0]
            if draft.asked and not draft.settled:
                return
            token = draft.token
            if draft.answer is not None:
                token = DecodedToken(draft.answer.token, CLOUD_RUNG, draft.answer.confidence, degraded=False)
            elif draft.asked:
                token = token._replace(degraded=True)
            if token.token != draft.token.token:
                self._correct(draft, token)
                return
            self._drafts.popleft()
            self._keep(token)

    def _correct(self, draft: _Draft, token: DecodedToken) -> None:
        """The cloud says another token: what was drafted behind it is about a text that is no more."""
        assert draft.before is not None
        self.discarded += len(self._drafts) - 1
        self._drafts.clear()
        self._coming = None
        self.constraint, self._ended = draft.before, ""
        self._rewind_to = self.prompt_tokens + len(self.tokens)
        self._drafts.append(_Draft(token))
        self._move_on(token.token)
        self._drafts.popleft()
        self._keep(token)
        self._follow_grammar()

    def _keep(self, token: DecodedToken) -> None:
        if token.token in self.stop_tokens:
            self.stop = token
        else:
            self.tokens.append(token)

    def _follow_grammar(self) -> None:
        """Add what is forced, then look for the next token on the ladder."""
        while not self._ended:
            allowed = self.constraint.allowed()
            if allowed is None or len(allowed) != 1:
                self._allowed = None if allowed is None else tuple(allowed)
                return
            self._add(_Draft(DecodedToken(allowed[0], FORCED_RUNG, 1.0, degraded=False)))
