"""The transport over MQTT 5: connects, subscribes, announces itself, and does so again after every loss."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Self

import aiomqtt
import structlog

from broker.backoff import Backoff
from broker.changes import Changes
from broker.mqtt_settings import MqttSettings
from broker.paho_link import PahoLink, message_properties, will_properties
from broker.presence import OFFLINE_EXPIRY_S
from broker.subscriptions import REFUSED, Subscriptions
from broker.topics import check_topic
from broker.transport import Handler
from shared.errors import LinkError, MessageTooLargeError

_log = structlog.get_logger(__name__)

_FAREWELL_TIMEOUT_S = 1.0
"""Saying that we go is quicker than the will, which says it otherwise."""


class MqttTransport:
    """A `Transport` over aiomqtt; `start` returns at once, whether or not the broker is there.

    Attributes:
        subscriptions: what is wanted and granted, with counters.
        trouble: why there is no connection, in the words of whoever refused; empty while there is one.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self.settings = settings
        self.subscriptions = Subscriptions()
        self.trouble = ""
        self._backoff = Backoff(settings.first_retry_s, settings.longest_retry_s)
        self._changes = Changes()
        self._callbacks: list[Callable[[bool], None]] = []
        self._link: PahoLink | None = None
        self._lost: asyncio.Future[None] | None = None
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker is there and has answered for every subscription."""
        return self._link is not None

    async def start(self) -> None:
        """Begin to connect; starting twice is fine."""
        if self._running is None:
            self._stopping.clear()
            self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Say goodbye and close; waits no longer than connecting may take."""
        running, self._running = self._running, None
        if running is None:
            return
        self._stopping.set()
        self._changes.notify()
        await asyncio.wait({running}, timeout=self.settings.connect_timeout_s + _FAREWELL_TIMEOUT_S)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def subscribe(
        self, topic_filter: str, handler: Handler, *, qos: int = 0, retain_as_published: bool = False
    ) -> None:
        """See `Transport.subscribe`."""
        self.subscriptions.want(topic_filter, handler, qos, retain_as_published=retain_as_published)
        self._changes.notify()

    def unsubscribe(self, topic_filter: str) -> None:
        """See `Transport.unsubscribe`."""
        self.subscriptions.drop(topic_filter)
        self._changes.notify()

    async def subscribed(self, topic_filter: str, timeout_s: float) -> None:
        """See `Transport.subscribed`."""
        table = self.subscriptions
        if not table.wanted(topic_filter):
            raise LinkError(f"{topic_filter} is not subscribed to; call subscribe first")
        if not await self._changes.until(lambda: table.answer_for(topic_filter) is not None, timeout_s):
            raise LinkError(f"the broker has not acknowledged {topic_filter} within {timeout_s:g} s")
        reason = table.answer_for(topic_filter)
        if reason is not None and reason >= REFUSED:
            raise LinkError(f"the broker refuses {topic_filter} (0x{reason:02X}); check its access rules")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        user_properties: tuple[tuple[str, str], ...] = (),
        timeout_s: float,
    ) -> None:
        """See `Transport.publish`."""
        link, lost = self._link, self._lost
        if link is None or lost is None:
            raise LinkError(f"not connected to {self._broker}")
        check_topic(topic)
        if not link.fits(topic, payload):
            raise MessageTooLargeError(
                f"{self._broker} takes packets of {link.max_packet_bytes} bytes at most"
            )
        properties = message_properties(expiry_s, response_topic, correlation_data, user_properties)
        sending = asyncio.ensure_future(
            link.publish(topic, payload, qos, retain, properties, timeout=math.inf)  # bounded just below
        )
        try:
            await asyncio.wait((sending, lost), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            self._check_sent(sending, lost, timeout_s)
        finally:
            sending.cancel()

    def publish_soon(self, topic: str, payload: bytes) -> bool:
        """See `Transport.publish_soon`."""
        link = self._link
        if link is None or link.unwritten_bytes + len(payload) > self.settings.max_unwritten_bytes:
            return False
        if not link.fits(topic, payload):
            _log.warning("message_too_large", bytes=len(payload), allowed=link.max_packet_bytes)
            return False
        if link.publish_now(topic, payload):
            return True
        self._go_down()
        return False

    def flush(self) -> None:
        """See `Transport.flush`."""
        if self._link is not None:
            self._link.flush()

    async def probe(self, timeout_s: float) -> bool:
        """See `Transport.probe`."""
        link, table = self._link, self.subscriptions
        asked = table.one_granted()
        if link is None or not asked:
            return link is not None
        try:
            # Not new, so nothing retained is sent again for it.
            await link.subscribe_all(asked, table.as_published, timeout_s, retained_too=False)
        except aiomqtt.MqttError as error:
            if self._link is link:
                _log.warning("broker_silent", broker=self._broker, detail=str(error))
                self._go_down()
            return False
        return True

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """See `Transport.on_state`."""
        self._callbacks.append(callback)

    async def wait_connected(self, timeout_s: float) -> bool:
        """See `Transport.wait_connected`."""
        return await self._changes.until(lambda: self.connected, timeout_s)

    @property
    def _broker(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    # --- the life of a connection -----------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping.is_set():
            link = self._new_link()
            try:
                await self._live(link)
            except Exception as error:  # noqa: BLE001  whatever ended it, the next attempt is the answer
                # Said once for each reason: the attempts that follow would only repeat it.
                tell = _log.info if self.trouble == str(error) else _log.warning
                self.trouble = str(error)
                tell("broker_unreachable", broker=self._broker, detail=self.trouble)
            finally:
                self._go_down()
                link.discard()
            await self._changes.until(self._stopping.is_set, self._backoff.next_s())

    async def _live(self, link: PahoLink) -> None:
        """Everything from connecting to the end of the connection."""
        async with link:
            try:
                await self._until_one_ends(self._serve(link), self._stopping.wait())
            finally:
                self._go_down()
            await self._say_farewell(link)

    async def _serve(self, link: PahoLink) -> None:
        """Take up work on a new connection and stay until it breaks, which is raised."""
        await self._update_subscriptions(link)
        await self._announce(link)
        lost = self._go_up(link)
        began_s = asyncio.get_running_loop().time()
        try:
            await self._until_one_ends(link.until_lost(), self._maintain(link), _broken(lost))
        finally:
            # Two clients of one id throw each other out for ever; only a lasting connection is a success.
            if asyncio.get_running_loop().time() - began_s >= self.settings.longest_retry_s / 2:
                self._backoff.reset()

    @staticmethod
    async def _until_one_ends(*waits: Any) -> None:
        tasks = [asyncio.ensure_future(each) for each in waits]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _maintain(self, link: PahoLink) -> None:
        """Bring filters that were added or dropped meanwhile to the broker."""
        table = self.subscriptions
        while True:
            await self._changes.until(lambda: bool(table.to_add() or table.to_remove()), None)
            await self._update_subscriptions(link)

    async def _update_subscriptions(self, link: PahoLink) -> None:
        adding, removing = self.subscriptions.to_add(), self.subscriptions.to_remove()
        if removing:
            await link.unsubscribe(removing)
            self.subscriptions.removed(removing)
        if adding:
            self.subscriptions.granted(await link.subscribe_all(adding, self.subscriptions.as_published))
        self._changes.notify()

    async def _announce(self, link: PahoLink) -> None:
        presence = self.settings.presence
        if presence is not None:
            link.owes_farewell = True
            await link.publish(presence.topic, presence.payload(online=True), 1, retain=True)

    async def _say_farewell(self, link: PahoLink) -> None:
        presence = self.settings.presence
        if presence is None or not link.owes_farewell:
            return
        farewell = presence.payload(online=False)
        expiry = message_properties(OFFLINE_EXPIRY_S)
        try:
            await link.publish(
                presence.topic, farewell, 1, retain=True, properties=expiry, timeout=_FAREWELL_TIMEOUT_S
            )
        except aiomqtt.MqttError as error:
            _log.info("farewell_left_to_the_will", detail=str(error))
        else:
            link.owes_farewell = False

    def _new_link(self) -> PahoLink:
        settings = self.settings
        return PahoLink(
            settings.host,
            settings.port,
            settings.client_id,
            self.subscriptions.dispatch,
            username=settings.username,
            password=settings.password,
            tls=settings.tls,
            will=self._will(),
            keepalive_s=settings.keepalive_s,
            timeout_s=settings.connect_timeout_s,
        )

    def _will(self) -> aiomqtt.Will | None:
        """What the broker says of us when this connection breaks."""
        presence = self.settings.presence
        if presence is None:
            return None
        presence.next_birth()
        lost = presence.payload(online=False, lost=True)
        expiry = will_properties(OFFLINE_EXPIRY_S)
        return aiomqtt.Will(presence.topic, lost, qos=1, retain=True, properties=expiry)

    def _go_up(self, link: PahoLink) -> asyncio.Future[None]:
        """Let others use the connection; returns what is done once nobody should any more."""
        self._link, self.trouble = link, ""
        self._lost = lost = asyncio.get_running_loop().create_future()
        _log.info("broker_connected", broker=self._broker)
        self._tell(connected=True)
        return lost

    def _go_down(self) -> None:
        if self._link is None:
            self.subscriptions.connection_lost()
            return
        self._link = None
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self.subscriptions.connection_lost()
        _log.info("broker_lost", broker=self._broker)
        self._tell(connected=False)

    def _tell(self, *, connected: bool) -> None:
        self._changes.notify()
        for callback in self._callbacks:
            try:
                callback(connected)
            except Exception:  # noqa: BLE001  one listener's fault must not keep the others from knowing
                _log.exception("state_callback_failed", connected=connected)

    def _check_sent(
        self, sending: asyncio.Future[None], lost: asyncio.Future[None], timeout_s: float
    ) -> None:
        if sending.done():
            try:
                sending.result()
            except aiomqtt.MqttError as error:
                self._go_down()
                raise LinkError(f"{self._broker} did not take a message: {error}") from None
            return
        if lost.done():
            raise LinkError(f"the connection to {self._broker} was lost while publishing")
        raise LinkError(f"{self._broker} has not acknowledged a message within {timeout_s:g} s")


async def _broken(lost: asyncio.Future[None]) -> None:
    """Raise once a publisher has found the connection unusable; paho may not have noticed."""
    await asyncio.wait({lost})
    raise LinkError("the connection can't be written to")
