"""Servers for every test that needs real ones: Mosquitto, Redis, and our own broker."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from hypothesis import settings

from broker.embedded import BrokerSettings, EmbeddedBroker
from tests.servers import EmbeddedServer, MosquittoServer, RedisServer, ServerProcess, find_binary

BROKERS = ["embedded", "mosquitto"]

# The same code gets the same verdict. New counterexamples are looked for by `make search`; no example has a
# deadline, since these machines are shared.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that a test ran in this process sets up logs; the next test finds them as they were."""
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def need_binary(name: str, package: str) -> None:
    """Skip where a server's program is not installed."""
    if find_binary(name) is None:
        pytest.skip(f"{name} is not installed (apt-get install {package})")


@pytest.fixture
def mosquitto_server(tmp_path: Path) -> Iterator[MosquittoServer]:
    """A Mosquitto of the test's own, to be killed, frozen and restarted at will."""
    need_binary("mosquitto", "mosquitto")
    with MosquittoServer(tmp_path / "mosquitto") as server:
        yield server


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    need_binary("redis-server", "redis-server")
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def embedded_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """The embedded broker as a process of the test's own."""
    with EmbeddedServer(tmp_path / "embedded") as server:
        yield server


@pytest.fixture
async def embedded_broker() -> AsyncIterator[EmbeddedBroker]:
    """The embedded broker on the test's own event loop."""
    async with EmbeddedBroker(BrokerSettings(port=0)) as broker:
        yield broker


@pytest.fixture(scope="session", params=BROKERS)
def broker_endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Each broker in turn, shared by many tests: use topics and client ids of your own, don't kill it."""
    folder = tmp_path_factory.mktemp(request.param)
    with make_broker(request.param, folder) as server:
        yield server


@pytest.fixture(params=BROKERS)
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Each broker in turn, a fresh one for the test, to be killed and restarted at will."""
    with make_broker(request.param, tmp_path / request.param) as server:
        yield server


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"test/{uuid4().hex}"


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes ids that no other test uses."""
    return lambda prefix: f"{prefix}-{uuid4().hex[:12]}"


def make_broker(
    kind: str, folder: Path, embedded: dict[str, Any] | None = None, mosquitto: str = ""
) -> ServerProcess:
    """A broker that is not started yet, with settings of each kind."""
    if kind == "embedded":
        return EmbeddedServer(folder, **(embedded or {}))
    need_binary("mosquitto", "mosquitto")
    return MosquittoServer(folder, f"allow_anonymous true\n{mosquitto}")
