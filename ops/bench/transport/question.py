"""What an echo carries: as many bytes up, and down, as a step and its reply have."""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.errors import LinkError
from shared.wire.codec import encode
from shared.wire.messages import DrawnToken, Step, Tokens

# A position in the middle of a text; numbers are larger on the wire than at its beginning.
_POSITION: Final = 300
_HEAD: Final = 4


class Size(NamedTuple):
    """Bytes of one round trip.

    Attributes:
        states: of the one row that a step carries.
        up: of the whole step.
        down: of its reply.
    """

    states: int
    up: int
    down: int


def size_of(states: int) -> Size:
    """What a step with so many bytes of states, and its reply, have on the wire."""
    step = Step(1, _POSITION, _POSITION, 1, bytes(states), [_POSITION])
    reply = Tokens(1, _POSITION, [DrawnToken(_POSITION, _POSITION, 0.5)], 100, 100, 1)
    return Size(states, len(encode(step)), len(encode(reply)))


def question(size: Size) -> bytes:
    """A payload of `size.up` bytes that says how many of them are wanted back."""
    return size.down.to_bytes(_HEAD, "big") + bytes(i & 0xFF for i in range(size.up - _HEAD))


def answer(asked: bytes) -> bytes:
    """What an echo says to a question."""
    return asked[: int.from_bytes(asked[:_HEAD], "big")]


def check(asked: bytes, answered: bytes) -> None:
    """See that an answer is the question's own.

    Raises:
        LinkError: it is not: the echo measures nothing.
    """
    if answered != answer(asked):
        raise LinkError(f"an echo of {len(answered)} bytes is not the question's")
