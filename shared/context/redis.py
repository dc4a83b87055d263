"""Context store in Redis: one fenced Lua call per operation, so that any worker may call it twice.

Layout: `antiphon:{tenant/edge/session}:meta` (hash: epoch, digest, bytes) and `…:log` (list of
records). The braces keep both keys in one slot of a Redis Cluster; both expire together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote, urlsplit

import redis.asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from shared.context.layout import encode_record, read_append, read_claim
from shared.context.store import (
    DEFAULT_TTL_S,
    MAX_SESSION_BYTES,
    LogRecord,
    SessionLog,
    context_gap,
    session_full,
    stale_epoch,
)
from shared.errors import CodecError, ConfigError, StoreError, StoreRefusedError
from shared.wire.topics import SessionAddress

_T = TypeVar("_T")
# Stands before the digest that is stored: rows of another layout count as another bundle's.
_LAYOUT: Final = "1"
_RETRIES: Final = 1
_MAX_CONNECTIONS: Final = 8  # to each node; past it, calls wait for their turn
_CLUSTER: Final = "+cluster"
_SCHEMES: Final = ("redis", "rediss", "unix", f"redis{_CLUSTER}", f"rediss{_CLUSTER}")
# What redis-py raises; the second is no `RedisError`.
_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
_FIXES: Final[Mapping[type[Exception], str]] = MappingProxyType(
    {
        exceptions.AuthenticationError: "check the user name and password in the Redis URL",
        exceptions.NoPermissionError: "give this Redis user the rights that docs/redis.md lists",
        exceptions.OutOfMemoryError: "raise Redis' maxmemory or set maxmemory-policy volatile-lru",
        exceptions.ReadOnlyError: "point the Redis URL to the primary, this is a replica",
        exceptions.MovedError: "this is one node of a Redis Cluster: begin the URL with redis+cluster://",
        exceptions.RedisClusterException: "check that the URL's node runs, and that its cluster is whole",
        exceptions.ClusterDownError: "wait until every slot of the Redis Cluster is served",
        exceptions.BusyLoadingError: "wait until Redis has loaded its data",
        exceptions.TimeoutError: "check the network and Redis' load",
        exceptions.ConnectionError: "check that Redis runs and that the Redis URL is right",
    }
)
# Refusals that every session meets alike. Others are about what lies under one session's keys, or where.
_OF_ALL: Final = (
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.NoPermissionError,
    exceptions.ClusterDownError,
)
_WORDS_OF_ALL: Final = ("MISCONF", "NOREPLICAS", "BUSY")  # of errors without a class in redis-py


class RedisContextStore:
    """Sessions' logs in Redis, shared by every worker of a pool.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://…` or `unix://…`; `redis+cluster://…` or
            `rediss+cluster://…` for any node of a Redis Cluster. Never logged.
        ttl_s: How long an untouched session is kept.
        max_session_bytes: Rows of one session, with their heads.
        timeout_s: Bound of one connection attempt and of one call to a node.

    Attributes:
        where: The URL without what is secret in it.

    Raises:
        ConfigError: The URL is not one of Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_s: float = DEFAULT_TTL_S,
        max_session_bytes: int = MAX_SESSION_BYTES,
        timeout_s: float = 1.0,
    ) -> None:
        self.where = _where(url)
        self._ttl_ms = int(ttl_s * 1000)
        self._max_session_bytes = max_session_bytes
        self._client = _client(url, timeout_s)
        self._turns = asyncio.Semaphore(_MAX_CONNECTIONS)  # a cluster's pools fail calls past their bound
        self._claim = self._client.register_script(_script("claim"))
        self._append = self._client.register_script(_script("append"))
        self._close = self._client.register_script(_script("close"))

    def __repr__(self) -> str:
        return f"RedisContextStore({self.where})"

    async def ping(self) -> None:
        """Ask whether Redis answers.

        Raises:
            StoreError: It does not; the message says why and what to do.
        """
        try:
            await self._client.ping()
        except _ERRORS as error:
            self._refuse(error)

    async def claim(self, key: SessionAddress, epoch: int, digest: str) -> SessionLog:
        """See `ContextStore.claim`."""
        answer = await self._call(self._claim, key, epoch, f"{_LAYOUT}:{digest}", self._ttl_ms)
        records = self._read(read_claim, answer)
        if isinstance(records, int):
            raise stale_epoch(epoch, records)
        return SessionLog(epoch, records[-1].end_position if records else 0, records)

    async def append(self, key: SessionAddress, epoch: int, record: LogRecord) -> int:
        """See `ContextStore.append`."""
        answer = await self._call(
            self._append, key, epoch, encode_record(record), self._ttl_ms, self._max_session_bytes
        )
        status, value = self._read(read_append, answer)
        match status:
            case b"stale":
                raise stale_epoch(epoch, value)
            case b"gap":
                raise context_gap(record.from_position, value)
            case b"full":
                raise session_full(self._max_session_bytes)
        return value

    async def close(self, key: SessionAddress, epoch: int) -> None:
        """See `ContextStore.close`."""
        await self._call(self._close, key, epoch, self._ttl_ms)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _call(self, script: Any, key: SessionAddress, *args: bytes | str | int) -> object:
        try:
            async with self._turns:
                return await script(keys=_keys(key), args=args)
        except _ERRORS as error:
            self._refuse(error)

    def _read(self, read: Callable[[object], _T], answer: object) -> _T:
        try:
            return read(answer)
        except CodecError as error:
            raise self._foreign() from error

    def _foreign(self) -> StoreRefusedError:
        return StoreRefusedError(
            f"Redis at {self.where} holds a session log that is not readable; "
            "delete its antiphon:* keys, or give this pool a database of its own"
        )

    def _refuse(self, error: Exception) -> NoReturn:
        fix = next((fix for kind, fix in _FIXES.items() if isinstance(error, kind)), "see Redis' own log")
        # redis-py's texts may quote the command with its rows, so only the kind is passed on.
        kind = StoreRefusedError if _is_of_a_key(error) else StoreError
        raise kind(f"Redis at {self.where} failed ({type(error).__name__}): {fix}") from None


