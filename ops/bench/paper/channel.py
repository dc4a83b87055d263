"""The edge's end of the yardsticks' talk with the cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from torch import Tensor

from broker.transport import Incoming, Transport
from ops.bench.paper import words
from ops.bench.paper.words import CHUNK_BYTES, DOWN_TOPIC, UP_TOPIC, DraftPlan, Piece, Question, Rows, ToEdge
from shared.errors import LinkError
from shared.tensors.codec import codec_named

# Far longer than the slowest step of the slowest yardstick.
SILENCE_S = 120.0


class Channel:
    """Sends questions and states, and hands out what comes back; one session at a time.

    Args:
        transport: the edge's, through the link; started and stopped by the caller.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._session = 0
        self._heard: asyncio.Queue[ToEdge] = asyncio.Queue()
        transport.subscribe(DOWN_TOPIC, self._on_words)

    def begin(self) -> int:
        """A new session; what still comes for an older one is dropped."""
        self._session += 1
        self._heard = asyncio.Queue()
        return self._session

    def ask(self, ids: Sequence[int], new_tokens: int, text: str, plan: DraftPlan | None) -> None:
        """Have the cloud write the whole answer."""
        self._send(words.encode(Question(self._session, ids, new_tokens, text, plan)))

    async def upload(self, rung: int, start: int, states: Tensor, codec: str) -> int:
        """Send rows for a rung of the cloud, in chunks.

        Args:
            rung: which takes them in.
            start: position of the first row.
            states: (n, hidden).
            codec: how they travel.

        Returns:
            The position after the last of them.
        """
        each = max(1, CHUNK_BYTES // codec_named(codec).row_bytes(states.shape[1]))
        for first in range(0, len(states), each):
            rows = states[first : first + each]
            encoded = codec_named(codec).encode(rows)
            payload = words.encode(Rows(self._session, rung, start + first, len(rows), encoded, codec))
            # A long context is more than may wait for the socket at once.
            await self._transport.publish(UP_TOPIC, payload, timeout_s=SILENCE_S)
        return start + len(states)

    def want(self, rung: int, end: int, allowed: Sequence[int] | None) -> None:
        """Ask for the token after the rows that end before `end`."""
        self._send(words.encode(Rows(self._session, rung, end, 0, b"", "fp16", True, tuple(allowed or ()))))

    async def hear(self) -> Piece:
        """The next tokens.

        Raises:
            LinkError: the cloud has failed, or says nothing.
        """
        try:
            async with asyncio.timeout(SILENCE_S):
                heard = await self._heard.get()
        except TimeoutError:
            raise LinkError(f"the yardsticks' cloud said nothing for {SILENCE_S:g} s") from None
        if isinstance(heard, Piece):
            return heard
        raise LinkError(f"the yardsticks' cloud failed: {heard.reason}")

    def _send(self, payload: bytes) -> None:
        if not self._transport.publish_soon(UP_TOPIC, payload):
            raise LinkError("the line to the broker is full or lost")

    def _on_words(self, incoming: Incoming) -> None:
        heard = words.decode_to_edge(incoming.payload)
        if heard.session == self._session:
            self._heard.put_nowait(heard)
