"""Runs the task of a message, then settles the message."""

import logging
from collections.abc import Callable, Sequence

from django.db import DatabaseError, InterfaceError

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.consumer import databases, dead_letters
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome
from rmq_publisher.contrib.django_tasks.claims import Claim, Meaning
from rmq_publisher.contrib.django_tasks.execution import Executor
from rmq_publisher.contrib.django_tasks.message import (
    PUT_BACK,
    TYPE,
    TaskMessage,
    TaskMessageError,
    read,
)
from rmq_publisher.contrib.django_tasks.options import BackendOptions, rabbitmq_alias
from rmq_publisher.contrib.django_tasks.topology import broker_queue, retry_levels
from rmq_publisher.exceptions import PublishError
from rmq_publisher.messages.compose import prepare
from rmq_publisher.serialization import DecodeError
from rmq_publisher.transport.delivery import deliver

logger = logging.getLogger("rmq_publisher.tasks")

NOT_AN_ATTEMPT = Outcome(Ended.NOT_AN_ATTEMPT)


class TaskWork:
    """Handles the messages of a backend's queues.

    Args:
        executor: runs the tasks.
        backend: alias in ``TASKS``.
        options: of the backend.
        queue_names: the names in ``TASKS``.
        on_close: called when the worker ends.

    Attributes:
        queues: the queues at the broker.
        declares: whether queues are declared; False verifies them.
    """

    batch = 1
    timeout: float | None = None  # each task has its own
    keeps = False

    def __init__(
        self,
        executor: Executor,
        backend: str,
        options: BackendOptions,
        queue_names: Sequence[str],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = f"backend {backend!r}"
        self.declares = True
        self.close = on_close
        self._executor = executor
        self._backend = backend
        self._database = options.database
        self._alias = rabbitmq_alias(options)
        self.queues = [broker_queue(options, name) for name in queue_names]
        self._levels = {queue.name: retry_levels(options, queue) for queue in self.queues}
        self._configs = {
            config.name: config
            for levels in self._levels.values()
            for config in levels.configs(self._alias)
        }

    @property
    def waiting_queues(self) -> list[QueueConfig]:
        """The queues in which tasks wait for another run."""
        return list(self._configs.values())

    def handle(self, messages: Sequence[ReceivedMessage]) -> Sequence[Outcome]:
        """Run the tasks of messages, and settle them."""
        try:
            return [self._handle(message) for message in messages]
        finally:
            databases.tidy(idle=False)

    def _handle(self, message: ReceivedMessage) -> Outcome:
        try:
            task = self._read(message)
        except (TaskMessageError, DecodeError) as error:
            return self._refused(message, error)
        redelivered = message.redelivered or bool(message.headers.get(PUT_BACK))
        claim = self._executor.execute(task, redelivered=redelivered)
        if claim is None:
            return NOT_AN_ATTEMPT
        if claim.meaning is Meaning.WAIT:
            return self._hand_over(message, task, claim, redelivered)
        _ack(message)
        return HANDLED

    def _read(self, message: ReceivedMessage) -> TaskMessage:
        task = read(message.decode())
        if task.backend != self._backend:
            raise TaskMessageError(
                f"it belongs to backend {task.backend[:60]!r}; this worker runs {self._backend!r}"
            )
        return task

    def _hand_over(
        self, message: ReceivedMessage, task: TaskMessage, claim: Claim, redelivered: bool
    ) -> Outcome:
        """Publish a delayed copy, and acknowledge the message once the copy is confirmed."""
        stay = self._levels[message.queue].stay(max(1, round(claim.seconds * 1000)))
        try:
            plan = prepare(
                message.body,
                queue=self._configs[stay.queue] if self.declares else stay.queue,
                using=self._alias,
                message_id=task.id,
                type=TYPE,
                content_type="application/json",
                priority=message.properties.get("priority"),
                headers={PUT_BACK: True} if redelivered else None,
            )
            deliver(*plan)
        except PublishError as error:
            logger.warning("task %s cannot be published to %r yet: %s", task.id, stay.queue, error)
            return Outcome(Ended.NOT_AN_ATTEMPT, error)
        _ack(message)
        return HANDLED

    def _refused(self, message: ReceivedMessage, error: Exception) -> Outcome:
        """Keep a message that is not a task's as a dead letter, where an operator sees it."""
        logger.error(
            "%s of queue %r is not a task: %s; it is stored as a dead letter",
            message,
            message.queue,
            error,
        )
        try:
            letter = dead_letters.from_worker(
                message,
                self._alias,
                handler="rmq_worker",
                reason="rejected",
                error=type(error).__name__,
                attempts=1,
            )
            dead_letters.store(self._database, [letter])
        except DecodeError:  # its body is larger than allowed, and was not kept
            pass
        except (DatabaseError, InterfaceError) as trouble:
            return Outcome(Ended.NOT_AN_ATTEMPT, trouble, database=self._database)
        _ack(message)
        return HANDLED

    def is_possible(self, outcome: Outcome) -> bool:
        """Return whether the database is available again."""
        return outcome.database is None or databases.can_connect(outcome.database)

    def overran(self, messages: Sequence[ReceivedMessage]) -> None:
        """Do nothing: tasks have their own timeouts, which `process` enforces."""

    def idle(self) -> None:
        """Close database connections that are not kept."""
        databases.tidy(idle=True)

    def thread_ends(self) -> None:
        """Close the thread's database connections."""
        databases.close_all()


def _ack(message: ReceivedMessage) -> None:
    try:
        message.ack()
    except MessageStateError:
        pass  # its channel is lost; when it is redelivered, its row decides what happens