def _is_of_a_key(error: Exception) -> bool:
    """Whether Redis answered, and would have done it for another session's keys."""
    if not isinstance(error, exceptions.ResponseError) or isinstance(error, _OF_ALL):
        return False
    return not str(error).startswith(_WORDS_OF_ALL)


def _client(url: str, timeout_s: float) -> Any:
    """Redis' client, or one that knows which node of a cluster has a session's keys."""
    bounds: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(ExponentialBackoff(cap=0.1, base=0.02), _RETRIES),
    }
    scheme, colon, rest = url.partition(":")
    if scheme.endswith(_CLUSTER):
        # Twice as many, since the client asks for the cluster's layout beside the calls.
        bounds["max_connections"] = 2 * _MAX_CONNECTIONS
        return aioredis.RedisCluster.from_url(scheme.removesuffix(_CLUSTER) + colon + rest, **bounds)
    pool = aioredis.BlockingConnectionPool.from_url(
        url, max_connections=_MAX_CONNECTIONS, timeout=timeout_s, **bounds
    )
    return aioredis.Redis.from_pool(pool)


def _where(url: str) -> str:
    """The URL without what is secret in it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in _SCHEMES or not (host or parts.path):
        raise ConfigError("the Redis URL is not valid: write redis://[user:password@]host:port/0")
    if parts.scheme.endswith(_CLUSTER) and parts.path not in {"", "/", "/0"}:
        raise ConfigError(
            "the Redis URL names a database, but a Redis Cluster has none but 0: end it with /0"
        )
    return parts.path if parts.scheme == "unix" else f"{host}:{port or 6379}"


def _keys(key: SessionAddress) -> tuple[str, str]:
    """Ids are quoted, so that no two sessions can meet in one key whatever is in their names."""
    tag = "/".join(quote(part, safe="") for part in key)
    return f"antiphon:{{{tag}}}:meta", f"antiphon:{{{tag}}}:log"


def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")
