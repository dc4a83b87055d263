"""What an answer has to be, whatever failed while it was made.

A degraded token is, by design, the edge's last exit's guess, and everything behind it follows from it. So
the right answer depends on where an answer was degraded and on nothing else: the oracle decodes the
same request with the installation's own stages, in one process and without a network, and takes the
cloud away at exactly the positions that the answer calls degraded. With none of them that is the
fault-free text, which the parity tests compare with the unsplit model's.

What it does not see: a token of the cloud's that was called the edge's, if both are the same token.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from cloud_worker.engine import CloudEngine
from cloud_worker.work import Work
from edge_agent.decode import DecodeLoop, use_of
from edge_agent.engine import EdgeEngine, EngineSession
from edge_agent.exits import ExitPolicy
from edge_agent.generation import Generation
from edge_agent.link import CloudReply, Replies
from edge_agent.request import Request
from edge_agent.rungs import DecodedToken, Guess
from edge_agent.task import task_for
from edge_agent.text_stream import TextStream
from edge_agent.want import Want
from shared.model.bundle import Bundle
from shared.model.loading import load_cloud, load_edge
from shared.tensors.codec import codec_named
from shared.wire.ids import new_id
from shared.wire.topics import SessionAddress

_KEPT: Final = 4096
_TAKEN_AWAY = "the oracle took the cloud away here"


class Said(NamedTuple):
    """One token of an answer, as devices see it."""

    text: str
    rung: str
    degraded: bool


@dataclass(frozen=True)
class Expected:
    """A right answer.

    Attributes:
        said: its tokens.
        output: their text.
        finish_reason: `stop` or `length`.
    """

    said: tuple[Said, ...]
    output: str
    finish_reason: str

    def differs(self, answer: dict[str, Any]) -> str:
        """How an answer differs from the right one, in words; empty when it does not."""
        said = said_of(answer)
        for index, (one, other) in enumerate(zip(said, self.said, strict=False)):
            if one != other:
                return f"token {index} is {one}, and should be {other}"
        if len(said) != len(self.said):
            return f"{len(said)} tokens instead of {len(self.said)}"
        if (answer["output"], answer["finish_reason"]) != (self.output, self.finish_reason):
            return f"{answer['output']!r} ({answer['finish_reason']}) instead of {self.output!r}"
        return ""


def said_of(answer: dict[str, Any]) -> tuple[Said, ...]:
    """An answer's tokens."""
    return tuple(Said(each["text"], each["rung"], each["degraded"]) for each in answer["tokens"])


class Oracle:
    """Decodes requests as an installation without faults would; right answers are kept.

    Args:
        bundle: of edge and workers.
        codec: how states travel.
    """

    def __init__(self, bundle: Bundle, codec: str = "fp32") -> None:
        self._bundle = bundle
        self._task = task_for(bundle, None)
        self._edge = EdgeEngine(
            load_edge(bundle),
            codec_named(codec),
            bundle.hidden_size,
            temperatures=bundle.temperatures,
            measures=bundle.measures,
        )
        self._cloud = CloudEngine(load_cloud(bundle), bundle.hidden_size, bundle.vocab_size)
        self._known: OrderedDict[tuple[Request, frozenset[int]], Expected] = OrderedDict()

    def close(self) -> None:
        """End the engine's thread."""
        self._edge.close()

    async def differs(self, request: Request, answer: dict[str, Any]) -> str:
        """How an answer differs from the right one with its own degraded positions; empty: not at all."""
        if answer["degraded"] < any(token["degraded"] for token in answer["tokens"]):
            return "a token is degraded, and the answer does not say so"
        words = [(await self.expected(request, degraded)).differs(answer) for degraded in _away(answer)] or [
            "the answer says that it is degraded, and no token is"
        ]
        return "" if "" in words else words[0]

    async def expected(self, request: Request, degraded: Sequence[int] | set[int] = ()) -> Expected:
        """The right answer when the cloud is away for the tokens of these indices."""
        key = (same_text(request), frozenset(degraded))
        if key not in self._known:
            self._known[key] = await self._decode(request, key[1])
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    async def _decode(self, request: Request, degraded: frozenset[int]) -> Expected:
        ids = self._task.encode(request.prompt)
        loop = self._loop(request, len(ids))
        session = self._edge.open(ids, request.sampling, loop.policy.thresholds)
        cloud = _InProcessCloud(self._cloud, session, loop.prompt_tokens, degraded, self._edge.codec.name)
        stream = TextStream(self._task.decode)
        said: list[Said] = []

        def on_token(token: DecodedToken) -> None:
            said.append(Said(stream.add(token.token), token.rung, token.degraded))

        reason = await Generation(loop, self._edge, session, cloud, on_token).run()
        cloud.close()
        return Expected(tuple(said), stream.text(), reason)

    def _loop(self, request: Request, prompt_tokens: int) -> DecodeLoop:
        exits = len(self._bundle.partition.exits)
        thresholds = self._bundle.thresholds if request.threshold is None else [request.threshold]
        return DecodeLoop(
            prompt_tokens,
            ExitPolicy.of(thresholds, exits),
            max_new_tokens=min(request.max_new_tokens, self._bundle.max_positions - prompt_tokens),
            stop_tokens=self._bundle.eos_token_ids,
            use_cloud=use_of(request.mode or "collaborative"),
        )


def _away(answer: dict[str, Any]) -> list[set[int]]:
    """Where the cloud may have been away: a stop token, which may be degraded too, is not shown."""
    said = said_of(answer)
    shown = {index for index, token in enumerate(said) if token.degraded}
    patterns = [shown] if shown or not answer["degraded"] else []
    if answer["degraded"] and answer["finish_reason"] == "stop":
        patterns.append({*shown, len(said)})
    return patterns


class _InProcessCloud:
    """What stands where a session's link stands: the cloud stage itself, away where it is told to be."""

    def __init__(
        self,
        engine: CloudEngine,
        session: EngineSession,
        prompt_tokens: int,
        away: frozenset[int],
        codec: str,
    ) -> None:
        self._engine = engine
        self._session = session
        self._prompt_tokens = prompt_tokens
        self._away = away
        self._address = SessionAddress("oracle", "oracle", new_id("s-"))
        self._work = partial(Work, self._address, 1, 1, codec=codec, sampling=session.sampling)
        self._sent = 0
        self._replies: Replies

    def listen(self, replies: Replies) -> None:
        self._replies = replies

    def ask(self, wants: Sequence[Want], until_s: float = math.inf) -> None:  # noqa: ARG002  the port's
        for want in wants:  # without lookahead it is one
            if want.position + 1 - self._prompt_tokens in self._away:
                self._replies.on_no_reply(_TAKEN_AWAY)
            else:
                self._replies.on_reply(CloudReply(want.position, self._answer(want.position)))

    def _answer(self, position: int) -> Guess:
        start, end = self._sent, position + 1
        states = self._session.states.rows(start, end)
        work = self._work(start, end - start, states=states, wants=(position,))
        (done,) = self._engine.run([work], 0.0)
        if done.error is not None:
            raise done.error
        self._sent = end
        return Guess(done.tokens[0].token, done.tokens[0].confidence)

    @property
    def hopeful(self) -> bool:
        """Every question is heard."""
        return True

    def push(self) -> None:
        """States go up with the question that needs them."""

    def rewind(self, length: int) -> None:
        """Nothing goes up before its text is certain."""

    def close(self) -> None:
        self._engine.drop([self._address])


def same_text(request: Request) -> Request:
    """What decides a text: not a request's name, nor how it is sent."""
    return msgspec.structs.replace(request, id="", stream=False, lookahead=None)
