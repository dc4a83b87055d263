"""The bridge between a home's two buses: device topics that the settings name, and nothing else.

Prompts, answers and token events stay on the bus they belong to; a filter that could match one is
refused. So is one that reaches past the tenant's devices: a bridge must not become a way from the cloud
into whatever else a home's broker carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from broker.topics import check_filter, filters_overlap
from edge_agent.bus import Bus
from edge_agent.lane import Lane
from shared.config import Settings
from shared.errors import ConfigError, TopicError
from shared.wire import topics
from shared.wire.topics import DeviceAddress

# The talk between device and edge; each bus has its own.
_TALK: Final = ("prompt", "answer", "stream")


class Bridge:
    """Both lanes between the buses.

    Args:
        home: the home's bus. cloud: the cloud's.
        settings: which topics go where; checked by `check_bridge`.
    """

    def __init__(self, home: Bus, cloud: Bus, settings: Settings) -> None:
        edge, bus = settings.edge.id, settings.home_bus
        self.out = Lane(home, cloud, bus.bridge_out, edge)
        self.into = Lane(cloud, home, bus.bridge_in, edge)
        self.out.opposite, self.into.opposite = self.into, self.out

    def start(self) -> None:
        """Carry messages from now on."""
        self.out.start()
        self.into.start()

    async def aclose(self) -> None:
        """Stop both lanes."""
        await self.out.aclose()
        await self.into.aclose()


def check_bridge(settings: Settings) -> None:
    """See that the bridge carries device topics only, and each of them once.

    Raises:
        ConfigError: a filter that is too wide, or two that overlap; it names the filter and the fix.
    """
    bus, tenant = settings.home_bus, settings.general.tenant
    for key, filters in (("home_bus.bridge_out", bus.bridge_out), ("home_bus.bridge_in", bus.bridge_in)):
        for each in filters:
            _check_filter(key, each, tenant)
        _check_disjoint(key, filters)


def _check_filter(key: str, topic_filter: str, tenant: str) -> None:
    root = topics.device_topic(DeviceAddress(tenant, ""), "").removesuffix("/")
    try:
        check_filter(topic_filter)
    except TopicError as error:
        raise ConfigError(f"{key}: {topic_filter!r} is no topic filter: {error}") from None
    if not topic_filter.startswith(root):
        raise ConfigError(
            f"{key}: {topic_filter!r} reaches past this tenant's devices; only topics under {root} may be "
            f"bridged, for example {root}+/state"
        )
    for leaf in _TALK:
        talk = topics.device_topic(DeviceAddress(tenant, "+"), leaf)
        if filters_overlap(topic_filter, talk):
            raise ConfigError(
                f"{key}: {topic_filter!r} would carry {talk}, but prompts and answers stay on their bus "
                f"(the edge serves both): name the topics' own ends, for example {root}+/state"
            )


def _check_disjoint(key: str, filters: Sequence[str]) -> None:
    for left, right in combinations(filters, 2):
        if filters_overlap(left, right):
            raise ConfigError(
                f"{key}: {left!r} and {right!r} match the same topics, which would be carried twice: leave "
                "one of them out"
            )
