"""Messages whose sending failed after their transaction had committed are stored, or logged as lost."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.db import support, tenants
from rmq_publisher.db.batches import IDS_AT_ONCE
from rmq_publisher.db.clock import database_now
from rmq_publisher.db.errors import is_table_missing, reason, retried
from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox.insert import columns
from rmq_publisher.outbox.retry_policy import decide, failure_columns
from rmq_publisher.outbox.transitions import messages

logger = logging.getLogger("rmq_publisher")

Failure = tuple[str, Envelope, PublishError]  # RabbitMQ alias, message, outcome
LOST = ""  # in place of a row's state: nothing is stored


class NoTableError(Exception):
    """No database that may hold the table has it; the text says what to do."""


def record_failures(database: str, items: Sequence[Failure]) -> list[str]:
    """Store messages whose sending failed after their transaction had committed.

    They go to the database of their transaction, or to where ``DATABASE_ROUTERS`` send the table if that
    one has none. On a connection that the database has closed it is tried once more, on a new one. What
    cannot be stored is logged with all that may be said of it. No error of a database is raised.

    Args:
        database: alias of the database whose transaction it was.
        items: RabbitMQ alias, message and outcome of each.

    Returns:
        The state of each row, or LOST.
    """
    try:
        return _record(database, items)
    except Exception as error:  # noqa: BLE001 (whatever it is, the message must not vanish silently)
        if len(items) == 1:
            _log_lost(items, error)
            return [LOST]
    except BaseException as interrupt:  # Ctrl-C, a time limit
        _log_lost(items, interrupt)
        raise
    # One that this database cannot take must not cost the others their place.
    states: list[str] = []
    try:
        for item in items:
            states += record_failures(database, [item])
    except BaseException as interrupt:
        _log_lost(items[len(states) + 1 :], interrupt)  # the first one has its line already
        raise
    return states


def _record(database: str, items: Sequence[Failure]) -> list[str]:
    why_not = []
    for alias in support.homes(database):
        in_schemas = tenants.in_tenant_schemas(databases[alias])
        if not in_schemas and (unfit := support.unfit(alias)):
            why_not.append(f"database {alias!r}: {unfit}")
            continue
        write = partial(_keep, alias, items)
        try:
            # Of the tenants' tables only the public one is looked into; a new connection sees that.
            apart = in_schemas or _is_in_transaction(alias)
            return _apart(alias, write) if apart else write()
        except DatabaseError as error:
            if not is_table_missing(error):
                raise
            why_not.append(
                f"database {alias!r}: {type(error).__name__}, {support.how_to_migrate(alias)}"
            )
    raise NoTableError("; ".join(why_not))


def _is_in_transaction(alias: str) -> bool:
    """Whether somebody's transaction is open there, whose rollback would take the rows with it."""
    blocks = databases[alias].atomic_blocks
    return any(not getattr(block, "_from_testcase", False) for block in blocks)


def _apart(alias: str, write: Callable[[], list[str]]) -> list[str]:
    """Write in a thread, and so on a connection of its own."""

    def run() -> list[str]:
        try:
            return write()
        finally:
            databases[alias].close()

    with ThreadPoolExecutor(1, "rmq_publisher failures") as pool:
        return pool.submit(run).result()


def _keep(database: str, items: Sequence[Failure]) -> list[str]:
    write = partial(_write_failures, database, items)
    try:
        return retried(database, write)
    except Exception as error:
        connection = databases[database]
        if connection.in_atomic_block:
            raise
        connection.close()  # an error that is not the database's may leave a transaction open on it
        is_its_answer = isinstance(error, DatabaseError) and not isinstance(
            error, OperationalError
        )
        if is_its_answer or is_table_missing(error):
            raise
        return retried(database, write)


def _write_failures(database: str, items: Sequence[Failure]) -> list[str]:
    with transaction.atomic(using=database):
        now = database_now(databases[database])
        decisions = [decide(loader.outbox(), error) for _, _, error in items]
        rows = messages(database)
        rows.bulk_create(
            [
                rows.model(
                    **columns(using, envelope),
                    created_at=now,
                    **failure_columns(error, decision, now, {}),
                )
                for (using, envelope, error), decision in zip(items, decisions, strict=True)
            ],
            batch_size=IDS_AT_ONCE,
        )
    return [decision.state for decision in decisions]


def _log_lost(items: Sequence[Failure], cause: BaseException) -> None:
    why = type(cause).__name__  # its text may quote a row
    if isinstance(cause, NoTableError):
        why = str(cause)
    elif isinstance(cause, OperationalError | InterfaceError):
        why += f": {reason(cause)}"
    for using, envelope, error in items:
        logger.critical(
            "message %s (connection %r, exchange %r, routing key %r, %d bytes) was committed, not "
            "published (%s: %s) and could not be stored (%s): it is lost",
            envelope.message_id,
            using,
            envelope.exchange,
            envelope.routing_key,
            len(envelope.body),
            type(error).__name__,
            error.reason,
            why,
        )
