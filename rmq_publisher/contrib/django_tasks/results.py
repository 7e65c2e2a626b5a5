"""Converts rows to Django's `TaskResult`, and dotted paths to tasks."""

import json
from typing import Any

from django.utils.module_loading import import_string

from rmq_publisher.contrib.django_tasks.framework import (
    TASK_REFRESH_ATTRS,
    AnyResult,
    AnyTask,
    Task,
    TaskError,
    TaskResult,
    TaskResultStatus,
)
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.contrib.django_tasks.task import own_options


def find_task(path: str) -> AnyTask:
    """Return the task of a dotted path.

    Raises:
        ImportError: there is no such module or name, or it is not decorated as a task.
    """
    found = import_string(path)
    if not isinstance(found, Task):
        raise ImportError(f"{path} is not a task: decorate it with @task")
    return found


def own_options_at(path: str) -> dict[str, Any]:
    """Return what the decorator of a task says of how it is run; nothing where there is no such task."""
    try:
        return own_options(find_task(path))
    except Exception:  # noqa: BLE001 (a module of the project may raise anything; the worker tells it)
        return {}


def result_of(row: TaskRecord) -> AnyResult:
    """Return a row as a `TaskResult`.

    Raises:
        ImportError: its task is not in the project any more.
    """
    task = find_task(row.task_path).using(
        priority=row.priority,
        queue_name=row.queue_name,
        run_after=row.run_after,
        backend=row.backend,
    )
    if row.run_after is None and task.run_after is not None:
        raise ImportError(f"{row.task_path} must not have a run_after of its own")
    result = new_result(
        task,
        row.id,
        json.loads(row.args),
        json.loads(row.kwargs),
        status=TaskResultStatus(row.status),
        enqueued_at=row.enqueued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        last_attempted_at=row.last_attempted_at,
        errors=[TaskError(**error) for error in json.loads(row.errors)],
        worker_ids=json.loads(row.worker_ids),
    )
    if row.status == TaskRecord.Status.SUCCESSFUL:
        change(result, _return_value=json.loads(row.return_value))
    return result


def new_result(
    task: AnyTask, id: str, args: list[Any], kwargs: dict[str, Any], **known: Any
) -> AnyResult:
    """Return the `TaskResult` of a task that has not begun, apart from the given values."""
    values: dict[str, Any] = {
        "status": TaskResultStatus.READY, "enqueued_at": None, "started_at": None,
        "finished_at": None, "last_attempted_at": None, "errors": [], "worker_ids": [],
    }  # fmt: skip
    values.update(known)
    return TaskResult(task=task, id=id, args=args, kwargs=kwargs, backend=task.backend, **values)


def change(result: AnyResult, **values: Any) -> None:
    """Change a result, whose class is frozen, as Django's own backends do."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def loads(text: str) -> Any:
    """Decode JSON from a row."""
    return json.loads(text)


def take_over(result: AnyResult, newer: AnyResult) -> None:
    """Update a result from a newer one of the same task."""
    change(result, **{name: getattr(newer, name) for name in TASK_REFRESH_ATTRS})
