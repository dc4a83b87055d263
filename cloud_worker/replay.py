"""A session's log as work: how a worker that never saw the session rebuilds its KV cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cloud_worker.session import WorkerSession
from cloud_worker.work import Work
from shared.context.store import LogRecord

# A log has a record for each upload, often of one row; in works of many rows the catch-up is a few
# forwards and a few places in the queue. More rows at once would make the attention masks large.
ROWS_PER_WORK = 512


def replay(session: WorkerSession, records: Iterable[LogRecord], now_s: float) -> Iterator[Work]:
    """The works that bring a log back into a cache.

    Args:
        session: whose log; the works carry its epoch.
        records: gapless, in the order of their positions.
        now_s: the worker's clock.
    """
    run: list[LogRecord] = []
    for record in records:
        rows = record.end_position - run[0].from_position if run else 0
        if run and (record.codec != run[0].codec or rows > ROWS_PER_WORK):
            yield _work(session, run, now_s)
            run = []
        run.append(record)
    if run:
        yield _work(session, run, now_s)


def _work(session: WorkerSession, run: list[LogRecord], now_s: float) -> Work:
    """One work of consecutive records; number 0 marks it as nobody's step."""
    start = run[0].from_position
    return Work(
        session.address,
        session.epoch,
        0,
        start,
        run[-1].end_position - start,
        run[0].codec,
        b"".join(record.states for record in run),
        arrived_s=now_s,
    )
