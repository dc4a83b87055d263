"""Devices that ask without a pause, each in its own way."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec

from ops.faults.heard import By, Heard
from ops.faults.questions import KINDS, question
from ops.faults.rig import Rig
from ops.faults.run import ask
from ops.soak.spells import Spells
from ops.soak.tally import Tally

DEVICES: Final = 8
STANDALONE: Final = "standalone"
_TOKENS: Final = (8, 24, 40)
_QUESTIONS: Final = 1 << 16
# An answer that comes again comes within seconds of a reconnection; these are minutes.
_REMEMBERED: Final = 64


@dataclass(frozen=True)
class Devices:
    """All devices of a soak.

    Attributes:
        rig: whose edge they ask. spells: what answers may look like at which time. tally: judges them.
        seed: of their questions.
    """

    rig: Rig
    spells: Spells
    tally: Tally
    seed: int

    async def ask_until(self, end_s: float, number: int) -> None:
        """Be one device until a monotonic time; the last answer is waited for."""
        rng = Random(f"device {self.seed} {number}")  # noqa: S311  not for secrets
        remembered: deque[Heard] = deque()
        while time.monotonic() < end_s:
            heard, kind = _question(rng, number)
            await self._ask(heard, kind, number)
            remembered.append(heard)
            if len(remembered) > _REMEMBERED:
                self._forget(remembered.popleft(), number)
        while remembered:
            self._forget(remembered.popleft(), number)

    async def _ask(self, heard: Heard, kind: str, number: int) -> None:
        start_s = time.monotonic()
        await ask(self.rig, heard, lambda: None)
        allowance = self.spells.allowance(start_s, time.monotonic())
        await self.tally.judge(heard, allowance, kind, f"device {number}, {heard.by}, {kind}")

    def _forget(self, heard: Heard, number: int) -> None:
        self.tally.lose(len(heard.others), f"device {number}, an answer that came late")
        self.rig.device.forget(heard.request.id)


def _question(rng: Random, number: int) -> tuple[Heard, str]:
    """A device's next question and its kind; every other device asks over MQTT, the last one alone."""
    choice = rng.randrange(_QUESTIONS)
    request, kind = question(choice, rng.choice(_TOKENS)), KINDS[choice % len(KINDS)]
    by: By = "mqtt" if number % 2 else "wire"
    if number == DEVICES - 1:
        return Heard(msgspec.structs.replace(request, mode="standalone"), by), STANDALONE
    return Heard(request, by), kind
