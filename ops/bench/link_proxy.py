"""A link between the home and the cloud, in a process of its own: delay and rate on TCP's bytes.

All connections share the link. In each direction bytes leave one after the other at the link's rate, and
arrive half a round trip later. `ops.faults.proxy` breaks single packets of MQTT; this one only keeps time,
and counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import selectors
import socket
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from shared.errors import ConfigError, LinkError

_HOST: Final = "127.0.0.1"
# What a link carries at once: behind more than that, a short message would wait for a long one to be whole.
_SEGMENT_BYTES: Final = 1448
_START_TIMEOUT_S: Final = 30.0
_ANSWER_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """A line between two places.

    Attributes:
        rtt_ms: there and back, of the line alone; each direction takes half of it.
        mbit_s: what each direction carries.
    """

    rtt_ms: float
    mbit_s: float

    def __post_init__(self) -> None:
        """Refuse what no line can do.

        Raises:
            ConfigError: a value is out of its range.
        """
        if self.rtt_ms < 0 or self.mbit_s <= 0:
            raise ConfigError(
                f"a link of {self.rtt_ms:g} ms and {self.mbit_s:g} Mbit/s can't be: "
                "use a round trip of 0 or more and a rate above 0"
            )

    @property
    def delay_s(self) -> float:
        """One way."""
        return self.rtt_ms / 2e3

    @property
    def bytes_s(self) -> float:
        """The rate of one direction."""
        return self.mbit_s * 1e6 / 8

    def __str__(self) -> str:
        return f"{self.rtt_ms:g} ms, {self.mbit_s:g} Mbit/s"


class Traffic(NamedTuple):
    """Bytes that went over the link since it stands."""

    up: int
    down: int

    def __sub__(self, other: object) -> Traffic:
        if not isinstance(other, Traffic):
            return NotImplemented
        return Traffic(self.up - other.up, self.down - other.down)


@dataclass(slots=True)
class Schedule:
    """When bytes of one direction arrive: first come, first served. Sans I/O.

    Attributes:
        link: of now; what is on its way keeps its time.
        sent_bytes: all that came in.
    """

    link: Link
    sent_bytes: int = 0
    _line_free_s: float = 0.0
    _last_s: float = 0.0

    def arrival_s(self, size_bytes: int, now_s: float) -> float:
        """When `size_bytes` that are sent at `now_s` are there; never before those sent earlier."""
        self.sent_bytes += size_bytes
        self._line_free_s = max(now_s, self._line_free_s) + size_bytes / self.link.bytes_s
        self._last_s = max(self._last_s, self._line_free_s + self.link.delay_s)
        return self._last_s


@dataclass(slots=True)
class _Direction:
    """One direction of the link, with what is on its way."""

    schedule: Schedule
    _waiting: deque[tuple[float, asyncio.Transport, bytes]] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None

    def send(self, target: asyncio.Transport, data: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        for start in range(0, len(data), _SEGMENT_BYTES):
            segment = data[start : start + _SEGMENT_BYTES]
            self._waiting.append((self.schedule.arrival_s(len(segment), now_s), target, segment))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, target, segment = self._waiting.popleft()
            target.write(segment)  # a closed transport drops it, as a closed socket would
        self._set_timer()


class _End(asyncio.Protocol):
    """One end of a connection; what it reads goes to the other end."""

    def __init__(self, direction: _Direction) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._direction = direction
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def join(self, other: _End) -> None:
        """Pass on to `other`, first of all what was read before it was there."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self._direction.send(self.other.transport, data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class LinkServer:
    """The link's own event loop side; `LinkProxy` runs it in a process.

    Args:
        link: how it begins.
        upstream_port: of the broker on this host.
    """

    def __init__(self, link: Link, upstream_port: int) -> None:
        self.up, self.down = _Direction(Schedule(link)), _Direction(Schedule(link))
        self._upstream_port = upstream_port
        self._joining: set[asyncio.Task[None]] = set()

    async def start(self) -> asyncio.Server:
        """Listen on a free port."""
        return await asyncio.get_running_loop().create_server(self._accept, _HOST, 0)

    def set_link(self, link: Link) -> None:
        """From now on the link is like this."""
        self.up.schedule.link = self.down.schedule.link = link

    @property
    def traffic(self) -> Traffic:
        """What went over it so far."""
        return Traffic(self.up.schedule.sent_bytes, self.down.schedule.sent_bytes)

    def _accept(self) -> _End:
        client = _End(self.up)
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        return client

    async def _connect(self, client: _End) -> None:
        upstream = _End(self.down)
        try:
            await asyncio.get_running_loop().create_connection(lambda: upstream, _HOST, self._upstream_port)
        except OSError:  # nobody is there: the nearest to a refusal
            if client.transport is not None:
                client.transport.abort()
            return
        upstream.join(client)
        client.join(upstream)


class LinkProxy:
    """A link as a child process, between clients and a broker on this host.

    Args:
        link: how it begins.
        upstream_port: where the broker listens.
    """

    def __init__(self, link: Link, upstream_port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, link, upstream_port), daemon=True)
        self._port = 0

    def __enter__(self) -> Self:
        self._process.start()
        self._port = self._answer(_START_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()  # ends it
        self._process.join(_ANSWER_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._port

    def set_link(self, link: Link) -> None:
        """From now on the link is like this."""
        self._control.send(link)
        self._answer(_ANSWER_TIMEOUT_S)

    def traffic(self) -> Traffic:
        """What went over it so far."""
        self._control.send(None)
        found: Traffic = self._answer(_ANSWER_TIMEOUT_S)
        return found

    def _answer(self, timeout_s: float) -> Any:
        if not self._control.poll(timeout_s):
            raise LinkError(f"the link's process does not answer within {timeout_s:g} s")
        return self._control.recv()


def _serve(control: Connection, link: Link, upstream_port: int) -> None:
    """The child process: until its parent closes the pipe."""
    # epoll rounds its waits up to whole milliseconds, which a link of 3 ms can't afford; select does not.
    factory = lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())  # noqa: E731  a name says no more
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_run(control, link, upstream_port))


async def _run(control: Connection, link: Link, upstream_port: int) -> None:
    server = LinkServer(link, upstream_port)
    listening = await server.start()
    control.send(listening.sockets[0].getsockname()[1])
    over = asyncio.Event()

    def on_control() -> None:
        try:
            wish = control.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(control.fileno())
            over.set()
            return
        if isinstance(wish, Link):
            server.set_link(wish)
        control.send(server.traffic)

    asyncio.get_running_loop().add_reader(control.fileno(), on_control)
    await over.wait()
    listening.close()
