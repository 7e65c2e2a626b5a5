"""Stored messages for tests, and Django aliases for databases of other processes."""

from collections.abc import Callable, Sequence
from typing import Any

from rmq_publisher import QueueConfig
from rmq_publisher.conf.loader import connection
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.messages.compose import compose
from rmq_publisher.outbox import transitions
from rmq_publisher.outbox.row import OutboxRow


def store_rows(
    database: str,
    count: int = 1,
    *,
    queue: str | QueueConfig = "nowhere",
    key: Callable[[int], str] = lambda _: "",
    using: str = "default",
    body: bytes = b"x",
    **columns: Any,
) -> list[int]:
    """Write pending rows that are due and unclaimed; return their ids."""
    settings = connection(using)
    place: dict[str, Any] = (
        {"queue": queue} if isinstance(queue, QueueConfig) else {"routing_key": queue}
    )
    envelopes = [compose(settings, body, **place) for _ in range(count)]
    keys = [key(number) for number in range(count)]
    rows = transitions.insert(database, using, envelopes, ordering_keys=keys, timeout=5)
    ids = [row.id for row in rows]
    change(database, ids, **{"token": 0, "available_at": DatabaseNow(-60), **columns})
    return ids


def change(database: str, ids: Sequence[int], **columns: Any) -> None:
    transitions.messages(database).filter(id__in=ids).update(**columns)


def column(database: str, name: str, **which: Any) -> list[Any]:
    """One column of the rows, by id."""
    rows = transitions.messages(database).filter(**which).order_by("id")
    return list(rows.values_list(name, flat=True))


def ids_of(rows: Sequence[OutboxRow]) -> list[int]:
    return [row.id for row in rows]
