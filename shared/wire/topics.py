"""The topic tree: every topic the system uses is built and taken apart here.

The sender's ids stand in the topic, not in the payload, because the topic is all that a broker can
authorise: an edge allowed to publish under its own id can't speak for another one, and a worker
derives where it answers from the topic it was asked on, never from a response topic in the message
(confused deputy). See `docs/wire.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from shared.errors import TopicError
from shared.wire.ids import check_id

ROOT = "antiphon/v1"
# Longest topic taken apart; every topic of ours is shorter (six ids of 64 and the fixed words).
MAX_TOPIC_CHARS = 512
# Of a bundle's name and digest in its pool's id, which may have 64 characters.
_MODEL_CHARS = 47
_DIGEST_CHARS = 16
# A session's topics come back with every token: built and taken apart once while the session lives.
_MAX_CACHED = 4096


class EdgeAddress(NamedTuple):
    """An edge of a tenant."""

    tenant: str
    edge: str


class SessionAddress(NamedTuple):
    """Who a session belongs to."""

    tenant: str
    edge: str
    session: str

    @property
    def owner(self) -> EdgeAddress:
        """Whose session it is."""
        return EdgeAddress(self.tenant, self.edge)


ParseAddress = Callable[[str], SessionAddress]
ParseId = Callable[[str], str]


class DeviceAddress(NamedTuple):
    """A device of a tenant's home."""

    tenant: str
    device: str


def pool_of(model: str, digest: str) -> str:
    """The id of the pool that serves a bundle: pools of one name and other weights never meet."""
    return f"{model[:_MODEL_CHARS]}.{digest[:_DIGEST_CHARS]}"


def open_topic(address: SessionAddress, model: str) -> str:
    """Where an edge asks the pool of `model` (see `pool_of`) for a worker."""
    return f"{ROOT}/{address.tenant}/pool/{model}/open/{address.edge}/{address.session}"


def open_filter(tenant: str, model: str, pool: str) -> str:
    """The shared subscription of a pool's workers: each open reaches one of them."""
    return f"$share/{pool}/{ROOT}/{tenant}/pool/{model}/open/+/+"


@lru_cache(_MAX_CACHED)
def steps_topic(address: SessionAddress, worker: str) -> str:
    """Where a session's steps go: straight to its worker."""
    return f"{ROOT}/{address.tenant}/worker/{worker}/steps/{address.edge}/{address.session}"


def steps_filter(tenant: str, worker: str) -> str:
    """Every session's steps for one worker."""
    return f"{ROOT}/{tenant}/worker/{worker}/steps/+/+"


def step_group_topic(edge: EdgeAddress, worker: str) -> str:
    """Where steps of several sessions of one edge go together; the sessions stand in the payload."""
    return f"{ROOT}/{edge.tenant}/worker/{worker}/steps/{edge.edge}"


def step_group_filter(tenant: str, worker: str) -> str:
    """Every edge's grouped steps for one worker."""
    return f"{ROOT}/{tenant}/worker/{worker}/steps/+"


@lru_cache(_MAX_CACHED)
def reply_topic(address: SessionAddress) -> str:
    """Where a worker answers a session."""
    return f"{ROOT}/{address.tenant}/edge/{address.edge}/session/{address.session}/reply"


def reply_filter(tenant: str, edge: str) -> str:
    """The replies of all sessions of one edge."""
    return f"{ROOT}/{tenant}/edge/{edge}/session/+/reply"


def reply_group_topic(edge: EdgeAddress) -> str:
    """Where a worker answers several sessions of one edge together; the sessions stand in the payload."""
    return f"{ROOT}/{edge.tenant}/edge/{edge.edge}/replies"


def worker_status_topic(tenant: str, worker: str) -> str:
    """A worker's retained presence."""
    return f"{ROOT}/{tenant}/worker/{worker}/status"


def worker_status_filter(tenant: str) -> str:
    """The presence of every worker of a tenant."""
    return f"{ROOT}/{tenant}/worker/+/status"


def edge_status_topic(tenant: str, edge: str) -> str:
    """An edge's retained presence."""
    return f"{ROOT}/{tenant}/edge/{edge}/status"


def edge_status_filter(tenant: str) -> str:
    """The presence of every edge of a tenant."""
    return f"{ROOT}/{tenant}/edge/+/status"


