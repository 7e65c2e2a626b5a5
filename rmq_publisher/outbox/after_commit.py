"""Sending stored messages after commit, without making the request wait.

One daemon thread per process (`BackgroundSender`) sends them and completes the rows, many with one query,
over database connections of its own, which it closes when idle.
"""

from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, transaction
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.outbox.background_sender import BackgroundSender, log_left, may_reach_a_broker
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.outbox.row_sender import send_now
from rmq_publisher.process.lifecycle import AtExit, InChild, register
from rmq_publisher.transport.handler import connections
from rmq_publisher.transport.memory.transport import MemoryTransport

_sender = BackgroundSender(connections.__getitem__)
_left_behind: list[BackgroundSender] = []


def send_committed(database: str, rows: Sequence[OutboxRow]) -> None:
    """Send rows whose transaction has committed, without waiting for their outcome.

    With the memory broker, in a TestCase, and with a SQLite database in memory it sends them within the
    call, on the connection of the calling thread. Never raises the error of a broker or a database.

    Args:
        database: Django alias of the database whose transaction it was.
        rows: those without a token are left to a relay, which is only notified.
    """
    ours = [row for row in rows if row.token]
    try:
        if len(ours) < len(rows):
            notify(database)
        if not ours:
            return
        if _must_send_here(database, ours):
            _send_here(database, ours)
        else:
            _sender.send(database, ours)
    except Exception as error:  # noqa: BLE001 (the rows are committed: the view must not see it)
        log_left(database, error)


def _must_send_here(database: str, rows: Sequence[OutboxRow]) -> bool:
    connection = databases[database]
    return (
        connection.in_atomic_block
        or (connection.vendor == "sqlite" and connection.is_in_memory_db())  # type: ignore[attr-defined]
        or all(
            isinstance(connections[using], MemoryTransport)
            for using in {row.using for row in rows}
        )
    )


def _send_here(database: str, rows: Sequence[OutboxRow]) -> None:
    try:
        # In a TestCase's transaction a savepoint, so that nothing that fails here breaks it.
        if databases[database].in_atomic_block:
            with transaction.atomic(using=database):
                send_now(database, rows, connections.__getitem__, new=True)
        else:
            send_now(database, rows, connections.__getitem__, new=True)
    except (DatabaseError, InterfaceError) as error:
        log_left(database, error)


def notify(database: str) -> None:
    """Wake the relays of a PostgreSQL database soon, without waiting for it.

    To be called after the commit: a NOTIFY within a transaction makes all commits wait for each other.
    Does nothing while no broker can be reached, since the relays could send nothing either.

    Args:
        database: Django alias.
    """
    connection = databases[database]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        return
    if may_reach_a_broker(connections.__getitem__):
        _sender.notify(database)


def flush(timeout: float = 5.0) -> bool:
    """Wait until nothing is being sent in the background, and its database connections are closed.

    For tests, which must not drop a database that somebody uses.

    Args:
        timeout: seconds.

    Returns:
        Whether that was reached within the timeout.
    """
    return _sender.flush(timeout)


def _at_exit() -> None:
    if not _sender.is_started:
        return  # settings may not even be there
    timeouts = [settings.publish_timeout for settings in loader.usable()]
    _sender.close(max(timeouts, default=0.0))


def _after_fork() -> None:
    global _sender  # noqa: PLW0603 (the child's own)
    _left_behind.append(_sender)
    _sender = BackgroundSender(connections.__getitem__)


register(AtExit.BACKGROUND_SENDER, _at_exit)
register(InChild.BACKGROUND_SENDER, _after_fork)
