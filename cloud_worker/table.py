"""The sessions a worker serves: bounded, least recently used first, idle ones expire. Sans I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from cloud_worker.session import WorkerSession
from shared.errors import BusyError
from shared.wire.topics import SessionAddress


class SessionTable:
    """Sessions by address.

    Args:
        max_sessions: bound; when it is reached, a session idle for `idle_s` makes room.
        ttl_s: a session without a sign of life for that long is an orphan.
        idle_s: a session this long silent may be evicted; it comes back by catch-up.
    """

    def __init__(self, *, max_sessions: int = 256, ttl_s: float = 600.0, idle_s: float = 2.0) -> None:
        self._max_sessions = max_sessions
        self._ttl_s = ttl_s
        self._idle_s = idle_s
        self._sessions: OrderedDict[SessionAddress, WorkerSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

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
        """
        evicted: list[SessionAddress] = []
        if session.address not in self._sessions and len(self._sessions) >= self._max_sessions:
            evicted = self.evict_oldest(now_s)
            if not evicted:
                msg = f"{len(self._sessions)} sessions are in use; this worker takes no more"
                raise BusyError(msg)
        self._sessions[session.address] = session
        self._sessions.move_to_end(session.address)
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

    def evict_oldest(self, now_s: float) -> list[SessionAddress]:
        """Take out the least recently used session, if it is idle."""
        for address, session in self._sessions.items():
            if now_s - session.touched_s < self._idle_s:
                return []
            del self._sessions[address]
            return [address]
        return []

    def over_budget(self, bytes_of: Mapping[SessionAddress, int], budget_bytes: int) -> list[WorkerSession]:
        """Take out least recently used sessions until the caches fit; the most recent one always stays."""
        excess = sum(bytes_of.values()) - budget_bytes
        gone: list[WorkerSession] = []
        for address in list(self._sessions)[:-1]:
            if excess <= 0:
                break
            if bytes_of.get(address, 0):
                excess -= bytes_of[address]
                gone.append(self._sessions.pop(address))
        return gone
