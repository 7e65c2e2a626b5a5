"""Splits long lists into batches, by their number and by their size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

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
