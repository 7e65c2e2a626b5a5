"""Which workers are alive: each writes a heartbeat every few seconds, by the database's clock."""

from django.db import connections as databases
from django.db.models import QuerySet

from rmq_publisher.contrib.django_tasks.models import TaskWorker
from rmq_publisher.db.clock import DatabaseNow, database_now

BEAT_SECONDS = 5.0
ALIVE_SECONDS = 15.0  # a worker that was seen within this time is alive
KEPT_SECONDS = 24 * 3600.0


def rows(database: str) -> QuerySet[TaskWorker]:
    """Return the rows of all workers of a database."""
    return TaskWorker._default_manager.using(database)


def beat(database: str, worker_id: str, product: str) -> None:
    """Write a worker's heartbeat.

    Args:
        database: Django alias.
        worker_id: of the process.
        product: the broker's name and version.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    if rows(database).filter(id=worker_id).update(seen_at=DatabaseNow(), product=product):
        return
    now = database_now(databases[database])
    row = TaskWorker(id=worker_id, started_at=now, seen_at=now, product=product)
    rows(database).bulk_create([row], ignore_conflicts=True)


def forget(database: str, worker_id: str) -> None:
    """Delete a worker's row, so that tasks it was still running may run again at once."""
    rows(database).filter(id=worker_id).delete()


def is_alive(database: str, worker_id: str) -> bool:
    """Return whether a worker was seen lately."""
    return rows(database).filter(id=worker_id, seen_at__gte=DatabaseNow(-ALIVE_SECONDS)).exists()


def prune(database: str, *, dry_run: bool = False) -> int:
    """Delete the rows of workers that were not seen for a day; return how many."""
    old = rows(database).filter(seen_at__lt=DatabaseNow(-KEPT_SECONDS))
    return old.count() if dry_run else old._raw_delete(database)
