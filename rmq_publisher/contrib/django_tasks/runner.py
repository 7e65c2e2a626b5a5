"""What runs tasks in a process, whatever brings their messages: `rmq_worker`, or Celery."""

import logging

from django.db import DatabaseError, InterfaceError

from rmq_publisher.consumer.databases import close_all
from rmq_publisher.contrib.django_tasks.beats import Beats
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend
from rmq_publisher.contrib.django_tasks.execution import Executor
from rmq_publisher.contrib.django_tasks.options import rabbitmq_alias
from rmq_publisher.contrib.django_tasks.persistence import Persistence
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.tasks")


class Runner:
    """Runs the tasks of a backend, and says that it is alive.

    Args:
        backend: whose tasks.
        worker_id: of this process.

    Attributes:
        executor: runs a task.
        persistence: tries again if the database cannot be used.
    """

    def __init__(self, backend: ConfiguredBackend, worker_id: str) -> None:
        options = backend.configured
        self._alias = rabbitmq_alias(options)
        self.persistence = Persistence(options.database)
        self.executor = Executor(options, type(backend), worker_id, self.persistence)
        self._beats = Beats(backend.alias, options, worker_id, self._product, self.executor.judge)

    def begin(self) -> None:
        """Say that the worker is alive, from now on.

        Raises:
            DatabaseError, InterfaceError: Django's; the database cannot be used.
        """
        self._beats.beat()
        self._beats.start()

    def end(self) -> None:
        """Record that the worker has ended; its unfinished tasks run again, uncounted."""
        self.persistence.stop()
        self._beats.stop()
        try:
            self.executor.release_all()
        except (DatabaseError, InterfaceError) as error:
            logger.warning(
                "the running tasks could not be made ready again: %s", type(error).__name__
            )
        self._beats.forget()
        close_all()  # this may not be the main thread

    def _product(self) -> str:
        return connections[self._alias].status().product
