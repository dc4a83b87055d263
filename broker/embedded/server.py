"""The embedded broker's sockets: an asyncio server around `BrokerCore`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Callable
from typing import Self, cast

import structlog

from broker.embedded.auth import Authenticator, Authoriser
from broker.embedded.connection import Connection
from broker.embedded.core import BrokerCore
from broker.embedded.counters import Counters
from broker.embedded.reasons import Reason
from broker.embedded.settings import BrokerSettings
from broker.embedded.tls import server_context
from shared.errors import LinkError

_log = structlog.get_logger(__name__)


class EmbeddedBroker:
    """An MQTT 5 and 3.1.1 broker in this process; everything it knows is in memory.

    Args:
        settings: where it listens and how much it takes.
        authenticator: who may connect; without one, the password file decides, or everybody may.
        authoriser: who may publish and subscribe what; without one, the ACL file decides, or everybody may.
        ssl_context: TLS of your own making; without one, `certfile` and `keyfile` decide.
    """

    def __init__(
        self,
        settings: BrokerSettings | None = None,
        *,
        authenticator: Authenticator | None = None,
        authoriser: Authoriser | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings or BrokerSettings()
        self._hooks = (authenticator, authoriser)
        self._ssl_context = ssl_context or server_context(self.settings)
        self._server: asyncio.Server | None = None
        self._core: BrokerCore | None = None
        self._sockets: dict[Connection, _Socket] = {}
        self._wake: asyncio.TimerHandle | None = None

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self.settings.host

    @property
    def port(self) -> int:
        """The port it listens on, also when the settings asked for any free one.

        Raises:
            LinkError: it has not been started.
        """
        if self._server is None:
            raise LinkError("the embedded broker is not running; start it first")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def counters(self) -> Counters:
        """What it counted since it started."""
        return Counters() if self._core is None else self._core.counters

    async def start(self) -> None:
        """Listen.

        Raises:
            LinkError: the address can't be listened on, usually because another broker does.
        """
        loop = asyncio.get_running_loop()
        self._core = BrokerCore(self.settings, loop.time, *self._hooks)
        host, port = self.settings.host, self.settings.port
        try:
            self._server = await loop.create_server(self._new_socket, host, port, ssl=self._ssl_context)
        except OSError as error:
            raise LinkError(
                f"can't listen on {host}:{port} ({error.strerror}); choose another port"
            ) from None
        _log.info("broker_listening", host=host, port=self.port, tls=self._ssl_context is not None)

    async def stop(self) -> None:
        """Tell every client, close, and forget everything; stopping twice is fine."""
        server, core = self._server, self._core
        if server is None or core is None:
            return
        server.close()
        for connection in list(core.connections):
            connection.close(Reason.SERVER_SHUTTING_DOWN)
        self.flush()
        await self._drained()
        if self._wake is not None:
            self._wake.cancel()
        self._server = self._wake = None
        _log.info("broker_stopped")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def flush(self) -> None:
        """Write what every connection has to say; then set the alarm for the next deadline."""
        core = self._core
        if core is None:
            return
        while core.unflushed:
            socket = self._sockets.get(core.unflushed.popleft())
            if socket is not None:
                socket.flush()
        self._set_alarm(core)

    def forget(self, connection: Connection) -> None:
        """A socket is closed."""
        self._sockets.pop(connection, None)

    def _new_socket(self) -> _Socket:
        return _Socket(self)

    def admit(self, socket: _Socket, certificate_name: str | None) -> Connection | None:
        """A connection for a new socket; None when even saying "busy" would be too much."""
        core = self._core
        # Beyond the limit a few are still told "server busy"; past twice the limit they are dropped.
        if core is None or self._server is None or len(self._sockets) >= 2 * self.settings.max_connections:
            return None
        connection = Connection(core, certificate_name)
        self._sockets[connection] = socket
        self._set_alarm(core)
        return connection

    def _set_alarm(self, core: BrokerCore) -> None:
        due_s = core.timers.next_at_s()
        if self._wake is not None:
            if due_s is not None and self._wake.when() <= due_s:
                return
            self._wake.cancel()
            self._wake = None
        if due_s is not None:
            self._wake = asyncio.get_running_loop().call_at(due_s, self._on_alarm, core)

    def _on_alarm(self, core: BrokerCore) -> None:
        self._wake = None
        core.timers.run(core.clock())
        self.flush()

    async def _drained(self) -> None:
        """Wait until every socket is closed, but no longer than they are given."""
        closed = [socket.closed for socket in self._sockets.values()]
        if closed:
            await asyncio.wait(closed, timeout=self.settings.close_timeout_s)
        for socket in list(self._sockets.values()):
            socket.abort()
        if self._server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), self.settings.close_timeout_s)


class _Socket(asyncio.Protocol):
    """Moves bytes between a transport and a connection."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._aborting: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        # asyncio sets TCP_NODELAY itself; without it a QoS 1 round trip waits 40 ms for delayed ACKs.
        stream = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._transport = stream
        self._connection = self._broker.admit(self, _common_name(stream))
        if self._connection is None:
            stream.abort()
            return
        stream.set_write_buffer_limits(high=self._broker.settings.max_write_buffer_bytes)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        connection = self._connection
        if connection is None or connection.closing:
            return
        try:
            connection.receive(data)
        except Exception:  # noqa: BLE001  one client's bytes must never stop the broker for the others
            _log.exception("broker_connection_failed")
            connection.close(Reason.IMPLEMENTATION_SPECIFIC_ERROR)
        self._broker.flush()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        if self._connection is not None:
            self._connection.paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._connection is not None:
            self._connection.paused = False
            self._connection.pump()
            self._broker.flush()

    def connection_lost(self, _: Exception | None) -> None:
        """The socket is closed."""
        if self._aborting is not None:
            self._aborting.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if self._connection is not None:
            self._broker.forget(self._connection)
            self._connection.lost()
            self._broker.flush()

    def flush(self) -> None:
        """Write the connection's output; close when it is done with."""
        connection, transport = self._connection, self._transport
        if connection is None or transport is None:
            return
        while data := connection.take_output():
            transport.write(data)
            if connection.paused or connection.closing:
                break
            connection.pump()
        if connection.closing and self._aborting is None:
            self._close(connection, transport)

    def abort(self) -> None:
        """Close without writing what is left."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self, connection: Connection, transport: asyncio.Transport) -> None:
        timeout_s = self._broker.settings.close_timeout_s
        self._aborting = asyncio.get_running_loop().call_later(timeout_s, transport.abort)
        transport.close()
        connection.lost()


async def serve(settings: BrokerSettings, ready: Callable[[EmbeddedBroker], None] | None = None) -> None:
    """Run a broker until SIGTERM or SIGINT, then stop it in order.

    Args:
        settings: where it listens and how much it takes.
        ready: called once it listens, with the broker.

    Raises:
        LinkError: the address can't be listened on.
    """
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with EmbeddedBroker(settings) as broker:
            if ready is not None:
                ready(broker)
            await stopping.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _common_name(transport: asyncio.Transport) -> str | None:
    """The common name of the client's certificate, when it brought one."""
    certificate = transport.get_extra_info("peercert") or {}
    for relative_name in certificate.get("subject", ()):
        for name, value in relative_name:
            if name == "commonName":
                return str(value)
    return None