def device_topic(address: DeviceAddress, leaf: str) -> str:
    """A device's own topic: leaf `prompt`, `answer` or `stream`."""
    return f"{ROOT}/{address.tenant}/device/{address.device}/{leaf}"


def prompt_filter(tenant: str) -> str:
    """The prompts of every device of a tenant."""
    return f"{ROOT}/{tenant}/device/+/prompt"


def _ids(topic: str, shape: str) -> dict[str, str]:
    """The ids in `topic`, by the names that `shape` gives them."""
    if len(topic) > MAX_TOPIC_CHARS:
        msg = f"topic of {len(topic)} characters; the longest of ours has fewer than {MAX_TOPIC_CHARS}"
        raise TopicError(msg)
    words = topic.split("/")
    pattern = f"{ROOT}/{shape}".split("/")
    if len(words) != len(pattern):
        msg = f"topic {topic!r} is not of the form {ROOT}/{shape}"
        raise TopicError(msg)
    ids = {}
    for word, want in zip(words, pattern, strict=True):
        if want.startswith("{"):
            ids[want[1:-1]] = check_id(word, want[1:-1])
        elif word != want:
            msg = f"topic {topic!r} is not of the form {ROOT}/{shape}"
            raise TopicError(msg)
    return ids


def parse_open(topic: str) -> SessionAddress:
    """Who asks for a worker, from an open's topic."""
    ids = _ids(topic, "{tenant}/pool/{model}/open/{edge}/{session}")
    return SessionAddress(ids["tenant"], ids["edge"], ids["session"])


@lru_cache(_MAX_CACHED)
def parse_steps(topic: str) -> SessionAddress:
    """Whose step this is, from a step's topic."""
    ids = _ids(topic, "{tenant}/worker/{worker}/steps/{edge}/{session}")
    return SessionAddress(ids["tenant"], ids["edge"], ids["session"])


def parse_step_group(topic: str) -> EdgeAddress:
    """Whose steps these are, from the topic of a group."""
    ids = _ids(topic, "{tenant}/worker/{worker}/steps/{edge}")
    return EdgeAddress(ids["tenant"], ids["edge"])


@lru_cache(_MAX_CACHED)
def parse_reply(topic: str) -> SessionAddress:
    """Whose reply this is, from a reply's topic."""
    ids = _ids(topic, "{tenant}/edge/{edge}/session/{session}/reply")
    return SessionAddress(ids["tenant"], ids["edge"], ids["session"])


def parse_reply_group(topic: str) -> EdgeAddress:
    """Whose replies these are, from the topic of a group."""
    ids = _ids(topic, "{tenant}/edge/{edge}/replies")
    return EdgeAddress(ids["tenant"], ids["edge"])


@lru_cache(_MAX_CACHED)
def part_topics(group_topic: str) -> Callable[[str], str]:
    """From a group's topic: where a message of one of its sessions would have travelled alone.

    Raises:
        TopicError: it is no group's.
    """
    try:
        edge = parse_reply_group(group_topic)
    except TopicError:
        parse_step_group(group_topic)
        return lambda session: f"{group_topic}/{session}"
    return lambda session: reply_topic(SessionAddress(edge.tenant, edge.edge, session))


def parse_worker_status(topic: str) -> str:
    """The worker a presence message is about."""
    return _ids(topic, "{tenant}/worker/{worker}/status")["worker"]


def parse_edge_status(topic: str) -> str:
    """The edge a presence message is about."""
    return _ids(topic, "{tenant}/edge/{edge}/status")["edge"]


def parse_prompt(topic: str) -> DeviceAddress:
    """The device that published a prompt."""
    ids = _ids(topic, "{tenant}/device/{device}/prompt")
    return DeviceAddress(ids["tenant"], ids["device"])


def own_subtree(address: DeviceAddress, topic: str) -> bool:
    """Whether `topic` is a plain topic inside the device's own subtree: answering there harms nobody."""
    base = f"{ROOT}/{address.tenant}/device/{address.device}/"
    plain = len(topic) <= MAX_TOPIC_CHARS and not any(c in "+#\0" or ord(c) < 32 for c in topic)
    return plain and topic.startswith(base) and topic != base and topic != base + "prompt"
