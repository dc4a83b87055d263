"""A model of hashes: any lost, doubled, misplaced or foreign row changes every token after it.

A stage's row depends on every row before it in its cache, as hidden states do; the cloud's token depends on
every row in its cache. So tokens that are right prove that the caches were, at the edge and in the cloud.

Rows are bytes and no tensors, of the length that the session's codec gives them. So everything about codecs
is real here but the rounding, which has tests of its own: how long a row is, where a log or a work may be
cut, and steps of one session that travel squeezed or as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from cloud_worker.work import Done, Work
from edge_agent.decode import Use
from edge_agent.exits import ExitPolicy
from edge_agent.rungs import DecodedToken, Guess
from edge_agent.states import StateLog
from shared.errors import CodecError, ContextGapError
from shared.tensors.codec import codec_named
from shared.tensors.compression import rows_codec
from shared.wire.messages import DrawnToken, Sampling
from shared.wire.topics import SessionAddress

HIDDEN = 4
# What a cache keeps of a row, whatever it travelled in.
ROW_BYTES = 16
VOCAB = 1 << 16
STAGES = 2
# With these, two tokens in five are sure.
POLICY = ExitPolicy((0.8, 0.75))
# One token in fifty or so.
STOP_TOKENS = range(0, VOCAB, 53)

Allowed = Sequence[int]


def _number(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def row_bytes_of(codec: str) -> int:
    """How long a row is in payloads of a codec, before they are squeezed."""
    return codec_named(rows_codec(codec)).row_bytes(HIDDEN)


def _row(row_bytes: int, *parts: object) -> bytes:
    """A row of a hash, half of which says nothing, so that there is something to squeeze."""
    told = min(8, row_bytes // 2)
    return _number(*parts).to_bytes(8, "big")[-told:].ljust(row_bytes, b"\0")


def cloud_token(rows: bytes, sampling: Sampling, allowed: Allowed = ()) -> int:
    """What the last stage draws after `rows`, one of `allowed`."""
    drawn = _number("cloud", rows, sampling.seed)
    return allowed[drawn % len(allowed)] if allowed else drawn % VOCAB


class ToyStates(StateLog):
    """A log of states with every version of a row: what was sent may be found anywhere, for ever."""

    def __init__(self, row_bytes: int) -> None:
        super().__init__(row_bytes)
        self._versions: list[set[bytes]] = []

    def append(self, encoded: bytes) -> None:
        """See `StateLog.append`."""
        for position, row in enumerate(_split(encoded, self.row_bytes), self.frontier):
            if position == len(self._versions):
                self._versions.append(set())
            self._versions[position].add(row)
        super().append(encoded)

    def ever_had(self, start: int, rows: bytes) -> bool:
        """Whether each of the rows from `start` on was this session's at its position at some time."""
        places = self._versions[start:]
        split = _split(rows, self.row_bytes)
        return len(split) <= len(places) and all(
            row in versions for row, versions in zip(split, places, strict=False)
        )


def _split(rows: bytes, row_bytes: int) -> list[bytes]:
    return [rows[at : at + row_bytes] for at in range(0, len(rows), row_bytes)]


