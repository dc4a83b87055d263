"""An edge without a model: it sends rows of random numbers to a worker, one step after the other."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

import torch

from broker.group_reader import GroupReader
from broker.transport import Incoming, Transport
from shared.errors import LinkError
from shared.model.bundle import Bundle
from shared.tensors.codec import codec_named
from shared.wire import topics
from shared.wire.codec import decode_to_edge, encode
from shared.wire.messages import Close, Open, Opened, Step, ToEdge, Tokens, ToWorker

CODEC: Final = "fp16"
# A level's slowest step takes a second or two; this long is silence.
REPLY_TIMEOUT_S: Final = 120.0
_ROWS: Final = 512
_STEP_BYTES: Final = 65_536


class States:
    """Rows that all sessions share, encoded once: what they say does not change the speed.

    Args:
        bundle: whose width they have.
        seed: of the numbers.
    """

    def __init__(self, bundle: Bundle, seed: int = 7) -> None:
        codec = codec_named(CODEC)
        rows = torch.randn(_ROWS, bundle.hidden_size, generator=torch.Generator().manual_seed(seed))
        self._bytes = codec.encode(rows)
        self._row_bytes = codec.row_bytes(bundle.hidden_size)
        self.step_tokens = max(1, _STEP_BYTES // self._row_bytes)

    def rows(self, session: int, start: int, count: int) -> bytes:
        """The rows of a session's positions `[start, start + count)`: always the same ones."""
        return b"".join(self._row(session * 37 + position) for position in range(start, start + count))

    def _row(self, index: int) -> bytes:
        first = index % _ROWS * self._row_bytes
        return self._bytes[first : first + self._row_bytes]


@dataclass
class Stepped:
    """What a session saw.

    Attributes:
        times_s: of each step: when it was answered (monotonic seconds), and how long that took.
        tokens: drawn at each position.
    """

    times_s: list[tuple[float, float]] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)


class Stepper:
    """One session of an edge of its own.

    Args:
        transport: the edge's own connection.
        address: the session's.
        bundle: what the workers serve.
        number: which of the sessions; it chooses the rows.
        states: where the rows are from.
    """

    def __init__(
        self,
        transport: Transport,
        address: topics.SessionAddress,
        bundle: Bundle,
        number: int,
        states: States,
    ) -> None:
        self.seen = Stepped()
        self.position = 0
        self._transport = transport
        self._address = address
        self._bundle = bundle
        self._number = number
        self._states = states
        self._worker = ""
        self._steps = 0
        self._reply: asyncio.Future[ToEdge] | None = None
        self._topic = topics.reply_topic(address)
        self._groups = topics.reply_group_topic(address.owner)
        transport.subscribe(self._topic, self._on_reply)
        transport.subscribe(self._groups, GroupReader(self._on_reply))

    async def open(self) -> None:
        """Find a worker.

        Raises:
            LinkError: none takes the session.
        """
        for topic in (self._topic, self._groups):
            await self._transport.subscribed(topic, REPLY_TIMEOUT_S)
        message = Open(1, self._bundle.digest, CODEC)
        pool = topics.pool_of(self._bundle.name, self._bundle.digest)
        waiting = self._expect()
        topic = topics.open_topic(self._address, pool)
        await self._transport.publish(topic, encode(message), qos=1, timeout_s=REPLY_TIMEOUT_S)
        reply = await self._answer(waiting)
        if not isinstance(reply, Opened):
            raise LinkError(f"a worker did not take the session: {reply}")
        self._worker = reply.worker

    async def prefill(self, tokens: int) -> None:
        """Send a prompt, in steps as an edge cuts them, and wait until all of it is read."""
        waiting = self._expect()
        end = self.position + tokens
        while self.position < end:
            count = min(self._states.step_tokens, end - self.position)
            message = self._next(count, want=self.position + count == end)
            # One by one, as the socket takes them: a long prompt is more than may wait for it.
            await self._transport.publish(self._steps_topic, encode(message), timeout_s=REPLY_TIMEOUT_S)
        self._note(await self._answer(waiting))

    async def step(self) -> None:
        """One token: a row up, an answer down."""
        began_s = time.monotonic()
        waiting = self._expect()
        self._publish(self._next(1, want=True))
        self._note(await self._answer(waiting))
        now_s = time.monotonic()
        self.seen.times_s.append((now_s, now_s - began_s))

    def close(self) -> None:
        """The worker may forget the session."""
        self._publish(Close(1))
        self._transport.unsubscribe(self._topic)
        self._transport.unsubscribe(self._groups)

    def _next(self, count: int, *, want: bool) -> Step:
        """The step that goes on with so many rows."""
        self._steps += 1
        states = self._states.rows(self._number, self.position, count)
        wants = [self.position + count - 1] if want else []
        step = Step(1, self._steps, self.position, count, states, wants)
        self.position += count
        return step

    @property
    def _steps_topic(self) -> str:
        return topics.steps_topic(self._address, self._worker)

    def _publish(self, message: ToWorker) -> None:
        if not self._transport.publish_soon(self._steps_topic, encode(message)):
            raise LinkError("the broker takes no more: it is not there, or too much waits for its socket")

    def _expect(self) -> asyncio.Future[ToEdge]:
        self._reply = asyncio.get_running_loop().create_future()
        return self._reply

    async def _answer(self, waiting: asyncio.Future[ToEdge]) -> ToEdge:
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                return await waiting
        except TimeoutError:
            raise LinkError(f"the worker has not answered within {REPLY_TIMEOUT_S:g} s") from None

    def _on_reply(self, incoming: Incoming) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(decode_to_edge(incoming.payload))

    def _note(self, reply: ToEdge) -> None:
        if not isinstance(reply, Tokens):
            raise LinkError(f"the worker did not answer a step with tokens: {reply}")
        self.seen.tokens |= {drawn.position: drawn.token for drawn in reply.tokens}
