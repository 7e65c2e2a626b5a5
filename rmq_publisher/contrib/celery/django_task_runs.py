"""One run of a Django task in a process of a Celery worker."""

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from os import getpid
from typing import Any

from celery.exceptions import Reject
from kombu import Queue

from rmq_publisher.consumer import databases
from rmq_publisher.contrib.django_tasks.celery_format import TASK_NAME
from rmq_publisher.contrib.django_tasks.claims import Meaning
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend, backends
from rmq_publisher.contrib.django_tasks.message import (
    TaskMessage,
    TaskMessageError,
    as_new,
    read,
)
from rmq_publisher.contrib.django_tasks.process import new_worker_id
from rmq_publisher.contrib.django_tasks.runner import Runner

logger = logging.getLogger("rmq_publisher.tasks")


class Processes:
    """Runs tasks in this process, whichever of a worker's it is.

    Raises:
        ImproperlyConfigured: ``OPTIONS`` of a backend are wrong.
    """

    def __init__(self) -> None:
        self._backends = {
            one.alias: one for one in backends() if one.configured.format == "celery"
        }
        self._runners: dict[tuple[int, str], CeleryRunner] = {}
        self._lock = threading.Lock()  # of the threads pool

    def queues(self, more: Iterable[str]) -> Iterator[Any]:
        """Yield the queues of all backends as workers declare them: as `rmq_declare` does.

        Args:
            more: names of queues that the backends do not name.
        """
        for backend in self._backends.values():
            for name in sorted({*backend.queues, *more}):
                queue = backend.queue(name)
                arguments = dict(queue.x_arguments)
                yield Queue(queue.name, routing_key=queue.name, queue_arguments=arguments)

    def run(self, text: Any, *, redelivered: bool) -> None:
        """Run a task, if its row says so; return where its message is to be acknowledged.

        Raises:
            Reject: Celery's; it is no task, or the worker stops before the database was there again.
        """
        __traceback_hide__ = True  # the arguments
        try:
            task = self._read(text)
        except (ValueError, RecursionError) as error:
            logger.error("a message of %s is not a task: %s", TASK_NAME, error)
            raise Reject(str(error), requeue=False) from None  # whose cause holds the arguments
        try:
            self._runner(task.backend).run(task, redelivered=redelivered)
        finally:
            databases.tidy(idle=False)

    def _read(self, text: Any) -> TaskMessage:
        if not isinstance(text, str):
            raise TaskMessageError(f"its argument must be text, not {type(text).__name__}")
        task = read(json.loads(text))
        if task.backend not in self._backends:
            raise TaskMessageError(
                f'it is of backend {task.backend[:60]!r}, whose format is not "celery" here'
            )
        return task

    def _runner(self, alias: str) -> "CeleryRunner":
        # A child of a prefork worker inherits this object, but neither its threads nor its name.
        place = getpid(), alias
        with self._lock:
            if place not in self._runners:
                self._runners[place] = CeleryRunner(self._backends[alias])
            return self._runners[place]

    def end(self, **_: Any) -> None:
        """Say that the workers of this process have ended."""
        for place in [place for place in self._runners if place[0] == getpid()]:
            self._runners.pop(place).end()


class CeleryRunner(Runner):
    """Runs the tasks of a backend, and has those that are to run again wait in the table."""

    def __init__(self, backend: ConfiguredBackend) -> None:
        super().__init__(backend, new_worker_id("", shared=False))
        self._backend = backend
        self.persistence.persist(self.begin)

    def run(self, task: TaskMessage, *, redelivered: bool) -> None:
        """Run a task, if its row says so.

        Raises:
            Reject: the worker stops before the database was there again.
        """
        __traceback_hide__ = True  # the arguments
        claim = self.executor.execute(task, redelivered=redelivered)
        done: object = claim
        if claim is not None and claim.meaning is Meaning.WAIT:
            done = self.persistence.persist(
                lambda: self._put_back(task, claim.seconds, redelivered)
            )
        if done is None:
            raise Reject("the worker stops, and the database cannot be used", requeue=True)

    def _put_back(self, task: TaskMessage, seconds: float, redelivered: bool) -> bool:
        """Have the task come again after a while: its message waits in the table."""
        self._backend.send(
            as_new(task), delivery="outbox", countdown=seconds, put_back=redelivered
        )
        return True
