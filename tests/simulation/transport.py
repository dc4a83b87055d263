"""A `Transport` over the simulated broker, with the life of `broker.mqtt.MqttTransport`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.backoff import Backoff
from broker.changes import Changes
from broker.presence import Presence
from broker.subscriptions import Subscriptions
from broker.transport import Handler, Incoming
from shared.errors import LinkError
from tests.simulation.net import Cable, SimBroker
from tests.simulation.virtual_loop import Process


class SimTransport:
    """One client: connects, subscribes, announces itself, and does so again after every loss."""

    def __init__(
        self, broker: SimBroker, process: Process, client_id: str, presence: Presence | None, refused: float
    ) -> None:
        self.client_id = client_id
        self.process = process
        self.subscriptions = Subscriptions()
        self._broker = broker
        self._presence = presence
        self._refused = refused
        self._backoff = Backoff(draw=broker.random.random)
        self._changes = Changes()
        self._callbacks: list[Callable[[bool], None]] = []
        self._cable: Cable | None = None
        self._acks: set[asyncio.Future[bool]] = set()
        self._stopping = False
        self.connected = False

    # --- the life of a connection ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        asyncio.get_running_loop().call_soon(self._connect)

    def stop(self) -> None:
        """Say goodbye and close."""
        self._stopping = True
        cable = self._cable
        if cable is not None and cable.whole:
            if self._presence is not None and self.connected:
                self._broker.publish(self._status(online=False))
            self._broker.disconnect(cable)
        self._go_down()

    def _connect(self) -> None:
        if self._stopping or self._cable is not None:
            return
        if not self._broker.reachable(self):
            self._retry()
            return
        will = None
        if self._presence is not None:
            self._presence.next_birth()
            will = self._status(online=False, lost=True)
        self._cable = cable = self._broker.connect(self, will)
        self._broker.round_trip(cable, lambda: self._subscribe(cable))

    def _retry(self) -> None:
        asyncio.get_running_loop().call_later(self._backoff.next_s(), self._connect)

    def _subscribe(self, cable: Cable) -> None:
        if self._cable is not cable:
            return
        for topic_filter, qos in self.subscriptions.to_add().items():
            self._broker.add_filter(cable, topic_filter, qos)
            self.subscriptions.granted({topic_filter: qos})
        if self._presence is not None:
            self._broker.send(cable, self._status(online=True))
        self._broker.round_trip(cable, lambda: self._go_up(cable))

    def _go_up(self, cable: Cable) -> None:
        if self._cable is cable:
            self._backoff.reset()
            self.connected = True
            self._tell()

    def _go_down(self) -> None:
        cable, self._cable = self._cable, None
        self.subscriptions.connection_lost()
        for ack in self._acks:
            if not ack.done():
                ack.set_result(False)
        if cable is not None and cable.whole:
            self._broker.hang_up(cable)
        if self.connected:
            self.connected = False
            self._tell()
        if not self._stopping:
            self._retry()

    def _tell(self) -> None:
        self._broker.trace.add("connected" if self.connected else "disconnected")
        self._changes.notify()
        for callback in self._callbacks:
            callback(self.connected)

    def _status(self, *, online: bool, lost: bool = False) -> Incoming:
        assert self._presence is not None
        payload = self._presence.payload(online=online, lost=lost)
        return Incoming(self._presence.topic, payload, qos=1, retain=True)

    # --- for the broker ----------------------------------------------------------------------------

    def on_incoming(self, cable: Cable, incoming: Incoming) -> None:
        """See `Client`."""
        if self._cable is cable:
            self.subscriptions.dispatch(incoming)

    def on_broken(self, cable: Cable) -> None:
        """See `Client`."""
        if self._cable is cable:
            self._go_down()

    # --- the port ----------------------------------------------------------------------------------

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0) -> None:
        """See `Transport.subscribe`."""
        self.subscriptions.want(topic_filter, handler, qos)
        cable = self._cable
        if cable is not None and self.connected:
            self._broker.round_trip(cable, lambda: self._subscribe_late(cable))

    def _subscribe_late(self, cable: Cable) -> None:
        if self._cable is cable:
            for topic_filter, qos in self.subscriptions.to_add().items():
                self._broker.add_filter(cable, topic_filter, qos)
                self.subscriptions.granted({topic_filter: qos})

    def unsubscribe(self, topic_filter: str) -> None:
        """See `Transport.unsubscribe`."""
        self.subscriptions.drop(topic_filter)
        cable = self._cable
        if cable is not None and self.connected:
            self._broker.round_trip(cable, lambda: cable.filters.pop(topic_filter, None))

    async def subscribed(self, topic_filter: str, timeout_s: float) -> None:
        """See `Transport.subscribed`."""
        granted = self.subscriptions.answer_for
        if not await self._changes.until(lambda: granted(topic_filter) is not None, timeout_s):
            raise LinkError("not acknowledged")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        timeout_s: float,
        **_properties: object,
    ) -> None:
        """See `Transport.publish`."""
        cable = self._cable
        if cable is None or not self.connected:
            raise LinkError("not connected")
        acked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._acks.add(acked)
        self._broker.send(cable, Incoming(topic, payload, qos, retain), lambda: _settle(acked))
        try:
            async with asyncio.timeout(timeout_s):
                if not await acked:
                    raise LinkError("the connection was lost while publishing")
        except TimeoutError:
            raise LinkError("not acknowledged") from None
        finally:
            self._acks.discard(acked)

    def publish_soon(self, topic: str, payload: bytes) -> bool:
        """See `Transport.publish_soon`."""
        if self._cable is None or not self.connected:
            return False
        if self._broker.random.random() < self._refused:
            self._broker.trace.add("line_full")
            return False
        self._broker.send(self._cable, Incoming(topic, payload))
        return True

    def flush(self) -> None:
        """See `Transport.flush`; what is sent is on its way at once."""

    async def probe(self, timeout_s: float) -> bool:
        """See `Transport.probe`."""
        cable = self._cable
        if cable is None or not self.connected:
            return False
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._broker.round_trip(cable, lambda: _settle(answered))
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            if self._cable is cable:
                self._broker.trace.add("broker_silent")
                self._go_down()
            return False

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """See `Transport.on_state`."""
        self._callbacks.append(callback)

    async def wait_connected(self, timeout_s: float) -> bool:
        """See `Transport.wait_connected`."""
        return await self._changes.until(lambda: self.connected, timeout_s)


def _settle(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)
