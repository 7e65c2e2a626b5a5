"""Deletes old rows of consumers: the inbox, lost starts, and finished dead letters."""

import logging
from collections.abc import Iterable
from datetime import timedelta

from django.apps import apps
from django.db import DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.consumer import dead_letters
from rmq_publisher.db.batches import delete_in_batches
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.errors import reason
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher.consumer")

BATCH = 1000  # rows that one statement deletes
PRUNE_SECONDS = 3600.0
FIRST_SECONDS = 60.0  # after the start
MAX_PRUNED = 10_000  # of each table, in one run


def prune_inbox(
    database: str,
    older_than: timedelta,
    *,
    batch: int = BATCH,
    most: int | None = None,
    dry_run: bool = False,
) -> int:
    """Delete messages that were handled long ago; if one of them is sent again, it is handled again.

    Starts that never ended and whose message did not come back are deleted too.

    Args:
        database: Django alias.
        older_than: since a message was handled.
        batch: rows that are deleted at once.
        most: approximate limit of rows; None for all.
        dry_run: only count.

    Returns:
        How many messages were, or would be, deleted.
    """
    before = DatabaseNow(-older_than.total_seconds())
    for name, column in (("HandlerStart", "started_at"), ("InboxMessage", "handled_at")):
        rows = apps.get_model("rmq_publisher", name)._default_manager.using(database)
        old = rows.filter(**{f"{column}__lt": before})
        deleted = delete_in_batches(old, batch=batch, most=most, dry_run=dry_run)
    return deleted


def prune_dead_letters(
    database: str,
    older_than: timedelta,
    *,
    batch: int = BATCH,
    most: int | None = None,
    dry_run: bool = False,
) -> int:
    """Delete dead letters that were sent back or discarded long ago; never one that waits.

    Arguments and result are as of `prune_inbox`.
    """
    before = DatabaseNow(-older_than.total_seconds())
    old = dead_letters.rows(database).filter(
        state__in=("sent_back", "discarded"), finished_at__lt=before
    )
    return delete_in_batches(old, batch=batch, most=most, dry_run=dry_run)


class RetentionPruner:
    """Prunes databases hourly, for a worker; the first time a minute after its start.

    Args:
        databases: Django aliases.
    """

    def __init__(self, databases: Iterable[str]) -> None:
        self._databases = tuple(dict.fromkeys(databases))
        self._due_at = monotonic() + FIRST_SECONDS

    def prune_if_due(self) -> None:
        """Delete old rows, if it is time; a database that cannot be used raises nothing."""
        if monotonic() < self._due_at:
            return
        self._due_at = monotonic() + PRUNE_SECONDS
        settings = loader.outbox()
        inbox = timedelta(days=settings.inbox_retention_days)
        letters = timedelta(days=settings.failure_retention_days)
        for database in self._databases:
            try:
                prune_inbox(database, inbox, most=MAX_PRUNED)
                prune_dead_letters(database, letters, most=MAX_PRUNED)
            except (DatabaseError, InterfaceError) as error:
                why = reason(error)
                logger.warning("the inbox of database %r was not pruned: %s", database, why)
                databases[database].close()
