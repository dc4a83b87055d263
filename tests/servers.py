"""Real servers as processes of a test: each on a free port, in a folder of its own, killed at its end."""

from __future__ import annotations

from ops.faults.servers import (
    HOST,
    REPOSITORY,
    ConfiguredMosquitto,
    EmbeddedServer,
    MosquittoServer,
    RedisServer,
    ServerProcess,
    find_binary,
    free_port,
)

__all__ = [
    "HOST",
    "REPOSITORY",
    "ConfiguredMosquitto",
    "EmbeddedServer",
    "MosquittoServer",
    "RedisServer",
    "ServerProcess",
    "find_binary",
    "free_port",
]
