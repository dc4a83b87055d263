"""A model of hashes: any lost, doubled, misplaced or foreign row changes every token after it.

The edge's row of a position depends on all tokens up to it, as hidden states do; the cloud's token depends on
every row in its cache. So tokens that are right prove that the cache was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from cloud_worker.work import Done, Work
from edge_agent.states import StateLog
from shared.errors import CodecError, ContextGapError
from shared.wire.messages import DrawnToken, Sampling
from shared.wire.topics import SessionAddress

ROW_BYTES = 8
VOCAB = 1 << 16

Allowed = tuple[int, ...]


def _number(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def row_of(tokens: Sequence[int]) -> bytes:
    """The states of the last of `tokens`."""
    return _number("row", *tokens).to_bytes(ROW_BYTES, "big")


def cloud_token(rows: bytes, sampling: Sampling, allowed: Allowed = ()) -> int:
    """What the last stage draws after `rows`, one of `allowed`."""
    drawn = _number("cloud", rows, sampling.seed, len(rows) // ROW_BYTES)
    return allowed[drawn % len(allowed)] if allowed else drawn % VOCAB


@dataclass(slots=True)
class ToyText:
    """One session's text as the edge sees it.

    Attributes:
        tokens: the prompt and what was generated.
        paths: who said each generated token: `edge`, `cloud` or `degraded`.
    """

    prompt: tuple[int, ...]
    seed: int
    tokens: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def position(self) -> int:
        """The last known position."""
        return len(self.tokens) - 1

    @property
    def sampling(self) -> Sampling:
        """How the cloud draws."""
        return Sampling(temperature=1.0, seed=self.seed)

    def catch_up(self, states: StateLog) -> None:
        """Run the edge's stages over every pending position."""
        for position in range(states.frontier, len(self.tokens)):
            states.append(row_of(self.tokens[: position + 1]))

    def is_sure(self) -> bool:
        """Whether the edge answers by itself; about two times in five."""
        return _number("sure", *self.tokens) % 5 < 2

    def allowed(self) -> Allowed:
        """What a grammar leaves here; mostly anything."""
        drawn = _number("allowed", *self.tokens)
        return () if drawn % 4 else tuple(sorted({drawn % 99, drawn % 98, drawn % 97}))

    def guess(self) -> int:
        """The edge's own token."""
        return _number("guess", *self.tokens) % VOCAB

    def keep(self, token: int, path: str) -> None:
        """Go on with a token."""
        self.tokens.append(token)
        self.paths.append(path)

    def replay(self) -> list[int]:
        """The tokens of a run without faults in which the same tokens are degraded."""
        text, states = ToyText(self.prompt, self.seed), StateLog(ROW_BYTES)
        for path in self.paths:
            text.catch_up(states)
            rows = states.rows(0, states.frontier)
            from_cloud = path == "cloud"
            text.keep(cloud_token(rows, self.sampling, text.allowed()) if from_cloud else text.guess(), path)
        return text.tokens


class ToyEngine:
    """Has the interface of `CloudEngine`; its KV cache is the rows that it has consumed.

    Args:
        breaks: whether the forward fails now, as over a session's poisonous rows.
    """

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
        if len(work.states) != work.count * ROW_BYTES:
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
        rows += [work.states[at : at + ROW_BYTES] for at in range(0, len(work.states), ROW_BYTES)]

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
