"""What a link does to packets, and when each of them arrives. It knows no socket and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from shared.errors import ConfigError

# How much longer a reordered packet takes at most: several tokens long, and far below any deadline.
LATE_S = 0.05


@dataclass(frozen=True, slots=True)
class Weather:
    """The state of one direction of a link.

    Loss, copies and reordering touch only PUBLISH at QoS 0: everything else TCP delivers, once and in order.

    Attributes:
        delay_s: for every packet. jitter_s: more or less of it, at random; order is kept.
        loss: share of packets that never arrive.
        copies: how often each packet arrives.
        reorder: share of packets that come up to `LATE_S` late, so that later ones overtake them.
        rate_bytes_s: what the line carries; None: as much as comes.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    copies: int = 1
    reorder: float = 0.0
    rate_bytes_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no link can do.

        Raises:
            ConfigError: a value is out of its range.
        """
        if min(self.delay_s, self.jitter_s) < 0:
            raise ConfigError("a link's delay_s and jitter_s can't be negative")
        if not (0 <= self.loss <= 1 and 0 <= self.reorder <= 1):
            raise ConfigError("a link's loss and reorder are shares, from 0 to 1")
        if self.copies < 1:
            raise ConfigError("a link delivers copies ≥ 1 of a packet; for less, use loss")
        if self.rate_bytes_s is not None and self.rate_bytes_s <= 0:
            raise ConfigError("a link's rate_bytes_s is more than 0; for none, make a partition")


class Forecast:
    """Decides the fate of one direction's packets, one after the other.

    Args:
        rng: the direction's own dice. The same packets in the same weather have the same fate.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._line_free_s = 0.0
        self._in_order_s = 0.0

    def arrivals(self, weather: Weather, size_bytes: int, now_s: float, *, mortal: bool) -> list[float]:
        """When each copy of a packet arrives, in seconds of the clock that `now_s` is of; empty: never.

        Args:
            weather: of now.
            size_bytes: of the packet.
            now_s: when it was sent.
            mortal: whether it may be lost, doubled and overtaken.
        """
        if not mortal:
            return [self._in_order(weather, size_bytes, now_s)]
        if self._rng.random() < weather.loss:
            return []
        return [self._arrival(weather, size_bytes, now_s) for _ in range(weather.copies)]

    def _arrival(self, weather: Weather, size_bytes: int, now_s: float) -> float:
        if self._rng.random() >= weather.reorder:
            return self._in_order(weather, size_bytes, now_s)
        return self._alone(weather, size_bytes, now_s) + self._rng.uniform(0.0, LATE_S)

    def _in_order(self, weather: Weather, size_bytes: int, now_s: float) -> float:
        self._in_order_s = max(self._in_order_s, self._alone(weather, size_bytes, now_s))
        return self._in_order_s

    def _alone(self, weather: Weather, size_bytes: int, now_s: float) -> float:
        """When it would arrive if nothing had been sent before it but what keeps the line busy."""
        sent_s = now_s
        if weather.rate_bytes_s is not None:
            sent_s = max(now_s, self._line_free_s) + size_bytes / weather.rate_bytes_s
            self._line_free_s = sent_s
        jitter_s = self._rng.uniform(-weather.jitter_s, weather.jitter_s)
        return sent_s + max(0.0, weather.delay_s + jitter_s)