class ToyPlace:
    """One session at the edge, with the interface of `EngineSession`.

    Attributes:
        ids: the text that the stages read.
        caches: each stage's rows.
        states: those of the last stage.
        void: the text that a stage runs over is no more.
    """

    def __init__(self, prompt: Sequence[int], sampling: Sampling, codec: str = "fp32") -> None:
        self.ids = list(prompt)
        self.sampling = sampling
        self.caches: list[list[bytes]] = [[] for _ in range(STAGES)]
        self.states = ToyStates(row_bytes_of(codec))
        self.void = False

    def advance(self, stage: int, length: int | None = None) -> None:
        """Catch a stage up with the text, or with its first `length` tokens."""
        rows = self._ahead(stage, self.ids[:length])
        self.caches[stage] += rows
        if stage == STAGES - 1:
            self.states.append(b"".join(rows))

    def guess(self, stage: int, allowed: Allowed | None) -> Guess:
        """What a stage says next: four times in five what the cloud would say."""
        drawn = _number("guess", stage, self.caches[stage][-1])
        states = self.states.rows(0, self.states.frontier) + b"".join(self._ahead(STAGES - 1, self.ids))
        if drawn % 5:
            token = cloud_token(states, self.sampling, allowed or ())
        else:
            token = allowed[drawn % len(allowed)] if allowed else drawn % VOCAB
        return Guess(token, drawn // 5 % 1000 / 1000)

    def rewind(self, length: int) -> None:
        """See `EngineSession.rewind`."""
        self.void = False
        del self.ids[length:]
        for cache in self.caches:
            del cache[length:]
        self.states.truncate(length)

    def _ahead(self, stage: int, ids: Sequence[int]) -> list[bytes]:
        """The rows that a stage would add for the text; nothing is changed."""
        cache = self.caches[stage]
        reads: Sequence[object] = ids[len(cache) :]
        if stage:
            reads = (self.caches[stage - 1] + self._ahead(stage - 1, ids))[len(cache) :]
        rows = cache[-1:]
        for read in reads:
            rows.append(_row(self.states.row_bytes, stage, rows[-1:], read))
        return rows[len(cache[-1:]) :]


@dataclass(slots=True)
class ToyGrammar:
    """A `Constraint`: mostly anything may come, sometimes one of three, sometimes a single token."""

    state: int

    @classmethod
    def after(cls, prompt: Sequence[int]) -> Self:
        """Of an answer to a prompt."""
        return cls(_number("prompt", *prompt))

    def allowed(self) -> list[int] | None:
        """See `Constraint.allowed`."""
        kind = self.state % 8
        if kind > 1:
            return None
        return sorted({self.state % 99, self.state % 98, self.state % 97} if kind else {self.state % 96 + 1})

    def accept(self, token: int) -> None:
        """See `Constraint.accept`."""
        self.state = _number("grammar", self.state, token)

    def fork(self) -> Self:
        """See `Constraint.fork`."""
        return type(self)(self.state)


class FaultFree:
    """The run without faults, blocking and in order, in which the same tokens are degraded.

    Args:
        prompt, sampling, use, codec: of the run that it is held against.
    """

    def __init__(self, prompt: Sequence[int], sampling: Sampling, use: Use, codec: str = "fp32") -> None:
        self._place = ToyPlace(prompt, sampling, codec)
        self._grammar = ToyGrammar.after(prompt)
        self._use = use
        self.tokens: list[int] = []

    def follow(self, said: Sequence[DecodedToken]) -> None:
        """Go on to the length of what was `said`."""
        for token in said[len(self.tokens) :]:
            self._add(self._next(degraded=token.degraded))

    def _add(self, token: int) -> None:
        self.tokens.append(token)
        self._place.ids.append(token)
        self._grammar.accept(token)

    def _next(self, *, degraded: bool) -> int:
        allowed = self._grammar.allowed()
        if allowed is not None and len(allowed) == 1:
            return allowed[0]
        for stage in range(STAGES):
            self._place.advance(stage)
            guess = self._place.guess(stage, allowed)
            if self._use != "always" and POLICY.is_sure(stage, guess.confidence):
                return guess.token
        if degraded or self._use == "never":
            return guess.token
        states = self._place.states
        return cloud_token(states.rows(0, states.frontier), self._place.sampling, allowed or ())


class ToyEngine:
    """Has the interface of `CloudEngine`; its KV cache is the rows that it has consumed.

    Args:
        breaks: whether the forward fails now, as over a session's poisonous rows.
    """

    hidden_size = HIDDEN
    layers = 1

    def __init__(self, breaks: Callable[[], bool] = bool) -> None:
        self._breaks = breaks
        self.caches: dict[SessionAddress, list[bytes]] = {}

    def drop(self, addresses: Sequence[SessionAddress]) -> None:
        """Free the caches of sessions."""
        for address in addresses:
            self.caches.pop(address, None)

    def kv_bytes(self) -> Mapping[SessionAddress, int]:
        """Bytes of each session's cache."""
        return {address: len(rows) * ROW_BYTES for address, rows in self.caches.items()}

    def run(self, batch: Sequence[Work], now_s: float) -> list[Done]:
        """Run works one after another; a failing one drops its session's cache, as the real engine's does."""
        return [self._run(work, now_s) for work in batch]

    def _run(self, work: Work, now_s: float) -> Done:
        rows = self.caches.get(work.address, [])
        if work.from_position > len(rows):
            gap = ContextGapError(f"rows start at {work.from_position}, not {len(rows)}", len(rows))
            return Done(work, error=gap)
        if len(work.states) != work.count * row_bytes_of(work.codec):
            return Done(work, error=CodecError(f"{len(work.states)} bytes for {work.count} rows"))
        if self._breaks():
            self.drop([work.address])
            return Done(work, error=RuntimeError("the forward failed"))
        self._consume(work)
        queue_us = max(0, round((now_s - work.arrived_s) * 1e6))
        return Done(work, tuple(self._draw(work)), compute_us=1, queue_us=queue_us, batch_sessions=1)

    def _consume(self, work: Work) -> None:
        rows = self.caches.setdefault(work.address, [])
        self._truncate(rows, work.from_position)
        rows += _split(work.states, row_bytes_of(work.codec))

    @staticmethod
    def _truncate(rows: list[bytes], position: int) -> None:
        """Cut the cache back to where a rewrite starts."""
        del rows[position:]

    def _draw(self, work: Work) -> list[DrawnToken]:
        rows, drawn = self.caches[work.address], []
        for index, position in enumerate(work.wants):
            allowed = work.allowed[index] if index < len(work.allowed) else ()
            token = cloud_token(b"".join(rows[: position + 1]), work.sampling, allowed)
            drawn.append(DrawnToken(position, token, 0.5))
        return drawn
