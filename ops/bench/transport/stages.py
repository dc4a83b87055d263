"""Where the time of a step's round trip goes: walked by hand in one process, with a clock."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Self

from broker.embedded.framing import Framer
from broker.embedded.primitives import MAX_VARINT
from broker.publish_packet import publish_packet, read_publish
from broker.subscriptions import Subscriptions
from broker.transport import Incoming
from cloud_worker.session import Accept, WorkerSession
from edge_agent.cloud_session import CloudSession
from edge_agent.session_actions import SendStep
from edge_agent.states import StateLog
from edge_agent.want import Want
from ops.bench.report import BenchTable, Row, Samples
from ops.bench.transport.question import Size
from shared.errors import LinkError
from shared.wire import topics
from shared.wire.codec import decode_to_edge, decode_to_worker, encode
from shared.wire.messages import DrawnToken, Opened, Sampling, Step, Tokens
from shared.wire.topics import SessionAddress

_WALKS: Final = 300
_ADDRESS: Final = SessionAddress("bench", "hub", "s-3f9c0a7be1d2c455")
_WORKER: Final = "worker-1"
_VOCAB: Final = 1 << 16
_RECV_BYTES: Final = 65_536


class Stages:
    """A step's way on foot, without a broker; each stage's times are kept.

    Args:
        size: of the step.
    """

    def __init__(self, size: Size) -> None:
        self.us: dict[str, list[float]] = {}
        self._row = bytes(size.states)
        self._states = StateLog(size.states)
        self._core = CloudSession("0" * 64, _VOCAB, "fp32", Sampling(), self._states)
        self._session = WorkerSession(_ADDRESS, 1, "fp32", Sampling(), 1 << 20, 0.0)
        self._core.open(0.0)
        self._core.on_message(Opened(1, _WORKER, 0), 0.0)
        self._line = _Line()

    @classmethod
    async def measured(cls, size: Size) -> Self:
        """Walk the way often enough."""
        stages = cls(size)
        with stages._line, ThreadPoolExecutor(1) as thread:
            for _ in range(_WALKS):
                await stages._walk(thread)
        return stages

    def table(self) -> BenchTable:
        """The stages in the order of the way."""
        rows: list[Row] = [{"stage": name, "µs": Samples.of(us)} for name, us in self.us.items()]
        title = f"where the time goes: one step of {len(self._row)} B of states, without the broker"
        return BenchTable(title, ("stage", "µs"), rows)

    async def _walk(self, thread: ThreadPoolExecutor) -> None:
        step, packet = self._ask()
        work_step = self._receive(step, packet)
        with self._stage("worker: to the engine's thread and back"):
            await asyncio.get_running_loop().run_in_executor(thread, _nothing)
        self._answer(work_step)
        with self._stage("a turn of the event loop"):
            await asyncio.sleep(0)

    def _ask(self) -> tuple[Step, bytes]:
        with self._stage("edge: decide what to send, and encode it"):
            position = self._states.frontier
            self._states.append(self._row)
            (action,) = self._core.ask([Want(position)], 0.0)
            if not isinstance(action, SendStep):
                raise LinkError(f"an open session answered a question with {action}")
            payload = encode(action.message)
        with self._stage("edge: topic and packet"):
            packet = publish_packet(topics.steps_topic(_ADDRESS, _WORKER), payload)
        return action.message, packet

    def _receive(self, step: Step, packet: bytes) -> Step:
        with self._stage("socket: one write and one read (four on the way)"):
            data = self._line.carry(packet)
        with self._stage("worker: cut packets, find the handler"):
            incoming = self._line.take(data)
        with self._stage("worker: whose step, decode, judge"):
            topics.parse_steps(incoming.topic)
            decoded = decode_to_worker(incoming.payload)
            if decoded != step or not isinstance(self._session.judge(step, 0.0), Accept):
                raise LinkError("a step did not arrive as it was sent")
        return step

    def _answer(self, step: Step) -> None:
        with self._stage("worker: encode the reply, topic and packet"):
            drawn = [DrawnToken(position, 1, 0.5) for position in step.wants]
            reply = encode(Tokens(step.epoch, step.number, drawn, 100, 100, 1))
            packet = publish_packet(topics.reply_topic(_ADDRESS), reply)
        with self._stage("edge: cut packets, find the handler, decode"):
            incoming = self._line.take(packet)
            message = decode_to_edge(incoming.payload)
        with self._stage("edge: settle the question"):
            self._core.on_message(message, 0.0)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began_s = time.perf_counter()
        yield
        self.us.setdefault(name, []).append((time.perf_counter() - began_s) * 1e6)


class _Line:
    """A socket pair, and what receives behind it."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._framer = Framer(MAX_VARINT)
        self._table = Subscriptions()
        self._taken: list[Incoming] = []
        for topic_filter in (
            topics.steps_filter(_ADDRESS.tenant, _WORKER),
            topics.reply_filter(_ADDRESS.tenant, _ADDRESS.edge),
        ):
            self._table.want(topic_filter, self._taken.append, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._near.close()
        self._far.close()

    def carry(self, packet: bytes) -> bytes:
        """Through the kernel."""
        self._near.sendall(packet)
        data = b""
        while len(data) < len(packet):
            data += self._far.recv(_RECV_BYTES)
        return data

    def take(self, data: bytes) -> Incoming:
        """As the transport does."""
        for first, body in self._framer.feed(data):
            incoming = read_publish(first, body)
            if incoming is not None:
                self._table.dispatch(incoming)
        return self._taken.pop()


def _nothing() -> None:
    """What the empty engine does."""
