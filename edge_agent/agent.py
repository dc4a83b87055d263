"""The edge agent: answers requests with the edge's stages, and the cloud's where they are unsure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from edge_agent.agreement import Agreement
from edge_agent.cloud_session import CloudSession
from edge_agent.codec_choice import AUTO, EXACT, choose_codec
from edge_agent.decode import DecodeLoop, use_of
from edge_agent.eager import AskingShare, UploadTime
from edge_agent.engine import EdgeEngine, EngineSession
from edge_agent.exits import ExitPolicy
from edge_agent.generation import Generation, GenerationStats, Pace
from edge_agent.link import CloudLink, LinkedSession
from edge_agent.lookahead import DraftTime, Lookahead
from edge_agent.patience import Patience
from edge_agent.request import Answer, AnswerToken, CloudUse, Mode, Request, Timings
from edge_agent.rungs import CLOUD_RUNG, DecodedToken
from edge_agent.task import Task
from edge_agent.text_stream import TextStream
from shared.errors import PromptError
from shared.log import context
from shared.model.calibration import Calibration, level_for
from shared.tensors.compression import check_compression, rows_codec
from shared.wire.ids import new_id

log = structlog.get_logger(__name__)

OnToken = Callable[[AnswerToken], None]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the agent has to know of its bundle."""

    digest: str
    vocab_size: int
    max_positions: int
    stop_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How requests are answered unless they say otherwise.

    Attributes:
        policy: the exits' thresholds.
        codec: how states travel to the cloud; `auto` chooses for each session.
        mode: with or without the cloud.
        lookahead: tokens drafted at most while the cloud is asked; 0: none.
        upload: when states go up, see `AskingShare`.
        latency_budget_s: how long an answer may wait for the cloud; 0: as long as `patience`.
        max_new_tokens: bound of an answer.
        patience: how long the cloud is waited for.
        calibration: what a request may ask for by quality; None: nothing.
        exact_codec: how states travel where `mode` is exact.
    """

    policy: ExitPolicy
    codec: str = "fp16"
    mode: Mode = "collaborative"
    lookahead: int = 16
    upload: UploadTime = "auto"
    latency_budget_s: float = 0.0
    max_new_tokens: int = 256
    patience: Patience = field(default_factory=Patience)
    calibration: Calibration | None = None
    exact_codec: str = EXACT


class EdgeAgent:
    """Answers requests; any number at once.

    Args:
        engine: the edge's stages.
        task: what prompts and outputs mean.
        model: facts of the bundle.
        settings: defaults of a request.
        link: the way to the cloud; None when there is none.
    """

    def __init__(
        self,
        engine: EdgeEngine,
        task: Task,
        model: ModelFacts,
        settings: AgentSettings,
        link: CloudLink | None,
    ) -> None:
        self._engine = engine
        self._task = task
        self._model = model
        self._settings = settings
        self._link = link
        self._agreement = Agreement()
        self._draft_time = DraftTime()
        self._asking = AskingShare(settings.upload)

    async def answer(self, request: Request, on_token: OnToken | None = None) -> Answer:
        """Answer one request.

        Args:
            request: what to answer, and how.
            on_token: called with each token as soon as it is known.

        Raises:
            PromptError: the prompt does not fit the model, or the quality can't be promised.
            CodecError: the request names a codec that this edge can't do.
        """
        ids = self._encode(request)
        loop = self._decode_loop(request, len(ids))
        codec = self._codec(request)
        session = self._engine.open(ids, request.sampling, loop.policy.thresholds, rows_codec(codec))
        cloud = None if loop.use_cloud == "never" else self._open_cloud(request, session, codec)
        stream = _TokenStream(TextStream(self._task.decode), cloud, on_token)
        with context(session=None if cloud is None else cloud.address.session):
            making = Generation(loop, self._engine, session, cloud, stream.add, self._pace(request, loop))
            try:
                reason = await making.run()
            finally:
                if cloud is not None:
                    self._asking.observe(cloud.core.requests > 0)
                    cloud.close()
            return self._finish(request, loop, reason, making.stats, session, cloud, stream)

    async def wait_for_link(self, timeout_s: float) -> bool:
        """Wait for the broker connection; whether there is one."""
        return self._link is not None and await self._link.wait_connected(timeout_s)

    def _encode(self, request: Request) -> list[int]:
        ids = self._task.encode(request.prompt)
        room = self._model.max_positions - 1
        if not ids:
            msg = "the prompt has no tokens: send some text"
            raise PromptError(msg)
        if len(ids) > room:
            msg = f"the prompt has {len(ids)} tokens; the model takes {room}: shorten it"
            raise PromptError(msg)
        return ids

    def _decode_loop(self, request: Request, prompt_tokens: int) -> DecodeLoop:
        wanted = request.max_new_tokens or self._settings.max_new_tokens
        mode = request.mode or self._settings.mode
        return DecodeLoop(
            prompt_tokens,
            self._policy(request),
            max_new_tokens=min(wanted, self._model.max_positions - prompt_tokens),
            stop_tokens=self._model.stop_tokens,
            use_cloud=use_of(mode),
            constraint=self._task.constraint(request.prompt),
            lookahead=self._lookahead(request),
        )

    def _lookahead(self, request: Request) -> Lookahead:
        if self._link is None:
            return Lookahead()
        limit = self._settings.lookahead if request.lookahead is None else request.lookahead
        return Lookahead(limit, self._link.reply_time, self._agreement, self._draft_time)

    def _pace(self, request: Request, loop: DecodeLoop) -> Pace:
        if self._link is None:
            return Pace()
        budget_s = request.latency_budget_ms / 1e3 or self._settings.latency_budget_s
        until_s = self._link.now_s() + budget_s if budget_s else math.inf
        eager = self._asking.is_eager(certain=loop.use_cloud == "always")
        return Pace(eager, until_s, self._link.reply_time)

    def _policy(self, request: Request) -> ExitPolicy:
        policy = self._settings.policy
        if request.threshold is not None and request.quality is not None:
            msg = "a request can't have both a threshold and a quality: leave one of them out"
            raise PromptError(msg)
        if request.quality is not None:
            if (request.mode or self._settings.mode) == "standalone":
                msg = (
                    "a quality counts on the cloud where exits are unsure, and mode standalone never asks "
                    "it: leave the quality out, or choose mode collaborative"
                )
                raise PromptError(msg)
            return ExitPolicy(level_for(self._settings.calibration, request.quality).thresholds)
        if request.threshold is not None:
            return ExitPolicy.of([request.threshold], len(policy.thresholds))
        return policy

    def _codec(self, request: Request) -> str:
        """How the session's states will travel: as the request says, else as befits its mode."""
        exact = (request.mode or self._settings.mode) == "exact"
        wished = request.codec or (self._exact_codec(request) if exact else self._settings.codec)
        if wished != AUTO:
            check_compression(wished)
            return wished
        if exact:
            return EXACT
        calibration = self._settings.calibration
        rate = None if self._link is None else self._link.uplink.bytes_per_s
        return choose_codec(calibration.codecs if calibration else (), rate, request.quality)

    def _exact_codec(self, request: Request) -> str:
        """A request that asks for the unsplit model's text does not mean a codec that was set for others."""
        return EXACT if request.mode else self._settings.exact_codec

    def _open_cloud(self, request: Request, session: EngineSession, codec: str) -> LinkedSession | None:
        """A place on the link; a worker is looked for while the edge reads the prompt."""
        if self._link is None:
            return None
        core = CloudSession(
            self._model.digest,
            self._model.vocab_size,
            codec,
            request.sampling,
            session.states,
            self._settings.patience,
            self._link.reply_time,
            self._link.uplink,
        )
        cloud = self._link.session(new_id("s-"), core)
        cloud.open()
        return cloud

    def _finish(
        self,
        request: Request,
        loop: DecodeLoop,
        reason: str,
        stats: GenerationStats,
        session: EngineSession,
        cloud: LinkedSession | None,
        stream: _TokenStream,
    ) -> Answer:
        output = stream.text()
        result = self._task.read(request.prompt, output)
        decoded = [*loop.tokens, loop.stop] if loop.stop is not None else loop.tokens
        answer = Answer(
            id=request.id,
            text=result.text,
            action=result.action,
            tokens=stream.tokens,
            rungs=dict(Counter(token.rung for token in loop.tokens)),
            degraded=any(token.degraded for token in decoded),
            finish_reason=reason,
            timings=_timings(stats, session),
            cloud=_cloud_use(stats, loop.discarded, cloud),
            output=output,
            note="; ".join(stats.reasons),
        )
        log.info(
            "answered",
            request=answer.id,
            rungs=answer.rungs,
            degraded=answer.degraded,
            finish_reason=reason,
            total_ms=answer.timings.total_ms,
            reasons=stats.reasons,
        )
        return answer


