"""What a device asks and what it gets: the JSON of the device topics, of `antiphon ask` and of the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from shared.config import CodecSetting
from shared.errors import AntiphonError, PromptError
from shared.wire.messages import Sampling

# A request to a home is a sentence, a prompt to a text model a few pages.
MAX_PROMPT_CHARS = 64 * 1024
MAX_NEW_TOKENS = 8192
# JSON may write a character of a prompt in twelve bytes; it is also what our brokers let through.
MAX_REQUEST_BYTES = 1024 * 1024

Mode = Literal["collaborative", "standalone", "exact"]
# Tokens that may be drafted behind an unanswered one; a window adapts itself below that.
MAX_LOOKAHEAD = 256
RequestId = Annotated[str, Meta(max_length=128)]


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prompt with its wishes; only `prompt` is needed.

    Attributes:
        id: names the request; asking again with the same id repeats the answer, not the work.
        stream: also send each token as it comes.
        max_new_tokens: bound of the answer; 0 takes the agent's setting.
        mode: overrides the agent's setting. `exact` has the cloud confirm each token: the full model's text.
        lookahead: overrides the agent's setting: how many tokens may be drafted while the cloud is asked;
            0 waits for each answer. The text is the same.
        latency_budget_ms: how long the answer may wait for the cloud, counted from its start; afterwards
            the edge goes on with its own guesses, marked degraded. 0: as long as the agent's patience.
        codec: overrides the agent's setting: how hidden states travel. Without one they travel in fp32 where
            `mode` is exact.
        threshold: overrides every exit's threshold; 1.0 lets the cloud decide each token.
        quality: overrides them with those of the cheapest calibrated level that promises at least this share
            of tokens to be the full model's; not together with `threshold`.
        temperature, top_k, top_p, seed: see `Sampling`; temperature 0 is greedy.
    """

    prompt: Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT_CHARS)]
    id: RequestId = ""
    stream: bool = False
    max_new_tokens: Annotated[int, Meta(ge=0, le=MAX_NEW_TOKENS)] = 0
    mode: Mode | None = None
    lookahead: Annotated[int, Meta(ge=0, le=MAX_LOOKAHEAD)] | None = None
    latency_budget_ms: Annotated[float, Meta(ge=0.0, le=3_600_000.0)] = 0.0
    codec: CodecSetting | None = None
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    quality: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.0
    top_k: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.seed)


class AnswerToken(msgspec.Struct, frozen=True):
    """One token of an answer.

    Attributes:
        text: what it adds; a character of several tokens comes with its last one.
        rung: who answered: `edge-1`, `edge-2`, …, `cloud`.
        confidence: the probability that the rung gave to its most probable token.
        degraded: the cloud was wanted but away.
        worker: the cloud worker that answered; empty for the edge's own tokens.
    """

    text: str
    rung: str
    confidence: float
    degraded: bool = False
    worker: str = ""


class Timings(msgspec.Struct, frozen=True):
    """Where the time of an answer went; milliseconds.

    Attributes:
        edge_compute_ms: in the edge's stages and heads.
        cloud_wait_ms: doing nothing but waiting for the cloud, its compute included.
        cloud_compute_ms: the session's share of the workers' forwards.
    """

    first_token_ms: float
    total_ms: float
    edge_compute_ms: float
    cloud_wait_ms: float
    cloud_compute_ms: float


class CloudUse(msgspec.Struct, frozen=True):
    """What an answer asked of the cloud.

    Attributes:
        requests: tokens asked for. answers: tokens that came.
        discarded: tokens that were drafted while the cloud was asked, and thrown away.
        uploaded_tokens: positions whose states were sent. uplink_bytes: payloads sent for them.
        worker: who served the session last; empty when nobody did.
    """

    requests: int = 0
    answers: int = 0
    discarded: int = 0
    uploaded_tokens: int = 0
    uplink_bytes: int = 0
    worker: str = ""


class Answer(msgspec.Struct, frozen=True):
    """A finished answer.

    Attributes:
        text: for people. action: for machines, in Home Assistant's words; None for plain text.
        tokens: as they were generated. rungs: how many of them each rung answered.
        degraded: some token was the edge's because the cloud was away; `note` says why.
        finish_reason: `stop` or `length`.
    """

    id: str
    text: str
    action: Any
    tokens: list[AnswerToken]
    rungs: dict[str, int]
    degraded: bool
    finish_reason: str
    timings: Timings
    cloud: CloudUse
    output: str = ""
    note: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of a failure."""

    code: str
    message: str
    retryable: bool = False


class Failure(msgspec.Struct, frozen=True):
    """Why there is no answer: the error's code and a sentence that says what to do."""

    id: str
    error: ErrorBody

    @classmethod
    def of(cls, request_id: str, error: Exception) -> Self:
        """What a device is told of an error; of one that we did not foresee, only its kind."""
        if not isinstance(error, AntiphonError):
            message = f"the edge failed on this prompt ({type(error).__name__}): its log says more; ask again"
            return cls(request_id, ErrorBody(AntiphonError.code, message, retryable=True))
        # What a message quotes may be text that UTF-8 has no bytes for.
        message = str(error).encode(errors="replace").decode()
        return cls(request_id, ErrorBody(error.code, message, error.retryable))


class TokenEvent(msgspec.Struct, frozen=True):
    """One token on the stream topic; `index` counts from 0, `done` ends the stream."""

    id: str
    index: int
    text: str = ""
    rung: str = ""
    confidence: float = 0.0
    degraded: bool = False
    worker: str = ""
    done: bool = False

    @classmethod
    def of(cls, request_id: str, index: int, token: AnswerToken) -> Self:
        """The event of an answer's token."""
        return cls(request_id, index, token.text, token.rung, token.confidence, token.degraded, token.worker)


_decoder = msgspec.json.Decoder(Request)


class _Named(msgspec.Struct):
    id: RequestId = ""


def request_id_of(payload: bytes) -> str:
    """The id that a payload gives itself, though it may be no request; empty when it gives none."""
    if len(payload) > MAX_REQUEST_BYTES:
        return ""
    try:
        return msgspec.json.decode(payload, type=_Named).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def decode_request(payload: bytes) -> Request:
    """A request from its JSON.

    Raises:
        PromptError: too large, not a JSON object with a prompt, or a field of the wrong kind.
    """
    if len(payload) > MAX_REQUEST_BYTES:
        raise PromptError(
            f"a request may have {MAX_REQUEST_BYTES} bytes, this one has {len(payload)}: cut it"
        )
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f'not a request: {error}. Send JSON such as {{"prompt": "turn on the kitchen lights"}}'
        raise PromptError(msg) from error
