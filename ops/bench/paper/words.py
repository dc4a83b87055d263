"""What the yardsticks say over MQTT: the same broker and link as the product, words of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

UP_TOPIC: Final = "bench/yardstick/up"
DOWN_TOPIC: Final = "bench/yardstick/down"
# As the product cuts its states: a longer message holds up what comes behind it.
CHUNK_BYTES: Final = 64 * 1024


class DraftPlan(msgspec.Struct, frozen=True, array_like=True):
    """How a cloud drafts with its own exits.

    Attributes:
        longest: drafted tokens before the rest of the layers look at them.
        stop_unsure: an unsure guess is the last of its draft.
        bonus: the verifying forward also takes the last drafted token, for one token more.
    """

    longest: int
    stop_unsure: bool = True
    bonus: bool = False

    def __str__(self) -> str:
        until = f"until unsure, {self.longest} at most" if self.stop_unsure else f"{self.longest}"
        return f"{until}{', one more' if self.bonus else ''}"


class Question(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """Write the whole answer and send its tokens as they come.

    Attributes:
        session: names it.
        ids: the prompt.
        new_tokens: the answer's bound.
        words: the prompt's text, where a grammar needs it.
        plan: draft and verify; None: token by token.
    """

    session: int
    ids: Sequence[int]
    new_tokens: int
    words: str = ""
    plan: DraftPlan | None = None


class Rows(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Hidden states of a session, and whether the token after the last of them is wanted.

    Attributes:
        session: whose.
        rung: the rung that takes them in.
        start: position of the first row. count: how many, perhaps none.
        states: the rows. codec: what they are in.
        wanted: say the next token.
        allowed: what it may be; empty: anything.
    """

    session: int
    rung: int
    start: int
    count: int
    states: bytes
    codec: str
    wanted: bool = False
    allowed: Sequence[int] = ()


class Piece(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """Tokens of an answer, in order.

    Attributes:
        session: whose.
        tokens: the next ones.
        cloud_us: computed for them.
        flops: operations for them.
        forwards: how often the last rung ran for them.
        last: the answer is whole.
    """

    session: int
    tokens: Sequence[int]
    cloud_us: int
    flops: int
    forwards: int = 1
    last: bool = False


class Trouble(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """The cloud failed at a session, and why."""

    session: int
    reason: str


ToCloud = Question | Rows
ToEdge = Piece | Trouble

_encoder = msgspec.msgpack.Encoder()
_to_cloud = msgspec.msgpack.Decoder(ToCloud)
_to_edge = msgspec.msgpack.Decoder(ToEdge)

encode = _encoder.encode
decode_to_cloud = _to_cloud.decode
decode_to_edge = _to_edge.decode
