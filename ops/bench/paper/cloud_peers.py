"""Peers whose model is whole in the cloud: the prompt goes up, tokens come down."""

from __future__ import annotations

import time

from ops.bench.paper.channel import Channel
from ops.bench.paper.peer import Prompt
from ops.bench.paper.script import Script
from ops.bench.paper.timing import Timing
from ops.bench.paper.words import DraftPlan


class CloudOnly:
    """Token ids go up once; every token is sent as soon as it is settled.

    Args:
        channel: the edge's end.
        plan: how the cloud drafts with its own exits; None: it does not.
    """

    def __init__(self, channel: Channel, plan: DraftPlan | None = None) -> None:
        self._channel = channel
        self._plan = plan

    async def answer(self, prompt: Prompt, new_tokens: int, script: Script | None) -> Timing:  # noqa: ARG002
        """See `Peer.answer`."""
        started_s = time.perf_counter()
        self._channel.begin()
        self._channel.ask(prompt.ids, new_tokens, prompt.words, self._plan)
        tokens: list[int] = []
        cloud_us = flops = forwards = 0
        last = False
        while not last:
            piece = await self._channel.hear()
            tokens += piece.tokens
            cloud_us += piece.cloud_us
            flops += piece.flops
            forwards += piece.forwards
            last = piece.last
        total_s = time.perf_counter() - started_s
        return Timing(tuple(tokens), total_s, 0.0, cloud_us / 1e6, forwards, flops)
