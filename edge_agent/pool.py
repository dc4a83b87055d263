"""Which workers could serve this edge, as their presence says. Sans I/O.

Presence may be late or out of date, so it never decides alone whether the cloud is asked: it gives a
failure its reason, and tells the link's health when there is nobody, or somebody again.
"""

from __future__ import annotations

from broker.presence import Roster, Status


class Pool:
    """The workers of one bundle's pool, and of others that bear its name.

    Args:
        model: the bundle's name.
        digest: the bundle's digest.
    """

    def __init__(self, model: str, digest: str) -> None:
        self._model = model
        self._digest = digest
        self._roster = Roster()
        self._ours: set[str] = set()
        self._strangers: dict[str, str] = {}  # worker → its digest
        self._met = False

    @property
    def deserted(self) -> bool:
        """Whether everybody has left, or everybody who is there serves another bundle."""
        return not self._ours and (self._met or bool(self._strangers))

    def has(self, worker: str) -> bool:
        """Whether that worker is there and serves this bundle."""
        return worker in self._ours

    def forget(self) -> None:
        """The connection is lost: who vanishes meanwhile sends no will, and the next one tells anew."""
        self._ours.clear()
        self._strangers.clear()
        self._met = False

    def hear(self, worker: str, status: Status) -> bool:
        """Take a worker's status in; False when it is older than what is known."""
        if not self._roster.hear(worker, status):
            return False
        self._ours.discard(worker)
        self._strangers.pop(worker, None)
        if status.online and status.bundle == self._model:
            if status.digest == self._digest:
                self._ours.add(worker)
                self._met = True
            else:
                self._strangers[worker] = status.digest
        return True

    def absence(self) -> str:
        """Why nobody takes a session; empty when somebody might."""
        if not self.deserted:
            return ""
        if self._strangers:
            other = next(iter(self._strangers.values()))
            return (
                f"the edge's bundle is {self._digest}, the pool's is {other}: "
                "install the same bundle on both sides"
            )
        return "no worker is online"
