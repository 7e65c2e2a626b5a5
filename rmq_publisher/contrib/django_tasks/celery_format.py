"""The message of a task in Celery's form, for backends with ``"format": "celery"``.

Its one argument is the text of docs/reference/task-message.md: as a dict, Celery would read marks of
its own into the task's arguments.
"""

from typing import Any

from rmq_publisher.contrib.celery.message import task_body, task_headers
from rmq_publisher.contrib.django_tasks.message import NewTask, body

TASK_NAME = "rmq_publisher.run_django_task"


def celery_body(task: NewTask, *, put_back: bool) -> str:
    """Return the body: what Celery calls its task with.

    Args:
        task: what its row says.
        put_back: whether the task may be running, so that what comes again is no duplicate.
    """
    return task_body([body(task)], {"put_back": True} if put_back else {})


def celery_properties(task: NewTask, timeout: float | None) -> dict[str, Any]:
    """Return keyword arguments of `publish`.

    Args:
        task: what its row says.
        timeout: seconds that a run may take: Celery's soft time limit.
    """
    # Celery's tools show the task's path; they are not shown its arguments.
    headers = task_headers(
        TASK_NAME, task.id, (), {}, soft_time_limit=timeout, ignore_result=True,
        shadow=task.task_path,
    )  # fmt: skip
    return {"headers": headers, "correlation_id": task.id, "content_encoding": "utf-8"}
