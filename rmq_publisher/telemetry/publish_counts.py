"""How many messages this process published: counted in memory, stored per minute.

Counting costs a fraction of a microsecond. The counts are written by the threads that publish: on a
connection they have open anyway, outside any transaction, at most every ten seconds. This needs no thread
and no connection of our own. Counts of the last seconds are lost when a process is killed.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.db.support import unfit
from rmq_publisher.process.lifecycle import AtExit, InChild, register
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher")

TABLE = "rmq_publisher_publishcount"
FLUSH_SECONDS = 10.0
RETRY_SECONDS = 60.0  # after a database refused
KEPT = timedelta(days=8)
CLOCK_SECONDS = 600.0  # how long the database's clock is assumed to run like ours
GRAIN_SECONDS = 5  # how precisely a count is assigned to its minute
MOST_PENDING = 1000  # counts kept in memory while no database accepts them

Key = tuple[str, int]  # RabbitMQ alias, and which five seconds of our own clock
Row = tuple[str, str, datetime]  # database, RabbitMQ alias, minute


@dataclass
class _Counts:
    """The counts of one process, and the rows it adds them to."""

    # Re-entrant: a signal's handler may publish while its thread counts.
    lock: threading.RLock = field(default_factory=threading.RLock)
    pending: dict[Key, list[int]] = field(default_factory=dict)  # published, failed
    next_flush: float = 0.0
    rows: dict[Row, int] = field(default_factory=dict)  # ids of this process' rows
    # By database: its clock minus ours, and when that was measured.
    clocks: dict[str, tuple[datetime, float]] = field(default_factory=dict)


_counts = _Counts()
_writing = True


def _after_fork() -> None:
    """Start from zero in a child: the parent writes its own counts."""
    global _counts  # noqa: PLW0603
    _counts = _Counts()


register(InChild.PUBLISH_COUNTS, _after_fork)


def count(using: str, *, published: int = 0, failed: int = 0) -> None:
    """Count messages, in memory only.

    Args:
        using: RabbitMQ alias.
        published: confirmed messages.
        failed: attempts that ended otherwise.
    """
    counts = _counts
    key = (using, int(monotonic()) // GRAIN_SECONDS)
    with counts.lock:
        sums = counts.pending.get(key)
        if sums is None:
            sums = counts.pending[key] = [0, 0]
            while len(counts.pending) > MOST_PENDING:
                del counts.pending[next(iter(counts.pending))]
        sums[0] += published
        sums[1] += failed


def flush(database: str | None = None, *, last: bool = False) -> None:
    """Write the counts if that is due and delays nobody; never raises.

    They are written on this thread's connection if it is open and not in a transaction: a rollback would
    lose them, and their row locks would last until the commit. On SQLite, nothing waits for a lock.

    Args:
        database: Django alias; ``default`` when left out.
        last: write now instead of after ten seconds, because the process or connection is closing.
    """
    if last:
        _counts.next_flush = 0.0
    if _writing and monotonic() >= _counts.next_flush and _counts.pending:
        _flush(database or DEFAULT_DB_ALIAS)


def keep_counts_in_memory() -> None:
    """Write no counts of published messages from now on, in this process.

    For tests that count statements or forbid them: counts are written every ten seconds. `capture`,
    `memory_broker` and the pytest plugin do this by themselves.
    """
    global _writing  # noqa: PLW0603
    _writing = False


@contextmanager
def counts_in_memory() -> Iterator[None]:
    """Write no counts of published messages in this block."""
    global _writing  # noqa: PLW0603
    before, _writing = _writing, False
    try:
        yield
    finally:
        _writing = before


def _flush(database: str) -> None:
    connection = databases[database]
    if connection.connection is None or not connection.autocommit:  # which atomic() turns off
        return
    counts = _counts
    if unfit(database) or not (taken := _taken(counts)):
        return
    try:
        with _without_waiting(connection):
            _write(counts, database, connection, taken)
    except Exception as error:  # noqa: BLE001 (also from those who forbid statements here)
        # The messages were published: a chart must not fail anybody's request.
        counts.next_flush = monotonic() + RETRY_SECONDS
        logger.debug("counts of published messages stay in memory: %s", type(error).__name__)
    finally:
        with counts.lock:
            for key, (published, failed) in taken.items():
                sums = counts.pending.setdefault(key, [0, 0])
                sums[0] += published
                sums[1] += failed


def _taken(counts: _Counts) -> dict[Key, list[int]]:
    """Take the counts to write; none if another thread has just taken them."""
    with counts.lock:
        if monotonic() < counts.next_flush:
            return {}
        counts.next_flush = monotonic() + FLUSH_SECONDS
        taken, counts.pending = counts.pending, {}
    return taken


def _write(
    counts: _Counts, database: str, connection: BaseDatabaseWrapper, taken: dict[Key, list[int]]
) -> None:
    """Write counts, and remove from ``taken`` what is written."""
    zero = _clock(counts, database, connection)
    by_row: dict[Row, list[Key]] = {}
    for using, grain in taken:
        minute = zero + timedelta(seconds=grain * GRAIN_SECONDS)
        row = (database, using, minute.replace(second=0, microsecond=0))
        by_row.setdefault(row, []).append((using, grain))
    for row, keys in by_row.items():
        published, failed = map(sum, zip(*(taken[key] for key in keys), strict=True))
        _add(counts, row, connection, [published, failed])
        for key in keys:
            del taken[key]


def _clock(counts: _Counts, database: str, connection: BaseDatabaseWrapper) -> datetime:
    """Return the database's time at which our clock was zero."""
    known = counts.clocks.get(database)
    now = monotonic()
    if known is None or now - known[1] > CLOCK_SECONDS:
        known = (database_now(connection) - timedelta(seconds=now), now)
        counts.clocks[database] = known
    return known[0]


