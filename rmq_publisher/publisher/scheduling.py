"""``countdown``, ``eta`` and `cancel`: messages that wait in the table until their time."""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from rmq_publisher.db.support import check_table
from rmq_publisher.exceptions import InvalidMessage
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox import scheduled
from rmq_publisher.outbox.row import check_storable
from rmq_publisher.publisher.databases import check_database, current_database
from rmq_publisher.telemetry.outcomes import tell_cancelled

# Seconds from the database's now, or a point in time; None is at once.
When = float | datetime | None

# Of apps for which a message is more than a message: called with its id and the database, in the caller's
# transaction; they return whether what it stands for waited and is cancelled.
cancellers: list[Callable[[str, str], bool]] = []


def when(countdown: float | timedelta | None, eta: datetime | None) -> When:
    """Return when a message may be sent; None where that is now or has passed.

    Raises:
        InvalidMessage: both are given, or one is not a time.
    """
    if countdown is None and eta is None:
        return None
    if countdown is not None and eta is not None:
        raise InvalidMessage("countdown and eta both say when: give one of them")
    if countdown is not None:
        return _seconds(countdown)
    if not isinstance(eta, datetime):
        raise InvalidMessage(f"eta must be an aware datetime, not {type(eta).__name__}")
    if settings.USE_TZ and timezone.is_naive(eta):
        raise InvalidMessage("eta must be an aware datetime: with USE_TZ a naive one is ambiguous")
    if not settings.USE_TZ and timezone.is_aware(eta):
        eta = timezone.make_naive(eta)
    return eta if eta > timezone.now() else None


def _seconds(countdown: float | timedelta) -> float | None:
    if isinstance(countdown, timedelta):
        countdown = countdown.total_seconds()
    if isinstance(countdown, bool) or not isinstance(countdown, int | float):
        kind = type(countdown).__name__
        raise InvalidMessage(f"countdown must be seconds or a timedelta, not {kind}")
    if not math.isfinite(countdown) or countdown > timedelta.max.total_seconds() / 2:
        raise InvalidMessage("countdown is out of range")
    return float(countdown) if countdown > 0 else None


def check_scheduled(delivery: str | None, ordering_keys: Iterable[str | None]) -> None:
    """Refuse what cannot be scheduled.

    Args:
        delivery: of the call, as it was given.
        ordering_keys: of its messages.

    Raises:
        InvalidMessage: says why.
    """
    if delivery == "now":
        raise InvalidMessage(
            'countdown and eta store the message: they cannot go with delivery="now"'
        )
    if any(key is not None for key in ordering_keys):
        raise InvalidMessage(
            "countdown and eta cannot go with ordering_key: a message for tomorrow would hold back "
            "today's messages of its key"
        )


def schedule(
    using: str, items: Sequence[tuple[Envelope, float | datetime]], database: str | None
) -> None:
    """Store messages in the caller's transaction; a relay sends each when its time has come.

    Raises:
        InvalidMessage: they cannot be stored.
        ImproperlyConfigured: the database has no table for them.
        DatabaseError: Django's, of the insertion.
    """
    where = current_database(database)
    for envelope, _ in items:
        check_storable(envelope, using)
    check_table(where)
    scheduled.store(where, using, items)


def cancel(message_id: str, *, database: str | None = None) -> bool:
    """Delete a stored message that nobody has taken to send, due or not, in the caller's transaction.

    Args:
        message_id: as `publish` returned it; every row of that id is deleted.
        database: Django alias; chosen as in `publish` when left out.

    Returns:
        Whether a message was deleted, or a task of Django's framework that waits was cancelled. False if
        the message has been taken (it may have been sent), has failed (discard it in the admin), was
        never stored, or is unknown.

    Raises:
        InvalidMessage: there is no such database, or several have an open transaction.
        DatabaseError: Django's.
    """
    if not isinstance(message_id, str):
        raise TypeError(f"message_id must be a str, not {type(message_id).__name__}")
    check_database(database)
    where = current_database(database)
    deleted = scheduled.cancel(where, message_id)
    cancelled = [canceller(message_id, where) for canceller in cancellers]
    if deleted:
        tell_cancelled(message_id, where)
    return deleted or any(cancelled)


def cancel_rows(database: str, ids: Sequence[int]) -> set[int]:
    """Do what `cancel` does for rows by their ids, in a transaction; return which were cancelled.

    Raises:
        DatabaseError: Django's.
    """
    with transaction.atomic(using=database):
        cancelled = scheduled.cancel_rows(database, ids)
        for message_id in cancelled.values():
            for canceller in cancellers:
                canceller(message_id, database)
            tell_cancelled(message_id, database)
    return set(cancelled)
