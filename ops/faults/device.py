"""The rig's device: asks over MQTT as any device does, and keeps every answer that comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from broker.transport import Incoming, Transport
from edge_agent.request import TokenEvent
from ops.device_client import DeviceClient
from ops.faults.heard import Heard
from shared.errors import LinkError


class FaultDevice(DeviceClient):
    """A device that also notes answers that come again, for as long as its questions are of interest."""

    def __init__(self, transport: Transport, *, tenant: str, device: str) -> None:
        super().__init__(transport, tenant=tenant, device=device)
        self._asked: dict[str, Heard] = {}

    async def ask_for(self, heard: Heard, timeout_s: float, changed: Callable[[], None]) -> None:
        """Ask, and note everything in `heard`; `changed` is called after each event."""
        self._asked[heard.request.id] = heard

        def on_event(event: TokenEvent) -> None:
            heard.hear(event, time.monotonic())
            changed()

        try:
            await self.ask(msgspec.structs.replace(heard.request, stream=True), timeout_s, on_event)
        except LinkError as error:
            heard.failure = str(error)

    def forget(self, *ids: str) -> None:
        """Answers that come from now on to these questions, or to all, are of no interest."""
        for each in ids or list(self._asked):
            self._asked.pop(each, None)

    def _on_answer(self, incoming: Incoming) -> None:
        try:
            answer: dict[str, Any] = msgspec.json.decode(incoming.payload)
            heard = self._asked.get(answer["id"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return
        if heard is not None:
            heard.take(answer, time.monotonic())
        super()._on_answer(incoming)