def _add(counts: _Counts, row: Row, connection: BaseDatabaseWrapper, sums: list[int]) -> None:
    """Add to our row of this minute; insert it if there is none."""
    _, using, minute = row
    value = connection.ops.adapt_datetimefield_value(minute)
    with connection.cursor() as cursor:
        if (id_ := counts.rows.get(row)) is not None:
            cursor.execute(
                f"UPDATE {TABLE} SET published = published + %s, failed = failed + %s "  # noqa: S608
                "WHERE id = %s AND minute = %s",
                [*sums, id_, value],
            )
            if cursor.rowcount:
                return
        name = connection.ops.quote_name("using")
        sql = f"INSERT INTO {TABLE} (minute, {name}, published, failed) VALUES (%s, %s, %s, %s)"  # noqa: S608
        if connection.features.can_return_columns_from_insert:
            cursor.execute(f"{sql} RETURNING id", [value, using, *sums])
            made = cursor.fetchone()[0]
        else:
            cursor.execute(sql, [value, using, *sums])
            made = cursor.lastrowid
    # Rows of earlier minutes are rarely needed again: a late count gets a new row.
    counts.rows = {kept: id_ for kept, id_ in counts.rows.items() if kept[2] >= minute}
    counts.rows[row] = made


@contextmanager
def _without_waiting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """On SQLite, which has one writer at a time: do not wait for its lock."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        (before,) = cursor.fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {before:d}")


def counts_of(database: str) -> Any:
    """Return the rows of a database, as a queryset."""
    return apps.get_model("rmq_publisher", "PublishCount")._default_manager.using(database)


def prune(database: str, *, dry_run: bool = False) -> int:
    """Delete counts that are older than eight days.

    Returns:
        How many rows were, or would be, deleted.
    """
    old = counts_of(database).filter(minute__lt=DatabaseNow(-KEPT.total_seconds()))
    return int(old.count() if dry_run else old.delete()[0])


def _at_exit() -> None:
    """Write the last counts if the exiting thread has a connection open; do not open one."""
    for database in {database for database, *_ in _counts.rows}:
        flush(database, last=True)


register(AtExit.PUBLISH_COUNTS, _at_exit)
