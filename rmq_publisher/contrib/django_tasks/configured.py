"""A backend's options, read when the backend is made: by Django's checks too, so nothing connects."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.contrib.django_tasks import checks
from rmq_publisher.contrib.django_tasks.framework import BaseTaskBackend, task_backends
from rmq_publisher.contrib.django_tasks.message import NewTask
from rmq_publisher.contrib.django_tasks.options import BackendOptions, read
from rmq_publisher.contrib.django_tasks.topology import broker_queue


class ConfiguredBackend(BaseTaskBackend):
    """The configuration of ``TASKS[alias]``, for the backend, its worker and the checks.

    Invalid options raise no error here; `check` reports them, and so does the first call that needs one.
    """

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._options, self._problems = read(alias, params.get("OPTIONS", {}))

    def check(self, **_: Any) -> list[Any]:
        """Return the problems of ``OPTIONS``, without connecting to anything."""
        found = checks.check_backend(self.alias, self.queues, self._options)
        return checks.messages([*self._problems, *found])

    @property
    def configured(self) -> BackendOptions:
        """The options.

        Raises:
            ImproperlyConfigured: one of them is wrong.
        """
        if self._problems:
            raise ImproperlyConfigured("\n".join(map(str, self._problems)))
        return self._options

    @property
    def usable_options(self) -> BackendOptions:
        """The options, with defaults instead of invalid ones."""
        return self._options

    def send(
        self,
        task: NewTask,
        *,
        delivery: str | None = None,
        countdown: float | None = None,
        put_back: bool = False,
    ) -> None:
        """Publish the message of a task: after the commit, and once it is due.

        Args:
            task: what its row says.
            delivery: instead of the backend's.
            countdown: seconds to wait, instead of the task's own time.
            put_back: whether the task may be running, so that what comes again is no duplicate.

        Raises:
            InvalidMessage: it is over a limit.
            ImproperlyConfigured: the settings are wrong.
        """
        raise NotImplementedError

    def queue(self, queue_name: str) -> QueueConfig:
        """Return the broker's queue of a queue of tasks."""
        return broker_queue(self._options, queue_name)


def backends() -> Iterator[ConfiguredBackend]:
    """Yield the backends of ``TASKS`` that are ours; those that cannot be imported are left out."""
    for alias in getattr(settings, "TASKS", None) or ():
        try:
            backend = task_backends[alias]
        except ImproperlyConfigured:
            continue  # Django's own check reports it
        if isinstance(backend, ConfiguredBackend):
            yield backend
