"""New rows of messages that nobody has tried to send yet, as lean as they can be written.

What a request pays for a message is this one statement: through the ORM it took twice as long.
"""

import functools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.db.batches import batches_by_size
from rmq_publisher.db.clock import after
from rmq_publisher.db.schema import TABLE
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.outbox.row import correlation_id, encoded

ROWS_AT_ONCE = 200
BYTES_AT_ONCE = 2**20  # of bodies; MySQL's packets have a limit
_GIVEN = (
    "message_id", "using", "exchange", "routing_key", "correlation_id", "header", "body", "size",
    "topology",
)  # fmt: skip
# Named in full: the columns have no defaults in the database.
_FIXED = {
    "state": "'pending'", "attempts": "0", "unanswered": "0", "first_error_type": "''",
    "first_error_text": "''", "last_error_type": "''", "last_error_text": "''", "history": "'[]'",
}  # fmt: skip

Item = tuple[Envelope, str]  # message, ordering key


def columns(using: str, envelope: Envelope) -> dict[str, Any]:
    """Return the columns that say what is to be sent and where."""
    return dict(zip(_GIVEN, _given(using, envelope), strict=True))


def _given(using: str, envelope: Envelope) -> tuple[Any, ...]:
    return (
        envelope.message_id,
        using,
        envelope.exchange,
        envelope.routing_key,
        correlation_id(envelope),
        envelope.header,
        envelope.body,
        len(envelope.body),
        encoded(envelope.topology, envelope.mandatory),
    )


def insert_scheduled(
    connection: BaseDatabaseWrapper, using: str, items: Sequence[tuple[Envelope, datetime]]
) -> None:
    """Write rows of nobody, each due at its own time.

    Args:
        connection: of the database.
        using: RabbitMQ alias.
        items: messages with their times.
    """
    adapt = connection.ops.adapt_datetimefield_value
    sized = ((item, len(item[0].body)) for item in items)
    for batch in batches_by_size(sized, ROWS_AT_ONCE, BYTES_AT_ONCE):
        sql = _statement(
            connection.vendor == "mysql", 0, ("%s", "%s"), after(connection), len(batch)
        )
        values: list[Any] = []
        for envelope, due in batch:
            values += (*_given(using, envelope), "", adapt(due), adapt(due))
        with connection.cursor() as cursor:
            cursor.execute(sql, values)


def insert_pending(
    connection: BaseDatabaseWrapper,
    using: str,
    items: Sequence[Item],
    *,
    token: int,
    grace: float,
) -> list[int]:
    """Write rows, in order.

    Args:
        connection: of the database.
        using: RabbitMQ alias.
        items: messages with their ordering keys.
        token: of their owner; 0 for none.
        grace: seconds that they are its own.

    Returns:
        The rows' ids, in order.
    """
    ids: list[int] = []
    sized = ((item, len(item[0].body)) for item in items)
    for batch in batches_by_size(sized, ROWS_AT_ONCE, BYTES_AT_ONCE):
        ids += _insert(connection, using, batch, token=token, grace=grace)
    return ids


def _insert(
    connection: BaseDatabaseWrapper,
    using: str,
    items: Sequence[Item],
    *,
    token: int,
    grace: float,
) -> list[int]:
    available, now = after(connection, grace), after(connection)
    times = (available, "NULL")
    sql = _statement(connection.vendor == "mysql", token, times, now, len(items))
    values: list[Any] = []
    for envelope, ordering_key in items:
        values += _given(using, envelope)
        values.append(ordering_key)
    if connection.features.can_return_rows_from_bulk_insert:
        with connection.cursor() as cursor:
            cursor.execute(f"{sql} RETURNING id", values)
            return sorted(id_ for (id_,) in cursor.fetchall())
    return _insert_without_returning(connection, sql, values, len(items))


@functools.lru_cache(maxsize=16)
def _statement(is_mysql: bool, token: int, times: tuple[str, str], now: str, count: int) -> str:
    names = [
        *_GIVEN, "ordering_key", "available_at", "scheduled_at", "token", "created_at", *_FIXED,
    ]  # fmt: skip
    places = [*["%s"] * (len(_GIVEN) + 1), *times, str(token), now, *_FIXED.values()]
    columns = ", ".join(f"`{name}`" if is_mysql else f'"{name}"' for name in names)
    rows = ", ".join([f"({', '.join(places)})"] * count)
    return f"INSERT INTO {TABLE} ({columns}) VALUES {rows}"  # noqa: S608 (names of ours)


def _insert_without_returning(
    connection: BaseDatabaseWrapper, sql: str, values: list[Any], count: int
) -> list[int]:
    """MySQL tells the first id only; those of one statement go up, as the rows do."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        first = cursor.lastrowid
        if count == 1:
            return [first]
        cursor.execute("SELECT @@SESSION.auto_increment_increment")
        (step,) = cursor.fetchone()
    return list(range(first, first + count * step, step))
