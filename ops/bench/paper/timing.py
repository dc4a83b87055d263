"""What one answer cost, whoever gave it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ops.bench.link_proxy import Traffic

NOTHING: Final = Traffic(0, 0)


@dataclass(frozen=True, slots=True)
class Timing:
    """One answer of a peer.

    Attributes:
        tokens: the answer.
        total_s: from the question to the last token, at the edge.
        edge_s: computed at the edge.
        cloud_s: computed in the cloud for this answer.
        requests: replies of the cloud, or forwards of its last rung where it answers alone.
        cloud_flops: floating point operations in the cloud.
        traffic: bytes on the link.
        scale: how many steps each measured one stands for.
    """

    tokens: tuple[int, ...]
    total_s: float
    edge_s: float
    cloud_s: float
    requests: int
    cloud_flops: int
    traffic: Traffic = NOTHING
    scale: float = 1.0

    @property
    def communication_s(self) -> float:
        """What neither side computed in. Where they compute at once, less than the messages took."""
        return max(0.0, self.total_s - self.edge_s - self.cloud_s)

    @property
    def request_rate(self) -> float:
        """Requests per token."""
        return self.requests / max(1, len(self.tokens))

    def figures(self) -> dict[str, float]:
        """For machines."""
        return {
            "tokens": len(self.tokens),
            "total_s": self.total_s,
            "edge_s": self.edge_s,
            "cloud_s": self.cloud_s,
            "requests": self.requests,
            "cloud_flops": self.cloud_flops,
            "bytes_up": self.traffic.up,
            "bytes_down": self.traffic.down,
        }

    def over(self, traffic: Traffic) -> Timing:
        """The same with what the link has counted."""
        up, down = (round(count * self.scale) for count in traffic)
        return replace(self, traffic=Traffic(up, down))


class Agreement(NamedTuple):
    """An answer beside the unsplit model's.

    Attributes:
        until: tokens before the first that differs. share: of all tokens that are the same, by place.
        equal: nothing differs.
    """

    until: int
    share: float
    equal: bool


def agreement(tokens: tuple[int, ...], text: tuple[int, ...]) -> Agreement:
    """How far an answer is the text."""
    same = [ours == theirs for ours, theirs in zip(tokens, text, strict=False)]
    until = same.index(False) if False in same else len(same)
    longest = max(len(tokens), len(text), 1)
    return Agreement(until, sum(same) / longest if text or tokens else 1.0, tokens == text)
