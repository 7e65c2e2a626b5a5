"""The message of a task: JSON, so that a worker in another language can read it.

docs/reference/task-message.md describes it. Increase `VERSION` with every change; a worker refuses
versions that it does not know.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

VERSION = 1
TYPE = "rmq_publisher.task"  # AMQP's property
# A header of the delayed copy of a message whose task may still be running. The broker delivers the copy
# for the first time, but for the task it is a redelivery.
PUT_BACK = "x-rmq-task-put-back"
PUT_BACK_SECONDS = 5.0  # how long the copy waits


class TaskMessageError(ValueError):
    """A message is not that of a task. The text names the problem, and contains no values."""


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """What a worker needs to know to run a task."""

    id: str
    task: str  # dotted path
    args: list[Any]
    kwargs: dict[str, Any]
    backend: str
    queue: str
    priority: int
    run_after: datetime | None


class NewTask(NamedTuple):
    """A task as its row keeps it; ``args`` and ``kwargs`` are JSON."""

    id: str
    backend: str
    task_path: str
    queue_name: str
    priority: int
    run_after: datetime | None
    args: str
    kwargs: str


def dumps(value: object) -> str:
    """Return JSON in ASCII.

    Raises:
        ValueError: it contains NaN or infinity, which JSON does not support.
        TypeError: it contains another value that JSON does not support.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def body(task: NewTask) -> str:
    """Return the body of a task's message; its arguments are JSON already."""
    run_after = None if task.run_after is None else task.run_after.isoformat()
    head = dumps(
        {
            "version": VERSION,
            "id": task.id,
            "task": task.task_path,
            "backend": task.backend,
            "queue": task.queue_name,
            "priority": task.priority,
            "run_after": run_after,
        }
    )
    return f'{head[:-1]},"args":{task.args},"kwargs":{task.kwargs}}}'


def read(payload: object) -> TaskMessage:
    """Return the task of a decoded body.

    Raises:
        TaskMessageError: it is not one.
    """
    if not isinstance(payload, Mapping):
        raise TaskMessageError(f"the body must be an object, not {type(payload).__name__}")
    version = payload.get("version")
    if version != VERSION:
        raise TaskMessageError(f"version must be {VERSION}, which this worker reads")
    wanted: dict[str, type[Any]] = {
        "id": str, "task": str, "args": list, "kwargs": dict, "backend": str, "queue": str,
        "priority": int,
    }  # fmt: skip
    for name, kind in wanted.items():
        if not isinstance(payload.get(name), kind):
            found = type(payload.get(name)).__name__
            raise TaskMessageError(f"{name} must be of type {kind.__name__}, not {found}")
    return TaskMessage(
        run_after=_time(payload.get("run_after")), **{name: payload[name] for name in wanted}
    )


def as_new(task: TaskMessage) -> NewTask:
    """Return a task that was read as its row keeps it, so that it can be sent again."""
    return NewTask(
        id=task.id,
        backend=task.backend,
        task_path=task.task,
        queue_name=task.queue,
        priority=task.priority,
        run_after=task.run_after,
        args=dumps(task.args),
        kwargs=dumps(task.kwargs),
    )


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TaskMessageError("run_after must be null or a time of ISO 8601") from None
