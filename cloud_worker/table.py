"""The sessions a worker serves: bounded, least recently used first, idle ones expire. Sans I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

from cloud_worker.session import WorkerSession
from shared.errors import BusyError, QuotaError
from shared.wire.topics import SessionAddress

# About the time of a short answer: after it somebody's cache may be free.
CROWDED_S = 0.1


class SessionTable:
    """Sessions by address.

    Args:
        max_sessions: bound; when it is reached, a session idle for `idle_s` makes room.
        max_sessions_per_edge: the same for each edge, which makes room among its own.
        ttl_s: a session without a sign of life for that long is an orphan.
        idle_s: a session this long silent may be evicted; it comes back by catch-up.

    Attributes:
        crowded_until_s: until then a session more would only displace one that is at work.
    """

    def __init__(
        self,
        *,
        max_sessions: int = 256,
        max_sessions_per_edge: int = 64,
        ttl_s: float = 600.0,
        idle_s: float = 2.0,
    ) -> None:
        self._max_sessions = max_sessions
        self._max_sessions_per_edge = max_sessions_per_edge
        self._ttl_s = ttl_s
        self._idle_s = idle_s
        self.crowded_until_s = 0.0
        self._sessions: OrderedDict[SessionAddress, WorkerSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, address: SessionAddress) -> bool:
        return address in self._sessions

    def __iter__(self) -> Iterator[WorkerSession]:
        return iter(tuple(self._sessions.values()))

    def get(self, address: SessionAddress) -> WorkerSession | None:
        """The session, now the most recently used; None when it is not here."""
        session = self._sessions.get(address)
        if session is not None:
            self._sessions.move_to_end(address)
        return session

    def put(self, session: WorkerSession, now_s: float) -> list[SessionAddress]:
        """Add a session; those that had to make room.

        Raises:
            BusyError: full of sessions that are all in use.
            QuotaError: full of sessions of this edge that are all in use.
        """
        evicted: list[SessionAddress] = []
        if session.address not in self._sessions:
            evicted = self._room_for(session.address.edge, now_s)
        self._sessions[session.address] = session
        self._sessions.move_to_end(session.address)
        return evicted

    def _room_for(self, edge: str, now_s: float) -> list[SessionAddress]:
        """Make room for one more session of `edge`."""
        if self._sessions_of(edge) >= self._max_sessions_per_edge:
            evicted = self._evict_oldest(now_s, edge)
            if not evicted:
                msg = (
                    f"this edge has {self._max_sessions_per_edge} sessions in use at this worker: "
                    "ask less at once, or raise worker.max_sessions_per_edge"
                )
                raise QuotaError(msg)
            return evicted
        if len(self._sessions) < self._max_sessions:
            return []
        evicted = self._evict_oldest(now_s)
        if not evicted:
            msg = f"{len(self._sessions)} sessions are in use; this worker takes no more"
            raise BusyError(msg)
        return evicted

    def pop(self, address: SessionAddress) -> WorkerSession | None:
        """Take a session out."""
        return self._sessions.pop(address, None)

    def expire(self, now_s: float) -> list[SessionAddress]:
        """Take out the orphans."""
        gone = [a for a, session in self._sessions.items() if now_s - session.touched_s > self._ttl_s]
        for address in gone:
            del self._sessions[address]
        return gone

    def evict_idle(self, now_s: float) -> list[SessionAddress]:
        """Take out every idle session."""
        gone = [a for a, session in self._sessions.items() if self._is_idle(session, now_s)]
        for address in gone:
            del self._sessions[address]
        return gone

    def _evict_oldest(self, now_s: float, edge: str | None = None) -> list[SessionAddress]:
        """Take out the least recently used session, of `edge` if one is named, if it is idle."""
        for address, session in self._sessions.items():
            if edge is None or address.edge == edge:
                if not self._is_idle(session, now_s):
                    return []
                del self._sessions[address]
                return [address]
        return []

    def _is_idle(self, session: WorkerSession, now_s: float) -> bool:
        return now_s - session.touched_s >= self._idle_s

    def _sessions_of(self, edge: str) -> int:
        return sum(address.edge == edge for address in self._sessions)

    def over_budget(
        self, bytes_of: Mapping[SessionAddress, int], budget_bytes: int, now_s: float
    ) -> list[WorkerSession]:
        """Take out sessions until the caches fit.

        Idle ones go first, the longest silent before the others. Then those go that were seated last: the
        ones before them come to the end of their answers and make room, where taking turns would have
        everybody rebuild everything. The one that was seated first always stays.
        """
        excess = sum(bytes_of.values()) - budget_bytes
        holders = [session for session in self._sessions.values() if bytes_of.get(session.address, 0)]
        first = min(holders, key=lambda session: session.seated_s, default=None)
        idle = [session for session in holders if self._is_idle(session, now_s)]
        rest = sorted(holders, key=lambda session: session.seated_s, reverse=True)
        gone: list[WorkerSession] = []
        for session in (*idle, *rest):
            if excess <= 0:
                break
            if session is not first and session.address in self._sessions:
                excess -= bytes_of[session.address]
                gone.append(self._sessions.pop(session.address))
        if any(not self._is_idle(session, now_s) for session in gone):
            self.crowded_until_s = now_s + CROWDED_S
        return gone
