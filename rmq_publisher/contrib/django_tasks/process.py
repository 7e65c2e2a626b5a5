"""A worker of tasks: one process, its threads, and its beats."""

import logging
import secrets
import socket
from collections.abc import Sequence
from os import getpid
from typing import Self

from django.db import DatabaseError, InterfaceError

from rmq_publisher.amqp.entities import QueueConfig, QueueName
from rmq_publisher.amqp.reply_codes import ACCESS_REFUSED
from rmq_publisher.consumer.worker import HandlerOverran, Worker
from rmq_publisher.consumer.worker_queue import WorkerQueue
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend
from rmq_publisher.contrib.django_tasks.execution import Run
from rmq_publisher.contrib.django_tasks.models import ID_MAX
from rmq_publisher.contrib.django_tasks.options import rabbitmq_alias
from rmq_publisher.contrib.django_tasks.runner import Runner
from rmq_publisher.contrib.django_tasks.work import TaskWork
from rmq_publisher.exceptions import Rejected
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.tasks")


def new_worker_id(given: str, *, shared: bool) -> str:
    """Return the id of this process: the given one, or one made from its host and process id.

    Args:
        given: may be empty.
        shared: whether other processes were given the same id.
    """
    if given:
        return (f"{given}-{getpid()}" if shared else given)[:ID_MAX]
    return f"{socket.gethostname()[:40]}-{getpid()}-{secrets.token_hex(4)}"


class TaskQueues(WorkerQueue):
    """The consumer of a task worker, which declares its queues whenever it starts to consume.

    Args:
        work: whose queues.
        alias: of the RabbitMQ connection.
        threads: how many tasks run at once, and how many messages are held.
    """

    def __init__(self, work: TaskWork, alias: str, threads: int) -> None:
        super().__init__(
            work.queues, using=alias, prefetch_count=threads, tag_prefix="rmq_worker."
        )
        self.qos(prefetch_count=threads, apply_global=True)
        self._work = work
        self._alias = alias

    def consume(self, no_ack: bool | None = None) -> Self:
        """Declare the queues and their retry queues, then consume.

        Without the permission to declare, they are verified.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        queues: list[QueueConfig] = [*self._work.queues, *self._work.waiting_queues]
        transport = connections[self._alias]
        timeout = transport.settings.publish_timeout
        try:
            transport.declare(tuple(queues), timeout)
        except Rejected as error:
            if error.reply_code != ACCESS_REFUSED:
                raise
            self.auto_declare = self._work.declares = False
            transport.declare(tuple(QueueName(queue.name) for queue in queues), timeout)
        return super().consume(no_ack)


class TaskProcess:
    """Has a worker run the tasks of some queues, and ends those that run for too long.

    Args:
        backend: whose tasks.
        queue_names: of tasks.
        threads: how many tasks run at once.
        worker_id: of this process; empty to make one.
        shares_id: whether other processes were given the same id.
        replaceable: whether a task that runs for too long ends the process, with `HandlerOverran`.
    """

    def __init__(
        self,
        backend: ConfiguredBackend,
        queue_names: Sequence[str],
        *,
        threads: int = 1,
        worker_id: str = "",
        shares_id: bool = False,
        replaceable: bool = False,
    ) -> None:
        options = backend.configured
        self.worker_id = new_worker_id(worker_id, shared=shares_id)
        self._options = options
        self._replaceable = replaceable
        self._runner = Runner(backend, self.worker_id)
        self._executor = self._runner.executor
        self._work = TaskWork(
            self._executor, backend.alias, options, queue_names, on_close=self._runner.end
        )
        self._alias = rabbitmq_alias(options)
        self._threads = threads

    def fill(self, worker: Worker) -> None:
        """Have a worker run the tasks, and start the heartbeats.

        Raises:
            DatabaseError, InterfaceError: Django's; the database cannot be used.
        """
        self._runner.begin()
        worker.add(TaskQueues(self._work, self._alias, self._threads), self._work, self._threads)

    def tick(self, _: Worker) -> None:
        """Find tasks that run for too long; call it about twice a second.

        Raises:
            HandlerOverran: this process must be replaced.
        """
        for run in self._executor.runs:
            if run.over or not run.is_too_long:
                continue
            run.over = True
            logger.error(
                "task %s (%s) has been running for more than %g s",
                run.id,
                run.path,
                run.options.timeout,
            )
            if self._replaceable:
                self._give_up(run)
                raise HandlerOverran(run.path)

    def _give_up(self, run: Run) -> None:
        try:
            self._executor.give_up(run)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("the timeout of a task could not be recorded: %s", type(error).__name__)
