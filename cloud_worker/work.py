"""What the scheduler hands to the engine, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shared.wire.messages import DrawnToken, Sampling
from shared.wire.topics import SessionAddress


@dataclass(frozen=True, slots=True)
class Work:
    """Rows of one session to run through the cloud stage.

    Attributes:
        address: whose rows.
        epoch: the session's epoch when the rows came; answered with it.
        number: the step's number; 0 for rows replayed from the log.
        from_position: position of the first row; the session's cache is cut back to it first.
        count: rows.
        codec: what `states` are written in; its rows have one length.
        states: the rows, encoded, one after another.
        wants: positions whose next token is drawn and sent.
        allowed: for each wanted position, the ids its token may have; empty, or missing: all.
        sampling: how.
        arrived_s: when it came, on the worker's clock.
        whole: the work that this one is a part of; None: it is nobody's part.
    """

    address: SessionAddress
    epoch: int
    number: int
    from_position: int
    count: int
    codec: str
    states: bytes
    wants: tuple[int, ...] = ()
    allowed: tuple[tuple[int, ...], ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    arrived_s: float = 0.0
    whole: Work | None = field(default=None, repr=False)

    @property
    def end_position(self) -> int:
        """The position after the last row."""
        return self.from_position + self.count

    @property
    def is_divisible(self) -> bool:
        """Whether each row has its share of the states; others are the engine's to refuse."""
        return len(self.states) % self.count == 0

    def part(self, first: int, count: int) -> Work:
        """Some of the rows as a work of their own, with what is wanted of them.

        Args:
            first: counted from this work's own first row.
            count: at least one.
        """
        row_bytes = len(self.states) // self.count
        start = self.from_position + first
        wanted = [index for index, position in enumerate(self.wants) if start <= position < start + count]
        return replace(
            self,
            from_position=start,
            count=count,
            states=self.states[first * row_bytes : (first + count) * row_bytes],
            wants=tuple(self.wants[index] for index in wanted),
            allowed=tuple(self.allowed[index] for index in wanted if index < len(self.allowed)),
            whole=self.whole or self,
        )


@dataclass(frozen=True, slots=True)
class Done:
    """A work that was run.

    Attributes:
        work: what was asked.
        tokens: one for each wanted position.
        compute_us: its share of the forward, by rows.
        queue_us: its wait before it.
        batch_sessions: sessions in that forward.
        error: why it could not be run; None when it was.
    """

    work: Work
    tokens: tuple[DrawnToken, ...] = ()
    compute_us: int = 0
    queue_us: int = 0
    batch_sessions: int = 0
    error: Exception | None = None
