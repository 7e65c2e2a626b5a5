"""`RabbitMQBackend`: ``TASKS`` over RabbitMQ, with results in the database."""

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections as databases
from django.db import transaction
from django.utils import timezone

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.contrib.django_tasks import checks, records, results
from rmq_publisher.contrib.django_tasks.framework import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    TaskResultDoesNotExist,
    normalize_json,
    task_enqueued,
)
from rmq_publisher.contrib.django_tasks.message import TYPE, TaskMessage, body, dumps
from rmq_publisher.contrib.django_tasks.options import (
    BackendOptions,
    TaskOptions,
    rabbitmq_alias,
    read,
)
from rmq_publisher.contrib.django_tasks.task import RabbitMQTask, own_options
from rmq_publisher.contrib.django_tasks.topology import broker_queue, message_priority
from rmq_publisher.publisher.api import publish
from rmq_publisher.publisher.databases import open_transactions
from rmq_publisher.publisher.event_loop import refuse_in_event_loop
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.tasks")


class RabbitMQBackend(BaseTaskBackend):
    """Enqueues in the caller's transaction: the task's row and its message are committed together.

    ``OPTIONS`` are read when the backend is made, which neither connects nor raises: `check` tells what
    is wrong with them, and so does the first call that needs them.
    """

    task_class = RabbitMQTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._options, self._problems = read(alias, params.get("OPTIONS", {}))

    # What Django calls

    def enqueue(  # type: ignore[override]
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> AnyResult:
        """Write a task and its message in the transaction on the backend's database.

        Returns:
            The task's result, as `get_result` finds it from then on.

        Raises:
            InvalidTask: Django's (the backport's: InvalidTaskError); the backend cannot run it.
            TypeError, ValueError: an argument is not JSON.
            InvalidMessage: the message is over a limit.
            ImproperlyConfigured: ``OPTIONS`` are wrong.
            SynchronousOnlyOperation: called in a running event loop; use ``aenqueue``.
        """
        __traceback_hide__ = True  # the arguments
        refuse_in_event_loop("enqueue()", "await task.aenqueue(...)")
        task = _storable(task)
        self.validate_task(task)
        args_json = dumps(normalize_json(list(args)))
        kwargs_json = dumps(normalize_json(dict(kwargs)))
        # From JSON, as get_result() will read them: its keys are strings.
        result = results.new_result(
            task, uuid.uuid4().hex, json.loads(args_json), json.loads(kwargs_json)
        )
        self._warn_of_other_transactions()
        with self._transaction():
            self._publish(result, args_json, kwargs_json)
            self._insert(result, args_json, kwargs_json)
            task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> AnyResult:
        """Return the result of a task of this alias.

        Raises:
            TaskResultDoesNotExist: there is none; it may have been pruned.
            ImportError: the task is not in the project any more.
        """
        row = records.get(self.configured.database, result_id, self.alias)
        if row is None:
            raise TaskResultDoesNotExist(result_id)
        return results.result_of(row)

    def check(self, **_: Any) -> list[Any]:
        """Return what is wrong with ``OPTIONS``, without connecting to anything."""
        found = checks.check_backend(self.alias, self.queues, self._options)
        return checks.messages([*self._problems, *found])

    # What the worker and the commands ask

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
        """The options, with defaults in the place of those that are wrong."""
        return self._options

    def queue(self, queue_name: str) -> QueueConfig:
        """Return the broker's queue of a queue of tasks."""
        return broker_queue(self._options, queue_name)

    def run_options(self, task: AnyTask) -> TaskOptions:
        """Return how a task is run.

        Raises:
            ImproperlyConfigured: ``OPTIONS`` are wrong.
        """
        return self.configured.of(task.module_path, own_options(task))

    # Enqueuing

    def _transaction(self) -> AbstractContextManager[Any]:
        """Begin a transaction where none is open; in one, a savepoint would cost two statements."""
        database = self.configured.database
        if databases[database].in_atomic_block:
            return nullcontext()
        return transaction.atomic(using=database)

    def _warn_of_other_transactions(self) -> None:
        database = self.configured.database
        others = [alias for alias in open_transactions() if alias != database]
        if others:
            logger.warning(
                "a task is enqueued inside a transaction on %s, and is not part of it: backend %r keeps "
                "its tasks in database %r",
                ", ".join(map(repr, others)),
                self.alias,
                database,
            )

    def _publish(self, result: AnyResult, args: str, kwargs: str) -> None:
        __traceback_hide__ = True  # the arguments
        options, task = self.configured, result.task
        alias = rabbitmq_alias(options)
        message = TaskMessage(
            id=result.id,
            task=task.module_path,
            args=[],
            kwargs={},
            backend=self.alias,
            queue=task.queue_name,
            priority=task.priority,
            run_after=task.run_after,
        )
        publish(
            body(message, args, kwargs),
            queue=self.queue(task.queue_name),
            using=alias,
            database=options.database,
            delivery=options.delivery,  # type: ignore[arg-type]
            message_id=result.id,
            type=TYPE,
            content_type="application/json",
            priority=message_priority(task.priority, options, connections[alias].status().product),
            eta=task.run_after,
        )

    def _insert(self, result: AnyResult, args: str, kwargs: str) -> None:
        __traceback_hide__ = True  # the arguments
        task = result.task
        new = records.NewTask(
            id=result.id,
            backend=self.alias,
            task_path=task.module_path,
            queue_name=task.queue_name,
            priority=task.priority,
            run_after=task.run_after,
            args=args,
            kwargs=kwargs,
        )
        enqueued_at = records.insert(self.configured.database, new)
        results.change(result, enqueued_at=enqueued_at)


def _storable(task: AnyTask) -> AnyTask:
    """Return a task whose time the database can keep."""
    run_after = task.run_after
    if run_after is not None and not settings.USE_TZ and timezone.is_aware(run_after):
        return task.using(run_after=timezone.make_naive(run_after))
    return task
