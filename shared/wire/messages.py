"""What edge and worker say to each other.

Each direction is one tagged union, so one typed decoder and one `match` serve it. The structs are
arrays on the wire (no field names): a field may be appended with a default, never moved or removed;
anything else is a new wire version (`shared/wire/codec.py`).

Positions count the tokens of the session from 0. The hidden states *of position p* are the rows of
the token at p; the last stage turns them into the token at p + 1.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.wire.ids import ID_PATTERN

# Bounds of every field a peer can fill. A context of a million tokens is far past any bundle's.
MAX_POSITION = 1 << 20
MAX_WANTS = 1024
# A grammar leaves a few dozen ids; one that leaves more than this is no help and is not sent.
MAX_ALLOWED = 1024
MAX_TEXT_CHARS = 1024
# Prefill travels in chunks of at most 64 KB of states, so that it delays no other session's tokens
# (design: 8 MB at once stall everyone for 16–42 ms); one row of a very wide model may be larger.
MAX_STATES_BYTES = 256 * 1024

Position = Annotated[int, Meta(ge=0, le=MAX_POSITION)]
Epoch = Annotated[int, Meta(ge=1, le=1 << 53)]
StepNumber = Annotated[int, Meta(ge=1, le=1 << 53)]
TokenId = Annotated[int, Meta(ge=0, le=1 << 31)]
AllowedIds = Annotated[list[TokenId], Meta(max_length=MAX_ALLOWED)]
Micros = Annotated[int, Meta(ge=0, le=1 << 53)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
# What goes into a topic must not be able to leave its level.
Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Digest = Annotated[str, Meta(min_length=1, max_length=128)]


class Sampling(msgspec.Struct, array_like=True, frozen=True):
    """How a token is drawn from logits; the same on both sides (`shared/model/sampling.py`).

    Attributes:
        temperature: 0 takes the most probable token.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together reach this probability.
        seed: chooses the noise together with the position.
    """

    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.0
    top_k: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0


class Open(msgspec.Struct, array_like=True, frozen=True, tag="o"):
    """Edge to pool: give this session a worker. A higher `epoch` takes the session over."""

    epoch: Epoch
    digest: Digest
    codec: Name
    sampling: Sampling = Sampling()


class Step(msgspec.Struct, array_like=True, frozen=True, tag="s"):
    """Edge to worker: the states of `count` positions, and which next tokens are wanted.

    Idempotent by position: rows at positions that the worker already has overwrite them and all
    that follow. `number` counts the steps of an epoch; an old number is a duplicate.

    Attributes:
        states: `count` rows in the session's codec.
        wants: positions in `[from_position, from_position + count)`, ascending.
        allowed: for each wanted position the ids its token may have, where a grammar leaves few; empty
            lists, and lists that are not there, allow all.
        after: the step that this one builds on; a worker that has not taken that one answers `Resume`,
            since it may hold rows that were rewritten meanwhile. 0: what it said when it was opened.
        codec: what `states` are in; empty: the session's.
    """

    epoch: Epoch
    number: StepNumber
    from_position: Position
    count: Annotated[int, Meta(ge=1, le=MAX_POSITION)]
    states: Annotated[bytes, Meta(max_length=MAX_STATES_BYTES)]
    wants: Annotated[list[Position], Meta(max_length=MAX_WANTS)] = []
    allowed: Annotated[list[AllowedIds], Meta(max_length=MAX_WANTS)] = []
    after: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    codec: Annotated[str, Meta(max_length=64)] = ""


class Close(msgspec.Struct, array_like=True, frozen=True, tag="c"):
    """Edge to worker: forget the session.

    Attributes:
        elsewhere: it goes on at another worker, so its log stays; otherwise it is over.
    """

    epoch: Epoch
    elsewhere: bool = False


class Opened(msgspec.Struct, array_like=True, frozen=True, tag="O"):
    """Worker to edge: I serve this session; send states from `frontier`."""

    epoch: Epoch
    worker: Id
    frontier: Position


class DrawnToken(msgspec.Struct, array_like=True, frozen=True):
    """The token that follows `position`, with the probability the last stage gives it."""

    position: Position
    token: TokenId
    confidence: Annotated[float, Meta(ge=0.0, le=1.0)]


class Tokens(msgspec.Struct, array_like=True, frozen=True, tag="T"):
    """Worker to edge: the wanted tokens of step `number`.

    Attributes:
        compute_us: this session's share, by rows, of the forward that made them.
        queue_us: from arrival to the start of that forward.
        batch_sessions: how many sessions that forward served.
    """

    epoch: Epoch
    number: StepNumber
    tokens: Annotated[list[DrawnToken], Meta(max_length=MAX_WANTS)]
    compute_us: Micros = 0
    queue_us: Micros = 0
    batch_sessions: Annotated[int, Meta(ge=0, le=1 << 20)] = 0


class Resume(msgspec.Struct, array_like=True, frozen=True, tag="R"):
    """Worker to edge: step `number` left a gap; send again from `frontier`.

    Attributes:
        taken: the newest step of this epoch that the worker has taken: what it holds below `frontier` is as
            the text was then. 0: none, so what it holds is from a log.
    """

    epoch: Epoch
    number: StepNumber
    frontier: Position
    taken: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="X"):
    """Worker to edge: no, and why. `retryable`: open again and another worker may say yes."""

    epoch: Epoch
    code: Name
    message: Text
    retryable: bool


class Busy(msgspec.Struct, array_like=True, frozen=True, tag="B"):
    """Worker to edge: no room now."""

    epoch: Epoch
    retry_after_s: Annotated[float, Meta(ge=0.0, le=60.0)]


ToWorker = Open | Step | Close
ToEdge = Opened | Tokens | Resume | Refused | Busy
