"""All changes of a task's row. Only the latest run may write its outcome.

The worker, the admin and `cancel` use these functions; nothing else changes a status.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections as databases
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from rmq_publisher.contrib.django_tasks.message import NewTask, dumps
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.db.clock import DatabaseNow, after, database_now
from rmq_publisher.exceptions import TaskCancelled

READY, RUNNING = TaskRecord.Status.READY.value, TaskRecord.Status.RUNNING.value
FAILED, SUCCESSFUL = TaskRecord.Status.FAILED.value, TaskRecord.Status.SUCCESSFUL.value

TABLE = "rmq_publisher_tasks_taskrecord"
_GIVEN = (
    "id", "backend", "task_path", "queue_name", "priority", "run_after", "args", "kwargs",
)  # fmt: skip
# The INSERT names them all, because the columns have no defaults in the database.
_FIXED = {
    "status": f"'{READY}'", "attempts": "0", "worker_ids": "'[]'", "failures": "0", "deaths": "0",
    "errors": "'[]'", "return_value": "'null'",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Error:
    """An error of a run, as it is stored. Only the traceback may show values of the task."""

    exception_class_path: str
    traceback: str


CANCELLED = Error(f"{TaskCancelled.__module__}.{TaskCancelled.__qualname__}", "")


def rows(database: str) -> QuerySet[TaskRecord]:
    """Return the rows of all tasks of a database."""
    return TaskRecord._default_manager.using(database)


def can_return(connection: BaseDatabaseWrapper) -> bool:
    """Return whether an UPDATE may return columns: MySQL and MariaDB have no such statement."""
    return connection.vendor in ("postgresql", "sqlite")


def as_time(value: Any) -> datetime:
    """Return a time that a statement returned, as Django would read it from a column."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    if settings.USE_TZ and found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found


def worker_ids(row: TaskRecord) -> list[str]:
    """Return the workers of a row's runs, the last one last."""
    found: list[str] = json.loads(row.worker_ids)
    return found


def insert(database: str, task: NewTask) -> datetime:
    """Insert the row of a new task in the caller's transaction; return the database's time.

    A single hand-written statement, because it is most of the cost of enqueueing a task.
    """
    connection = databases[database]
    is_mysql = connection.vendor == "mysql"
    names = [*_GIVEN, *_FIXED, "enqueued_at"]
    columns = ", ".join(f"`{name}`" if is_mysql else f'"{name}"' for name in names)
    adapt = connection.ops.adapt_datetimefield_value
    values: list[Any] = list(task)
    values[_GIVEN.index("run_after")] = None if task.run_after is None else adapt(task.run_after)
    now = None
    if connection.features.can_return_columns_from_insert:
        time, returning = after(connection), " RETURNING enqueued_at"
    else:
        now = database_now(connection)
        time, returning = "%s", ""
        values.append(adapt(now))
    places = ", ".join([*["%s"] * len(_GIVEN), *_FIXED.values(), time])
    sql = f"INSERT INTO {TABLE} ({columns}) VALUES ({places}){returning}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return as_time(cursor.fetchone()[0]) if now is None else now


def get(database: str, id: str, backend: str) -> TaskRecord | None:
    """Return a task of a backend, or None."""
    return rows(database).filter(id=id, backend=backend).first()


def locked(database: str, id: str) -> TaskRecord | None:
    """Return a locked row (SQLite locks the whole database), or None if it does not exist."""
    return rows(database).select_for_update().filter(id=id).first()


def _last(row: TaskRecord, attempt: int) -> bool:
    return row.status == RUNNING and row.attempts == attempt


def succeed(database: str, id: str, attempt: int, value: str) -> datetime | None:
    """Write the result of a run; return its time, or None if the run is not the latest any more.

    Args:
        database: Django alias.
        id: of the task.
        attempt: number of the run.
        value: what it returned, as JSON.
    """
    connection = databases[database]
    if not can_return(connection):
        now = database_now(connection)
        mine = rows(database).filter(id=id, status=RUNNING, attempts=attempt)
        return now if mine.update(status=SUCCESSFUL, finished_at=now, return_value=value) else None
    sql = (
        f"UPDATE {TABLE} SET status = '{SUCCESSFUL}', finished_at = {after(connection)}, "  # noqa: S608
        f"return_value = %s WHERE id = %s AND status = '{RUNNING}' AND attempts = %s "
        "RETURNING finished_at"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [value, id, attempt])
        found = cursor.fetchone()
    return as_time(found[0]) if found else None


def fail(
    database: str,
    id: str,
    attempt: int,
    error: Error,
    max_attempts: int,
    delay: Callable[[int], float],
) -> TaskRecord | None:
    """Write the failure of a run: the task becomes ready for another run, or has failed.

    Args:
        database: Django alias.
        id: of the task.
        attempt: number of the run.
        error: of the run.
        max_attempts: failed runs after which the task has failed.
        delay: returns the seconds before the next run, for a number of failed runs.

    Returns:
        The row; None if the run is not the latest any more.
    """
    with transaction.atomic(using=database):
        row = locked(database, id)
        if row is None or not _last(row, attempt):
            return None
        row.failures += 1
        add_error(row, error)
        now = database_now(databases[database])
        if row.failures >= max_attempts:
            row.status, row.finished_at = FAILED, now
        else:
            row.status = READY
            row.retry_at = now + timedelta(seconds=delay(row.failures))
        save(row, "failures", "retry_at")
        return row


def release(database: str, id: str, attempt: int) -> bool:
    """Make a task ready again whose run is interrupted through no fault of its own."""
    return (
        rows(database)
        .filter(id=id, status=RUNNING, attempts=attempt)
        .update(status=READY, retry_at=None)
        == 1
    )


def add_error(row: TaskRecord, error: Error) -> None:
    """Append an error to a locked row."""
    known = json.loads(row.errors)
    known.append(
        {"exception_class_path": error.exception_class_path, "traceback": error.traceback}
    )
    row.errors = dumps(known)


def finish_failed(row: TaskRecord) -> None:
    """Mark a locked row as failed."""
    row.status = FAILED
    row.finished_at = database_now(databases[str(row._state.db)])


def save(row: TaskRecord, *more: str) -> None:
    """Save a locked row."""
    row.save(update_fields=["status", "finished_at", "errors", *more])


def cancel(database: str, id: str, backend: str | None = None) -> bool:
    """Cancel a ready task, in the caller's transaction; return whether there was one.

    If its message was sent already, the worker acknowledges it without running the task.
    """
    with transaction.atomic(using=database, savepoint=False):
        row = locked(database, id)
        if row is None or row.status != READY or backend not in (None, row.backend):
            return False
        add_error(row, CANCELLED)
        finish_failed(row)
        save(row)
        return True


def prune(
    database: str, backends: Sequence[str], days: float, *, most: int, dry_run: bool = False
) -> int:
    """Delete tasks that finished more than ``days`` days ago; return how many."""
    old = rows(database).filter(
        finished_at__lt=DatabaseNow(-days * 86_400), backend__in=list(backends)
    )
    if dry_run:
        return old.count()
    ids = list(old.order_by("finished_at").values_list("id", flat=True)[:most])
    return rows(database).filter(id__in=ids)._raw_delete(database) if ids else 0
