"""Every change of state of the stored messages, fenced: what is not ours any more stays as it is.

A row with a token belongs to whoever knows the token, until ``available_at``: the process that wrote it
(grace), a relay or a person (lease). A row without one that is available later waits for its backoff.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections as databases
from django.db import transaction
from django.db.models import Q, QuerySet

from rmq_publisher.amqp.validation import plain_str
from rmq_publisher.conf import loader
from rmq_publisher.db.batches import IDS_AT_ONCE, batches, delete_in_batches
from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.db.errors import retried
from rmq_publisher.db.schema import TABLE
from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox.insert import insert_pending
from rmq_publisher.outbox.retry_policy import decide, failure_columns
from rmq_publisher.outbox.row import OutboxRow, process_token
from rmq_publisher.timing import monotonic

# Nobody else's: not under a live lease or grace.
FREE = Q(token=0) | Q(available_at__isnull=True) | Q(available_at__lte=DatabaseNow())


def messages(database: str) -> QuerySet[Any]:
    """Return the rows of a database. The model is not imported: apps may not be ready yet."""
    return apps.get_model("rmq_publisher", "OutboxMessage")._default_manager.using(database)


class OwnedRow(NamedTuple):
    """A row that is ours, without its message."""

    id: int
    token: int


def insert(
    database: str,
    using: str,
    envelopes: Sequence[Envelope],
    *,
    ordering_keys: Sequence[str],
    timeout: float,
) -> list[OutboxRow]:
    """Write messages in the caller's transaction.

    With a grace they belong to this process until it is over; without, to whoever comes first.

    Args:
        database: alias.
        using: RabbitMQ alias.
        envelopes: the messages.
        ordering_keys: of each; empty for none.
        timeout: seconds that sending may take.

    Raises:
        DatabaseError: Django's; nothing is sent.
    """
    grace = loader.outbox().outbox_grace
    token = process_token() if grace else 0
    own_until = monotonic() + grace - timeout  # before the database's clock is read
    items = list(zip(envelopes, map(plain_str, ordering_keys), strict=True))
    ids = insert_pending(databases[database], using, items, token=token, grace=grace)
    return [
        OutboxRow(id_, token, using, envelope, key, own_until)
        for id_, (envelope, key) in zip(ids, items, strict=True)
    ]


def complete_confirmed(database: str, rows: Sequence[OutboxRow]) -> int:
    """Delete what was confirmed; what had failed before stays, as ``delivered``.

    Returns:
        How many rows were still ours.
    """
    completed = _delete(database, [row for row in rows if not row.failed])
    for owned in _owned(database, [row for row in rows if row.failed]):
        completed += owned.update(
            state="delivered", available_at=None, token=0, finished_at=DatabaseNow()
        )
    return completed


def complete_failed(
    database: str, items: Sequence[tuple[OutboxRow, PublishError]]
) -> list[str | None]:
    """Record failures, and when each message is sent again.

    Returns:
        The new state of each, in order; None where the row was no longer ours.
    """
    states: dict[int, str] = {}
    given = {row.id: (row.token, error) for row, error in items}
    settings = loader.outbox()
    with transaction.atomic(using=database):
        now = database_now(databases[database])
        for owned in _owned(database, [row for row, _ in items]):
            fields = ("id", "attempts", "unanswered", "history", "failed_at")
            for found in owned.values(*fields):
                token, error = given[found["id"]]
                decision = decide(settings, error, found["attempts"], found["unanswered"])
                changes = failure_columns(error, decision, now, found)
                if messages(database).filter(id=found["id"], token=token).update(**changes):
                    states[found["id"]] = decision.state
    return [states.get(row.id) for row, _ in items]


def release(database: str, rows: Sequence[OutboxRow | OwnedRow]) -> int:
    """Release rows that were not sent, so that any relay may claim them.

    Returns:
        How many rows were still ours.
    """
    return sum(
        owned.update(token=0, available_at=DatabaseNow()) for owned in _owned(database, rows)
    )


def _delete(database: str, rows: Iterable[OutboxRow]) -> int:
    """Delete the rows that are still ours.

    On MySQL by the primary key whatever it believes of the table's size: a scan waits for every row
    that somebody is inserting, and never ends while there are writers.
    """
    connection = databases[database]
    hint = " FORCE INDEX (PRIMARY)" if connection.vendor == "mysql" else ""
    what = "DELETE mine" if hint else "DELETE"
    deleted = 0
    for token, ids in _by_token(rows):
        places = ", ".join(["%s"] * len(ids))
        sql = f"{what} FROM {TABLE} AS mine{hint} WHERE mine.id IN ({places}) AND mine.token = %s"
        with connection.cursor() as cursor:
            cursor.execute(sql, [*ids, token])
            deleted += cursor.rowcount
    return deleted


def _owned(database: str, rows: Iterable[OutboxRow | OwnedRow]) -> Iterator[QuerySet[Any]]:
    """Yield, in batches, the rows that are still ours."""
    for token, ids in _by_token(rows):
        yield messages(database).filter(token=token, id__in=ids)


def _by_token(rows: Iterable[OutboxRow | OwnedRow]) -> Iterator[tuple[int, list[int]]]:
    """Yield each token with ids of its rows, as many as one statement names."""
    by_token: dict[int, list[int]] = {}
    for row in rows:
        by_token.setdefault(row.token, []).append(row.id)
    for token, ids in by_token.items():
        for batch in batches(ids, IDS_AT_ONCE):
            yield token, sorted(batch)


# ---- what people do ------------------------------------------------------------------------------


def make_due(rows: QuerySet[Any]) -> int:
    """Have failed and dead messages sent again, as soon as a relay comes by, with fresh attempts.

    Rows that somebody is sending at this moment are left alone.

    Returns:
        How many rows are due now.
    """
    changes = {"available_at": DatabaseNow(), "token": 0, "attempts": 0, "unanswered": 0}
    free = rows.filter(FREE, state__in=("failed", "dead"))
    return retried(rows.db, lambda: free.update(state="failed", **changes))


def discard(rows: QuerySet[Any]) -> int:
    """Decide that messages are not to be sent; rows being sent at this moment are left alone.

    Returns:
        How many were discarded.
    """
    changes = {"available_at": None, "token": 0, "finished_at": DatabaseNow()}
    free = rows.filter(FREE, state__in=("failed", "dead"))
    return retried(rows.db, lambda: free.update(state="discarded", **changes))


def prune(
    database: str,
    *,
    states: Sequence[str] = ("delivered", "discarded"),
    older_than: timedelta,
    batch: int = 1000,
    dry_run: bool = False,
    most: int | None = None,
) -> int:
    """Delete what is finished and old, in batches; never what is yet to be sent.

    Args:
        database: alias.
        states: of ``delivered``, ``discarded`` and ``dead``.
        older_than: since it was finished, or last failed where it is dead.
        batch: rows that are deleted at once.
        dry_run: only count.
        most: about so many rows at the most; all when left out.

    Returns:
        How many rows were, or would be, deleted.

    Raises:
        ValueError: a state that is yet to be sent.
    """
    if wrong := set(states) - {"delivered", "discarded", "dead"}:
        raise ValueError(f"rows that are {' or '.join(sorted(wrong))} are never deleted by age")
    before = DatabaseNow(-older_than.total_seconds())
    old = Q(state__in=set(states) - {"dead"}, finished_at__lt=before)
    if "dead" in states:
        old |= Q(state="dead", last_failed_at__lt=before)
    rows = messages(database).filter(old, failed_at__isnull=False)
    # What a person sends again meanwhile matches no longer.
    return delete_in_batches(rows, batch=batch, most=most, dry_run=dry_run)
