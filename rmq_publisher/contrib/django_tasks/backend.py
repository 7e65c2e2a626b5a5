"""`RabbitMQBackend`: ``TASKS`` over RabbitMQ, with results in the database."""

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.db import connections as databases
from django.db import transaction
from django.utils import timezone

from rmq_publisher.contrib.django_tasks import records, results
from rmq_publisher.contrib.django_tasks.celery_format import celery_body, celery_properties
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend
from rmq_publisher.contrib.django_tasks.framework import (
    AnyResult,
    AnyTask,
    TaskResultDoesNotExist,
    normalize_json,
    task_enqueued,
)
from rmq_publisher.contrib.django_tasks.message import PUT_BACK, TYPE, NewTask, body, dumps
from rmq_publisher.contrib.django_tasks.options import rabbitmq_alias
from rmq_publisher.contrib.django_tasks.task import RabbitMQTask
from rmq_publisher.contrib.django_tasks.topology import message_priority
from rmq_publisher.publisher.api import publish
from rmq_publisher.publisher.databases import open_transactions
from rmq_publisher.publisher.event_loop import refuse_in_event_loop
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.tasks")


class RabbitMQBackend(ConfiguredBackend):
    """Enqueues in the caller's transaction: the task's row and its message are committed together."""

    task_class = RabbitMQTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

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
        task, options = _storable(task), self.configured
        self.validate_task(task)
        args_json = dumps(normalize_json(list(args)))
        kwargs_json = dumps(normalize_json(dict(kwargs)))
        # Through JSON, as get_result() will read them, so that keys are strings.
        result = results.new_result(
            task, uuid.uuid4().hex, json.loads(args_json), json.loads(kwargs_json)
        )
        self._warn_of_other_transactions()
        new = NewTask(
            id=result.id,
            backend=self.alias,
            task_path=task.module_path,
            queue_name=task.queue_name,
            priority=task.priority,
            run_after=task.run_after,
            args=args_json,
            kwargs=kwargs_json,
        )
        with self._transaction():
            # First, so that a task that cannot be sent fails before anything is written.
            self.send(new)
            results.change(result, enqueued_at=records.insert(options.database, new))
            task_enqueued.send(type(self), task_result=result)
        return result

    def send(
        self,
        task: NewTask,
        *,
        delivery: str | None = None,
        countdown: float | None = None,
        put_back: bool = False,
    ) -> None:
        """Publish the message of a task; see `ConfiguredBackend.send`."""
        __traceback_hide__ = True  # the arguments
        options = self.configured
        alias = rabbitmq_alias(options)
        product = connections[alias].status().product
        text, properties = self._message(task, put_back)
        publish(
            text,
            queue=self.queue(task.queue_name),
            using=alias,
            database=options.database,
            delivery=delivery or options.delivery,  # type: ignore[arg-type]
            message_id=task.id,
            content_type="application/json",
            priority=message_priority(task.priority, options, product),
            eta=task.run_after if countdown is None else None,
            countdown=countdown,
            **properties,
        )

    def _message(self, task: NewTask, put_back: bool) -> tuple[str, dict[str, Any]]:
        """Return the body, and what else `publish` must be told of it."""
        if self.configured.format == "json":
            headers = {PUT_BACK: True} if put_back else None
            return body(task), {"type": TYPE, "headers": headers}
        timeout = self.configured.of(
            task.task_path, results.own_options_at(task.task_path)
        ).timeout
        return celery_body(task, put_back=put_back), celery_properties(task, timeout)

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

    def _transaction(self) -> AbstractContextManager[Any]:
        """Open a transaction if none is open; a savepoint would cost two statements."""
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


def _storable(task: AnyTask) -> AnyTask:
    """Return the task with a run_after that the database can store."""
    run_after = task.run_after
    if run_after is not None and not settings.USE_TZ and timezone.is_aware(run_after):
        return task.using(run_after=timezone.make_naive(run_after))
    return task
