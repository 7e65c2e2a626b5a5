"""Django's class of tasks, with options in the decorator for how a worker runs them."""

from dataclasses import dataclass
from typing import Any

from rmq_publisher.contrib.django_tasks.framework import Task
from rmq_publisher.contrib.django_tasks.options import TASK_OPTIONS, task_options


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitMQTask(Task):  # type: ignore[type-arg]
    """A task whose decorator may say how it is run: on Django 6.1, and with the backport.

    Attributes:
        max_attempts: runs that may end in an exception or by the timeout.
        backoff: seconds before the second attempt, and at most.
        timeout: seconds that a run may take.
        max_deaths: workers that may die over it.
    """

    max_attempts: int | None = None
    backoff: tuple[float, float] | None = None
    timeout: float | None = None
    max_deaths: int | None = None

    def __post_init__(self) -> None:
        own_options(self)  # raises ValueError
        # By name: super() without arguments breaks in a dataclass with slots before Python 3.14.
        Task.__post_init__(self)


def own_options(task: object) -> dict[str, Any]:
    """Return the options in a task's decorator.

    Raises:
        ValueError: names the keyword.
    """
    found = {name: getattr(task, name, None) for name in TASK_OPTIONS}
    return task_options({name: value for name, value in found.items() if value is not None})
