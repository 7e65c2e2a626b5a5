"""What sends stored messages after commit without making the request wait.

One daemon thread a process (`background`), made on first need. It has the messages sent, and has the
table told of the outcomes, many at a time, over database connections of its own that it closes when idle.
"""

import atexit
import os
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, transaction
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.outbox.background_sender import Settler, log_left, may_reach_a_broker
from rmq_publisher.outbox.row import Stored
from rmq_publisher.outbox.row_sender import send_now
from rmq_publisher.transport.handler import connections
from rmq_publisher.transport.memory.transport import MemoryTransport

_settler = Settler()
_left_behind: list[Settler] = []


def send_committed(database: str, rows: Sequence[Stored]) -> None:
    """Send rows whose transaction has committed, without waiting for their outcome.

    Where that would surprise, all is done within the call, on the connection of the calling thread:
    with the memory broker, in a TestCase, and with a SQLite database in memory. Never raises what a
    broker or a database does.

    Args:
        database: Django alias of the database whose transaction it was.
        rows: those without a token are not ours, and only need a relay.
    """
    ours = [row for row in rows if row.token]
    if len(ours) < len(rows):
        notify(database)
    if not ours:
        return
    if _has_to_be_done_here(database, ours):
        _send_here(database, ours)
    else:
        _settler.send(database, ours)


def _has_to_be_done_here(database: str, rows: Sequence[Stored]) -> bool:
    connection = databases[database]
    return (
        connection.in_atomic_block
        or (connection.vendor == "sqlite" and connection.is_in_memory_db())  # type: ignore[attr-defined]
        or all(
            isinstance(connections[using], MemoryTransport)
            for using in {row.using for row in rows}
        )
    )


def _send_here(database: str, rows: Sequence[Stored]) -> None:
    try:
        # In a TestCase's transaction a savepoint, so that nothing that fails here breaks it.
        if databases[database].in_atomic_block:
            with transaction.atomic(using=database):
                send_now(database, rows, new=True)
        else:
            send_now(database, rows, new=True)
    except (DatabaseError, InterfaceError) as error:
        log_left(database, error)


def notify(database: str) -> None:
    """Wake the relays of a database that can be woken, soon and without waiting.

    Called after the commit: within a transaction a NOTIFY makes all commits wait for each other. Where
    no broker can be reached it would wake them for nothing.

    Args:
        database: Django alias.
    """
    connection = databases[database]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        return
    if may_reach_a_broker():
        _settler.notify(database)


def flush(timeout: float = 5.0) -> bool:
    """Wait until nothing is being sent in the background, and its database connections are closed.

    For tests, which must not drop a database that somebody uses.

    Args:
        timeout: seconds.

    Returns:
        Whether it came to that.
    """
    return _settler.flush(timeout)


def _at_exit() -> None:
    if not _settler.is_started:
        return  # settings may not even be there
    timeouts = [settings.publish_timeout for settings in loader.usable()]
    _settler.close(max(timeouts, default=0.0))


def _after_fork() -> None:
    global _settler  # noqa: PLW0603 (the child's own)
    _left_behind.append(_settler)
    _settler = Settler()


# After the handler's was registered, and so run before it.
atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
