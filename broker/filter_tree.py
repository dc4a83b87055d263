"""A tree of topic filters: which of many filters match a topic, in time that grows with its levels."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

_MAX_CACHED_TOPICS = 4_096
"""A session's topics repeat for every token; past this many the cache starts anew."""


class _Node(Generic[V]):
    """One level of the filters below it."""

    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] = {}
        self.values: dict[Hashable, V] = {}

    @property
    def empty(self) -> bool:
        return not self.children and not self.values


class FilterTree(Generic[V]):
    """Values under topic filters, each with a key that is unique within its filter.

    Source: MQTT 5 section 4.7.
    """

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()
        self._cache: dict[str, tuple[V, ...]] = {}

    def get(self, topic_filter: str, key: Hashable) -> V | None:
        """The value kept for `key` under exactly this filter."""
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return None
            node = child
        return node.values.get(key)

    def put(self, topic_filter: str, key: Hashable, value: V) -> None:
        """Keep `value` for `key` under a filter, instead of what was there."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.values[key] = value
        self._cache.clear()

    def discard(self, topic_filter: str, key: Hashable) -> V | None:
        """Forget the value of `key` under a filter and return it; None when there was none."""
        path, node = [], self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return None
            path.append((node, level))
            node = child
        value = node.values.pop(key, None)
        self._prune(path)
        self._cache.clear()
        return value

    def match(self, topic: str) -> tuple[V, ...]:
        """Every value whose filter matches the topic."""
        found = self._cache.get(topic)
        if found is None:
            found = tuple(self._walk(topic))
            if len(self._cache) >= _MAX_CACHED_TOPICS:
                self._cache.clear()
            self._cache[topic] = found
        return found

    def _walk(self, topic: str) -> list[V]:
        # Wildcards don't reach topics that begin with $ [MQTT-4.7.2-1].
        nodes, found, wild = [self._root], list[V](), not topic.startswith("$")
        for level in topic.split("/"):
            below: list[_Node[V]] = []
            for node in nodes:
                children = node.children
                if (exact := children.get(level)) is not None:
                    below.append(exact)
                if wild and (any_one := children.get("+")) is not None:
                    below.append(any_one)
                if wild and (any_rest := children.get("#")) is not None:
                    found.extend(any_rest.values.values())
            nodes, wild = below, True
        for node in nodes:
            found.extend(node.values.values())
            if (parent_too := node.children.get("#")) is not None:
                found.extend(parent_too.values.values())
        return found

    @staticmethod
    def _prune(path: list[tuple[_Node[V], str]]) -> None:
        for parent, level in reversed(path):
            if not parent.children[level].empty:
                return
            del parent.children[level]
