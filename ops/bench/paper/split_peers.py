"""Peers that split the model and wait for each answer: naive, naive with a cache, and CE-CoLLM.

The edge keeps keys and values in all of them: nobody would leave that out.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import torch
from torch import Tensor

from ops.bench.paper.channel import Channel
from ops.bench.paper.climb import Climb, Rung
from ops.bench.paper.peer import Prompt
from ops.bench.paper.script import Script
from ops.bench.paper.timing import Timing
from ops.bench.paper.words import Piece
from ops.bench.paper.writing import Writing

T = TypeVar("T")


class _Bill:
    """What the cloud has done for one answer so far."""

    def __init__(self) -> None:
        self.cloud_us = self.flops = self.requests = 0

    def add(self, piece: Piece) -> int:
        """Note a reply; returns its token."""
        self.cloud_us += piece.cloud_us
        self.flops += piece.flops
        self.requests += 1
        return piece.tokens[0]


class _SplitPeer(ABC):
    """What they share: the edge's rungs on a thread, the cloud on a channel.

    Args:
        channel: the edge's end.
        rungs: the edge's.
        stops: ids that end an answer.
        thread: one thread, for the edge's computing.
    """

    def __init__(
        self, channel: Channel, rungs: Sequence[Rung], stops: Sequence[int], thread: Executor
    ) -> None:
        self._channel = channel
        self._rungs = rungs
        self._stops = stops
        self._thread = thread

    async def answer(self, prompt: Prompt, new_tokens: int, script: Script | None) -> Timing:
        """See `Peer.answer`."""
        started_s = time.perf_counter()
        self._channel.begin()
        climb, bill = Climb(self._rungs, script), _Bill()
        writing = Writing(prompt.ids, new_tokens, self._stops, prompt.grammar)
        await self._write(climb, writing, bill)
        total_s = time.perf_counter() - started_s
        return Timing(
            writing.tokens, total_s, climb.compute_s, bill.cloud_us / 1e6, bill.requests, bill.flops
        )

    @abstractmethod
    async def _write(self, climb: Climb, writing: Writing, bill: _Bill) -> None:
        """Write the answer, token by token."""

    async def _on_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _ask(self, rung: int, end: int, allowed: Sequence[int] | None, bill: _Bill) -> int:
        self._channel.want(rung, end, allowed)
        return bill.add(await self._channel.hear())

    def _read(self, climb: Climb, writing: Writing) -> Tensor:
        """The first rung takes in the text's end."""
        unread = writing.ids[climb.frontier(0) :]
        climb.feed(0, torch.tensor(unread, dtype=torch.int64))
        return climb.run(0)

    def _read_through(self, climb: Climb, writing: Writing) -> Tensor:
        """All of the edge's rungs take it in; no head is asked."""
        rows = self._read(climb, writing)
        for rung in range(1, len(self._rungs)):
            rows = climb.run(rung)
        return rows


class NaiveSplit(_SplitPeer):
    """The states of the whole context go up for every token, in fp32; the cloud keeps nothing.

    Such a step costs the same whether or not the ones before it were taken, so that a few of them, spread
    over the answer, stand for all: `stride` 8 takes every eighth and counts it eight times.

    Source: CE-CoLLM (arXiv 2411.02829), the naive cloud-edge deployment that it compares with.
    """

    stride = 1

    async def answer(self, prompt: Prompt, new_tokens: int, script: Script | None) -> Timing:
        """See `Peer.answer`; with a script, its text stands for the steps that are left out."""
        if self.stride == 1 or script is None:
            return await super().answer(prompt, new_tokens, script)
        return await self._sampled(prompt, script.text[:new_tokens])

    async def _write(self, climb: Climb, writing: Writing, bill: _Bill) -> None:
        rows: list[Tensor] = []
        while not writing.ended:
            rows.append(await self._on_thread(self._read_through, climb, writing))
            writing.keep(await self._step(torch.cat(rows), writing.allowed, bill))

    async def _step(self, rows: Tensor, allowed: Sequence[int] | None, bill: _Bill) -> int:
        rung = len(self._rungs)
        end = await self._channel.upload(rung, 0, rows, "fp32")
        return await self._ask(rung, end, allowed, bill)

    async def _sampled(self, prompt: Prompt, text: Sequence[int]) -> Timing:
        """Teacher-forced: the edge's part is run for every token, the rest for one in `stride`."""
        started_s = time.perf_counter()
        self._channel.begin()
        climb, bill = Climb(self._rungs), _Bill()
        writing = Writing(prompt.ids, len(text))
        rows: list[Tensor] = []
        tokens = list(text)
        steps_s, taken = 0.0, range(self.stride // 2, len(text), self.stride)
        for index, token in enumerate(text):
            rows.append(await self._on_thread(self._read_through, climb, writing))
            if index in taken:
                step_s = time.perf_counter()
                tokens[index] = await self._step(torch.cat(rows), None, bill)
                steps_s += time.perf_counter() - step_s
            writing.keep(token)
        factor = len(text) / max(1, len(taken))
        total_s = time.perf_counter() - started_s + steps_s * (factor - 1.0)
        return Timing(
            tuple(tokens),
            total_s,
            climb.compute_s,
            bill.cloud_us * factor / 1e6,
            len(text),
            round(bill.flops * factor),
            scale=factor,
        )


class NaiveIncremental(_SplitPeer):
    """Each token's state goes up once, in fp16, and every token asks; the cloud keeps keys and values."""

    async def _write(self, climb: Climb, writing: Writing, bill: _Bill) -> None:
        rung, end = len(self._rungs), 0
        while not writing.ended:
            rows = await self._on_thread(self._read_through, climb, writing)
            end = await self._channel.upload(rung, end, rows, "fp16")
            writing.keep(await self._ask(rung, end, writing.allowed, bill))


class CeCollm(_SplitPeer):
    """Exits; each token's state goes up once in fp16 while the edge computes on; unsure tokens wait.

    Args:
        channel, rungs, stops, thread: as for every split.
        upload_after: index of the rung whose states go up, as soon as it has made them. The first one's, as
            in the paper, hide the upload behind the edge's other rungs, whose layers the cloud then runs too.

    Source: CE-CoLLM (arXiv 2411.02829), early exits, parallel upload and the cloud's context manager.
    """

    def __init__(
        self,
        channel: Channel,
        rungs: Sequence[Rung],
        stops: Sequence[int],
        thread: Executor,
        upload_after: int = 0,
    ) -> None:
        super().__init__(channel, rungs, stops, thread)
        self._upload_after = upload_after
        self._sent = 0

    async def _write(self, climb: Climb, writing: Writing, bill: _Bill) -> None:
        self._sent = 0
        while not writing.ended:
            writing.keep(await self._token(climb, writing, bill))

    async def _token(self, climb: Climb, writing: Writing, bill: _Bill) -> int:
        position = len(writing.ids)
        for rung in range(len(self._rungs)):
            if rung:
                rows = await self._on_thread(climb.run, rung)
            else:
                rows = await self._on_thread(self._read, climb, writing)
            if rung == self._upload_after:
                self._sent = await self._channel.upload(rung + 1, self._sent, rows, "fp16")
            guess = await self._on_thread(climb.guess, rung, rows[-1:], writing.allowed, position)
            if climb.is_sure(rung, guess):
                return guess.token
        return await self._ask(self._upload_after + 1, self._sent, writing.allowed, bill)
