"""Messages that wait in the table until their time, and those that are cancelled."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connections as databases

from rmq_publisher.db.batches import IDS_AT_ONCE, batches
from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox.insert import insert_scheduled
from rmq_publisher.outbox.row import new_token
from rmq_publisher.outbox.transitions import messages


def store(database: str, using: str, items: Sequence[tuple[Envelope, float | datetime]]) -> None:
    """Write messages in the caller's transaction that a relay sends when their time has come.

    Args:
        database: alias.
        using: RabbitMQ alias.
        items: messages with their times, or seconds from the database's now.

    Raises:
        DatabaseError: Django's; nothing is sent.
    """
    connection = databases[database]
    now = None
    due: list[tuple[Envelope, datetime]] = []
    for envelope, when in items:
        if not isinstance(when, datetime):
            now = now or database_now(connection)
            when = now + timedelta(seconds=when)  # noqa: PLW2901
        due.append((envelope, when))
    insert_scheduled(connection, using, due)


def cancel(database: str, message_id: str) -> bool:
    """Delete the rows of a message that nobody has ever taken; return whether there was one."""
    rows = messages(database).filter(message_id=message_id, state="pending", token=0)
    return rows._raw_delete(database) > 0


def cancel_rows(database: str, ids: Sequence[int]) -> dict[int, str]:
    """Delete those of these rows that nobody has ever taken, in the caller's transaction.

    Returns:
        The ids of those that were deleted, with their message ids.
    """
    token = new_token()  # makes them ours first, so that what is deleted is known
    cancelled: dict[int, str] = {}
    for some in batches(ids, IDS_AT_ONCE):
        messages(database).filter(id__in=some, state="pending", token=0).update(token=token)
        ours = messages(database).filter(id__in=some, token=token)
        cancelled.update(ours.values_list("id", "message_id"))
        ours._raw_delete(database)
    return cancelled


def seconds_to_next(database: str) -> float | None:
    """Return in how many seconds the next row that is not due yet will be; None where there is none.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    rows = messages(database).filter(ordering_key="", available_at__gt=DatabaseNow())
    due = rows.order_by("ordering_key", "available_at").values_list("available_at", flat=True)
    found = due.first()
    if found is None:
        return None
    left: timedelta = found - database_now(databases[database])
    return max(0.0, left.total_seconds())


def overdue(database: str, seconds: float, at_most: int | None = None) -> int:
    """Return how many scheduled messages should have been sent so many seconds ago, and were not.

    Args:
        database: alias.
        seconds: that they are late.
        at_most: rows after which counting stops.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    late = DatabaseNow(-seconds)
    rows = messages(database).filter(ordering_key="", available_at__lt=late, state="pending")
    return int(rows.filter(scheduled_at__lt=late)[:at_most].count())
