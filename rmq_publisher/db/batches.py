"""Splits long lists into batches, by their number and by their size, and deletes rows in batches."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db.models import QuerySet

from rmq_publisher.db.errors import retried

IDS_AT_ONCE = 500  # ids that one statement names; SQLite and MySQL have limits

Item = TypeVar("Item")


def batches(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """Yield ``items`` in batches of at most ``most``."""
    for start in range(0, len(items), most):
        yield items[start : start + most]


def batches_by_size(
    items: Iterable[tuple[Item, int]], most: int, most_bytes: int
) -> Iterator[list[Item]]:
    """Yield items in batches of at most ``most`` items and ``most_bytes`` in total.

    Args:
        items: each with its size in bytes. One that exceeds ``most_bytes`` is a batch of its own.
        most: number of items.
        most_bytes: sum of their sizes.
    """
    batch: list[Item] = []
    total = 0
    for item, size in items:
        if batch and (len(batch) == most or total + size > most_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def delete_in_batches(
    rows: QuerySet[Any], *, batch: int, most: int | None = None, dry_run: bool = False
) -> int:
    """Delete rows in batches, each in a transaction of its own.

    Args:
        rows: those that match when a batch is chosen and still do when it is deleted.
        batch: rows that are deleted at once.
        most: about so many rows at the most; all if None.
        dry_run: only count.

    Returns:
        How many rows were, or would be, deleted.

    Raises:
        DatabaseError, InterfaceError: Django's; earlier batches are deleted.
    """
    if dry_run:
        return rows.count()
    deleted = 0
    while (most is None or deleted < most) and (
        ids := list(rows.order_by("pk").values_list("pk", flat=True)[:batch])
    ):
        deleted += retried(rows.db, rows.filter(pk__in=ids).delete)[0]
    return deleted
