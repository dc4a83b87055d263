"""The yardsticks' cloud: whole answers, or the upper rungs for states that come in. One session at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import torch

from broker.transport import Incoming, Transport
from edge_agent.constraint import Constraint
from ops.bench.paper import words
from ops.bench.paper.alone import Written, write_drafting, write_plainly
from ops.bench.paper.climb import Climb, Rung
from ops.bench.paper.script import Script
from ops.bench.paper.words import DOWN_TOPIC, UP_TOPIC, Piece, Question, Rows, ToCloud, ToEdge, Trouble
from ops.bench.paper.writing import Writing
from shared.tensors.codec import codec_named

Grammar = Callable[[str], Constraint]
# A prompt's states are worked on as they come; those of single tokens wait for a question, for one forward.
EAGER_ROWS: Final = 16


class YardstickServer:
    """Serves the yardsticks on one transport.

    Args:
        transport: started and stopped by the caller.
        rungs: the whole ladder.
        stops: ids that end an answer.
        grammar: of a prompt's answer, for answers that are written here.

    Attributes:
        script: what the exits say of the text to come.
    """

    def __init__(
        self, transport: Transport, rungs: list[Rung], stops: tuple[int, ...], grammar: Grammar
    ) -> None:
        self.script: Script | None = None
        self._transport = transport
        self._rungs = rungs
        self._stops = stops
        self._grammar = grammar
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="yardstick")
        self._session = -1
        self._climb = Climb(rungs)
        self._newest = torch.empty(0)  # the last rung's last row, (1, hidden)
        self._billed_s, self._billed_flops = 0.0, 0
        transport.subscribe(UP_TOPIC, self._on_words)

    def close(self) -> None:
        """Let the present work end."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _on_words(self, incoming: Incoming) -> None:
        said = words.decode_to_cloud(incoming.payload)
        self._thread.submit(self._safely, said)

    def _safely(self, said: ToCloud) -> None:
        try:
            self._answer(said) if isinstance(said, Question) else self._take(said)
        except Exception as error:  # noqa: BLE001  whatever it is, the edge must not wait for ever
            self._send(Trouble(said.session, f"{type(error).__name__}: {error}"))

    def _send(self, piece: ToEdge) -> None:
        payload = words.encode(piece)
        self._loop.call_soon_threadsafe(self._transport.publish_soon, DOWN_TOPIC, payload)

    # --- whole answers ----------------------------------------------------------------------------

    def _answer(self, question: Question) -> None:
        climb = Climb(self._rungs, self.script)
        sent_s, sent_flops = 0.0, 0
        for written, ended in self._writer(climb, question):
            spent_us = round((climb.compute_s - sent_s) * 1e6)
            flops = climb.flops - sent_flops
            sent_s, sent_flops = climb.compute_s, climb.flops
            self._send(Piece(question.session, written.tokens, spent_us, flops, written.forwards, last=ended))

    def _writer(self, climb: Climb, question: Question) -> Iterator[tuple[Written, bool]]:
        grammar = partial(self._grammar, question.words)
        writing = Writing(question.ids, question.new_tokens, self._stops, grammar)
        if writing.ended:  # the grammar leaves no choice at all
            yield Written(writing.tokens, 0), True
        plan = question.plan
        pieces = write_plainly(climb, writing) if plan is None else write_drafting(climb, writing, plan)
        for written in pieces:
            yield written, writing.ended

    # --- states -----------------------------------------------------------------------------------

    def _take(self, rows: Rows) -> None:
        if rows.start == 0 and rows.count:  # a session's beginning, or a naive one's every step
            self._session, self._climb = rows.session, Climb(self._rungs)
            self._billed_s, self._billed_flops = 0.0, 0
        if rows.session != self._session:
            raise ValueError("states of a session that has not begun")
        if rows.count:
            width = self._rungs[0].stage.hidden_size
            states = codec_named(rows.codec).decode(rows.states, rows.count, width)
            self._climb.feed(rows.rung, states)
        if rows.wanted or rows.count >= EAGER_ROWS:
            self._advance(rows.rung)
        if rows.wanted:
            self._reply(rows)

    def _advance(self, first: int) -> None:
        """Let each rung take what waits for it."""
        for rung in range(first, len(self._rungs)):
            if self._climb.is_waiting(rung):
                self._newest = self._climb.run(rung)[-1:]

    def _reply(self, rows: Rows) -> None:
        climb, allowed = self._climb, tuple(rows.allowed) or None
        drawn = climb.draw(len(self._rungs) - 1, self._newest, [allowed], rows.start + rows.count)[0]
        spent_us = round((climb.compute_s - self._billed_s) * 1e6)
        flops = climb.flops - self._billed_flops
        self._billed_s, self._billed_flops = climb.compute_s, climb.flops
        self._send(Piece(rows.session, (drawn.token,), spent_us, flops))
