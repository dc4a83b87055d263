"""The edge agent: answers requests with the edge's stages, and the cloud's where they are unsure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from edge_agent.cloud_session import CloudSession, Patience
from edge_agent.decode import CLOUD_RUNG, DecodedToken, DecodeLoop
from edge_agent.engine import EdgeEngine, EngineSession
from edge_agent.exits import ExitPolicy
from edge_agent.generation import GenerationStats, generate
from edge_agent.link import CloudLink, LinkedSession
from edge_agent.request import Answer, AnswerToken, CloudUse, Mode, Request, Timings
from edge_agent.task import Task
from edge_agent.text_stream import TextStream
from shared.errors import PromptError
from shared.log import context
from shared.model.calibration import Calibration, level_for
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
        mode: with or without the cloud.
        max_new_tokens: bound of an answer.
        patience: how long the cloud is waited for.
        calibration: what a request may ask for by quality; None: nothing.
    """

    policy: ExitPolicy
    mode: Mode = "collaborative"
    max_new_tokens: int = 256
    patience: Patience = field(default_factory=Patience)
    calibration: Calibration | None = None


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

    async def answer(self, request: Request, on_token: OnToken | None = None) -> Answer:
        """Answer one request.

        Args:
            request: what to answer, and how.
            on_token: called with each token as soon as it is known.

        Raises:
            PromptError: the prompt does not fit the model, or the quality can't be promised.
        """
        ids = self._encode(request)
        loop = self._decode_loop(request, len(ids))
        session = self._engine.open(ids, request.sampling)
        cloud = self._open_cloud(request, session) if loop.use_cloud else None
        stream = _TokenStream(TextStream(self._task.decode), cloud, on_token)
        with context(session=None if cloud is None else cloud.address.session):
            try:
                reason, stats = await generate(loop, self._engine, session, cloud, stream.add)
            finally:
                if cloud is not None:
                    cloud.close()
            return self._finish(request, loop, reason, stats, session, cloud, stream)

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
            use_cloud=mode == "collaborative",
            constraint=self._task.constraint(request.prompt),
        )

    def _policy(self, request: Request) -> ExitPolicy:
        policy = self._settings.policy
        if request.threshold is not None and request.quality is not None:
            msg = "a request can't have both a threshold and a quality: leave one of them out"
            raise PromptError(msg)
        if request.quality is not None:
            return ExitPolicy(level_for(self._settings.calibration, request.quality).thresholds)
        if request.threshold is not None:
            return ExitPolicy.of([request.threshold], len(policy.thresholds))
        return policy

    def _open_cloud(self, request: Request, session: EngineSession) -> LinkedSession | None:
        """A place on the link; a worker is looked for while the edge reads the prompt."""
        if self._link is None:
            return None
        core = CloudSession(
            self._model.digest,
            self._model.vocab_size,
            self._engine.codec.name,
            request.sampling,
            session.states,
            self._settings.patience,
            self._link.reply_time,
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
            cloud=_cloud_use(stats, cloud),
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


def _cloud_use(stats: GenerationStats, cloud: LinkedSession | None) -> CloudUse:
    if cloud is None:
        return CloudUse()
    core = cloud.core
    return CloudUse(core.requests, stats.cloud_answers, core.rows_sent, cloud.uplink_bytes, core.worker)
