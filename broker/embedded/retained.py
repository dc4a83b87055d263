"""The last retained message of each topic.

Source: MQTT 5 section 3.3.1.3.
"""

from __future__ import annotations

from math import inf

from broker.embedded.message import Message


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None


_LEVEL_BYTES = 320
"""A level of a topic that no other topic shares; measured with tracemalloc, rounded up."""


class RetainedStore:
    """Retained messages in a tree by topic level.

    Args:
        max_messages: topics kept at most; expired ones make room first.
        max_bytes: the same bound in bytes: of messages, and of their topics' levels.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._root = _Node()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._count = 0
        self._bytes = 0
        # No message expires earlier.
        self._first_expiry_s = inf

    def __len__(self) -> int:
        return self._count

    def keep(self, message: Message, now: float) -> bool:
        """Replace the topic's retained message; an empty payload removes it.

        Returns:
            False when there is no room for it; what the topic had stays then.
        """
        if not message.payload:
            self._remove(message.topic)
            return True
        if not self._has_room(message):
            self._sweep(now)
            if not self._has_room(message):
                return False
        node = self._node(message.topic)
        self._count += node.message is None
        self._bytes += _size_bytes(message) - _size_bytes(node.message)
        node.message = message
        if message.expires_at_s is not None:
            self._first_expiry_s = min(self._first_expiry_s, message.expires_at_s)
        return True

    def match(self, topic_filter: str, now: float) -> list[Message]:
        """Retained messages whose topic the filter matches and that have not expired."""
        nodes = [self._root]
        levels = topic_filter.split("/")
        for place, level in enumerate(levels):
            if level == "#":
                return _live([each for node in nodes for each in _below(node, include_dollar=place > 0)], now)
            nodes = [each for node in nodes for each in _step(node, level, first=place == 0)]
        return _live([node.message for node in nodes if node.message is not None], now)

    def _has_room(self, message: Message) -> bool:
        node = self._find(message.topic)
        known = None if node is None else node.message
        fits = self._bytes + _size_bytes(message) - _size_bytes(known) <= self._max_bytes
        return fits and (known is not None or self._count < self._max_messages)

    def _find(self, topic: str) -> _Node | None:
        node: _Node | None = self._root
        for level in topic.split("/"):
            if node is None:
                return None
            node = node.children.get(level)
        return node

    def _node(self, topic: str) -> _Node:
        node = self._root
        for level in topic.split("/"):
            node = node.children.setdefault(level, _Node())
        return node

    def _remove(self, topic: str) -> None:
        path, node = [], self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                return
            path.append((node, level))
            node = child
        if node.message is not None:
            self._count -= 1
            self._bytes -= _size_bytes(node.message)
            node.message = None
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.message is not None:
                return
            del parent.children[level]

    def _sweep(self, now: float) -> None:
        """Drop what has expired; a store that is full of what has not is not searched for each message."""
        if self._first_expiry_s >= now:
            return
        left = [inf]
        for message in _below(self._root, include_dollar=True):
            if message.expired(now):
                self._remove(message.topic)
            elif message.expires_at_s is not None:
                left.append(message.expires_at_s)
        self._first_expiry_s = min(left)


def _size_bytes(message: Message | None) -> int:
    if message is None:
        return 0
    return message.size_bytes + _LEVEL_BYTES * (message.topic.count("/") + 1)


def _step(node: _Node, level: str, *, first: bool) -> list[_Node]:
    if level != "+":
        child = node.children.get(level)
        return [] if child is None else [child]
    return [child for name, child in node.children.items() if not (first and name.startswith("$"))]


def _below(node: _Node, *, include_dollar: bool) -> list[Message]:
    found, todo = [], [node]
    if not include_dollar:
        todo = [child for name, child in node.children.items() if not name.startswith("$")]
    while todo:
        here = todo.pop()
        if here.message is not None:
            found.append(here.message)
        todo.extend(here.children.values())
    return found


def _live(messages: list[Message], now: float) -> list[Message]:
    return [message for message in messages if not message.expired(now)]
