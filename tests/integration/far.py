"""An installation all of whose words cross a slow or lossy link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from ops.faults.proxy import ChaosProxy, Weather
from tests.integration.conftest import Install, Installation
from tests.servers import ServerProcess


@asynccontextmanager
async def far_away(
    install: Install, server: ServerProcess, bundle: Any, weather: Weather, *, workers: int = 2, **given: Any
) -> AsyncIterator[Installation]:
    """Processes that reach their broker over a link with that weather, once they have started."""
    proxy = ChaosProxy(server.host, server.port, seed=3)
    await proxy.start()
    try:
        end = SimpleNamespace(host="127.0.0.1", port=proxy.port)
        async with install(end, bundle, workers=workers, **given) as home:
            proxy.up = proxy.down = weather
            yield home
            proxy.up = proxy.down = Weather()
    finally:
        await proxy.stop()


def outputs(answers: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Texts, and who said each token."""
    return [(answer["output"], [token["rung"] for token in answer["tokens"]]) for answer in answers]
