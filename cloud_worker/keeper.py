"""Everything a worker holds of its sessions, so that none of its parts outlives the others.

| part          | `forget`                                        | `erase` |
|---------------|-------------------------------------------------|---------|
| table entry   | gone                                            | gone    |
| waiting works | gone                                            | gone    |
| KV cache      | gone                                            | gone    |
| log           | written to its end, there for whoever claims it | deleted |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cloud_worker.runner import Runner
from cloud_worker.scheduler import Scheduler
from cloud_worker.table import SessionTable
from shared.context.write_behind import WriteBehindLog
from shared.wire.topics import SessionAddress


class Keeper(NamedTuple):
    """The places where something of a session is kept."""

    table: SessionTable
    scheduler: Scheduler
    runner: Runner
    log: WriteBehindLog

    def forget(self, address: SessionAddress) -> None:
        """Hold nothing of a session any more."""
        self._let_go(address)
        self.log.release(address)

    def erase(self, address: SessionAddress, epoch: int) -> None:
        """Forget a session that is over, or that nobody else should get."""
        self._let_go(address)
        self.log.close(address, epoch)

    def _let_go(self, address: SessionAddress) -> None:
        self.table.pop(address)
        self.scheduler.drop(address)
        self.runner.free([address])

    def strangers(self, bytes_of: Mapping[SessionAddress, int]) -> Sequence[SessionAddress]:
        """Caches of sessions that are not here."""
        return [address for address in bytes_of if address not in self.table]