class _TokenStream:
    """Turns decoded tokens into answer tokens, and passes them on."""

    def __init__(self, stream: TextStream, cloud: LinkedSession | None, on_token: OnToken | None) -> None:
        self.tokens: list[AnswerToken] = []
        self._stream = stream
        self._cloud = cloud
        self._on_token = on_token

    def add(self, decoded: DecodedToken) -> None:
        piece = self._stream.add(decoded.token)
        cloud = self._cloud if decoded.rung == CLOUD_RUNG else None
        token = AnswerToken(
            piece,
            decoded.rung,
            round(decoded.confidence, 6),
            decoded.degraded,
            "" if cloud is None else cloud.core.worker,
        )
        self.tokens.append(token)
        if self._on_token is not None:
            self._on_token(token)

    def text(self) -> str:
        return self._stream.text()


def _timings(stats: GenerationStats, session: EngineSession) -> Timings:
    first_s = stats.first_token_s if stats.first_token_s is not None else stats.total_s
    return Timings(
        first_token_ms=round(first_s * 1e3, 3),
        total_ms=round(stats.total_s * 1e3, 3),
        edge_compute_ms=round(session.compute_s * 1e3, 3),
        cloud_wait_ms=round(stats.cloud_wait_s * 1e3, 3),
        cloud_compute_ms=round(stats.cloud_compute_us / 1e3, 3),
    )


def _cloud_use(stats: GenerationStats, discarded: int, cloud: LinkedSession | None) -> CloudUse:
    if cloud is None:
        return CloudUse()
    core = cloud.core
    return CloudUse(
        core.requests, stats.cloud_answers, discarded, core.rows_sent, cloud.uplink_bytes, core.worker
    )
