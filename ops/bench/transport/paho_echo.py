"""A bare paho client asks another: threads, no asyncio."""

from __future__ import annotations

import asyncio
import queue
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from ops.bench.transport.question import Size, answer, check, question
from ops.bench.transport.yardstick import TIMEOUT_S
from shared.errors import LinkError

QUESTIONS: Final = "echo/paho/{qos}/questions"
ANSWERS: Final = "echo/paho/{qos}/answers"

T = TypeVar("T")


@contextmanager
def _connected(
    host: str, port: int, topic: str, qos: int, take: Callable[[paho.Client, bytes], None]
) -> Iterator[paho.Client]:
    """A client with a thread of its own, subscribed to one topic."""
    subscribed: queue.Queue[None] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_socket_open = _set_nodelay
    client.on_message = lambda client, _data, message: take(client, bytes(message.payload))
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.on_connect = lambda client, *_: client.subscribe(topic, qos)
    client.connect(host, port)
    client.loop_start()
    try:
        _get(subscribed)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


async def serve(host: str, port: int, ready: Callable[[], None], *, qos: int) -> None:
    """Answer questions until cancelled."""

    def reply(client: paho.Client, payload: bytes) -> None:
        client.publish(ANSWERS.format(qos=qos), answer(payload), qos)

    with _connected(host, port, QUESTIONS.format(qos=qos), qos, reply):
        ready()
        await asyncio.Event().wait()


class PahoEcho:
    """Asks through a broker, on the caller's thread.

    Args:
        client: connected and subscribed to the answers.
        answers: where its thread puts them.
        qos: of questions and answers.
    """

    def __init__(self, client: paho.Client, answers: queue.Queue[bytes], qos: int) -> None:
        self._client = client
        self._answers = answers
        self._qos = qos

    @classmethod
    @contextmanager
    def connected(cls, host: str, port: int, *, qos: int) -> Iterator[Self]:
        """An echo, as long as the context is open."""
        answers: queue.Queue[bytes] = queue.Queue()
        with _connected(
            host, port, ANSWERS.format(qos=qos), qos, lambda _, data: answers.put(data)
        ) as client:
            yield cls(client, answers, qos)

    async def trips(self, size: Size, count: int) -> list[float]:
        """See `Yardstick.trips`; the event loop stands still meanwhile, as it has no part in it."""
        return [self._trip(size) for _ in range(count)]

    def _trip(self, size: Size) -> float:
        asked = question(size)
        began_s = time.perf_counter()
        self._client.publish(QUESTIONS.format(qos=self._qos), asked, self._qos)
        answered = _get(self._answers)
        check(asked, answered)
        return time.perf_counter() - began_s


def _get(answers: queue.Queue[T]) -> T:
    try:
        return answers.get(timeout=TIMEOUT_S)
    except queue.Empty:
        raise LinkError(f"paho heard nothing for {TIMEOUT_S:g} s") from None


def _set_nodelay(_client: paho.Client, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
