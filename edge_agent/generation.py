"""Drives one decode loop: runs stages on the engine, asks the cloud, reports each kept token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.decode import AskCloud, DecodedToken, DecodeLoop, Finish, RunStage
from edge_agent.engine import EdgeEngine, EngineSession
from edge_agent.link import CloudReply, LinkedSession

NO_LINK = "this edge has no link to a cloud"


@dataclass(slots=True)
class GenerationStats:
    """What one answer cost.

    Attributes:
        cloud_wait_s: time spent waiting for the cloud, answered or not.
        cloud_compute_us: the session's share of the workers' forwards.
        cloud_answers: asks that were answered.
        reasons: why the cloud was away, each reason once.
    """

    started_s: float = field(default_factory=time.perf_counter)
    first_token_s: float | None = None
    total_s: float = 0.0
    cloud_wait_s: float = 0.0
    cloud_compute_us: int = 0
    cloud_answers: int = 0
    reasons: list[str] = field(default_factory=list)


async def generate(
    loop: DecodeLoop,
    engine: EdgeEngine,
    session: EngineSession,
    cloud: LinkedSession | None,
    on_token: Callable[[DecodedToken], None],
) -> tuple[str, GenerationStats]:
    """Run a decode loop to its end.

    Args:
        loop: decides; holds the tokens afterwards.
        engine: runs the edge's stages.
        session: the session's place in the engine.
        cloud: its place on the link; None when there is none: every ask then stays unanswered.
        on_token: called for each kept token as soon as it is known.

    Returns:
        The finish reason and what it cost.
    """
    stats = GenerationStats()
    kept = 0
    while True:
        for token in loop.tokens[kept:]:
            session.ids.append(token.token)
            if stats.first_token_s is None:
                stats.first_token_s = time.perf_counter() - stats.started_s
            on_token(token)
        kept = len(loop.tokens)
        match loop.next_action():
            case RunStage(stage, allowed):
                loop.on_guess(await engine.run_stage(session, stage, allowed))
            case AskCloud() as ask:
                await _ask(loop, cloud, ask, stats)
            case Finish(reason):
                stats.total_s = time.perf_counter() - stats.started_s
                return reason, stats


async def _ask(loop: DecodeLoop, cloud: LinkedSession | None, ask: AskCloud, stats: GenerationStats) -> None:
    asked_s = time.perf_counter()
    reply = await cloud.ask(ask.position, ask.allowed) if cloud is not None else CloudReply(None, NO_LINK)
    stats.cloud_wait_s += time.perf_counter() - asked_s
    if reply.guess is None:
        if reply.reason not in stats.reasons:
            stats.reasons.append(reply.reason)
        loop.on_cloud_unavailable()
        return
    stats.cloud_compute_us += reply.compute_us
    stats.cloud_answers += 1
    loop.on_cloud_token(reply.guess)
