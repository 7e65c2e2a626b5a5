"""Stores the messages of a dead-letter queue as rows, and acknowledges each after the commit."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError

from rmq_publisher.consumer import databases, dead_letters
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.consumer.outcomes import HANDLED, Ended, Outcome
from rmq_publisher.consumer.retention import RetentionPruner
from rmq_publisher.consumer.worker import Worker
from rmq_publisher.consumer.worker_queue import WorkerQueue
from rmq_publisher.db.errors import is_table_missing, reason, retried
from rmq_publisher.db.support import how_to_migrate
from rmq_publisher.messages.compose import alias_of
from rmq_publisher.serialization import DecodeError

logger = logging.getLogger("rmq_publisher.consumer")

BATCH = 100  # messages of one transaction
LEFT_MAX = BATCH // 2  # messages that cannot be stored and stay in the prefetch window


class DeadLettersStuckError(Exception):
    """Too many messages of a dead-letter queue cannot be stored."""


class DeadLetterWork:
    """Stores the messages of a dead-letter queue (a `lane.Work`).

    Messages that cannot be stored stay in the queue and are logged. While the database is down, the
    worker waits.

    Args:
        queue: name of the dead-letter queue.
        using: RabbitMQ alias.
        database: Django alias of the database that holds the table.

    Attributes:
        stored: how many rows were written.
    """

    batch = BATCH
    timeout: float | None = None
    keeps = False

    def __init__(self, queue: str, using: str, database: str) -> None:
        self.name = f"dead letters of queue {queue!r}"
        self.stored = 0
        self._using = using
        self._database = database
        self._left = 0
        self._pruner = RetentionPruner([database])

    def handle(self, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
        """Store messages and settle them; return how each ended.

        Raises:
            DeadLettersStuckError: too many cannot be stored.
        """
        try:
            return self._handle(messages)
        finally:
            self._pruner.prune_if_due()
            databases.tidy(idle=False)

    def _handle(self, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
        if not messages:
            return []
        try:
            rows = [
                dead_letters.from_dead_letter_queue(message, self._using) for message in messages
            ]
            self.stored += retried(self._database, partial(self._store, rows))
        except (OperationalError, InterfaceError) as error:
            return [self._postponed(error)] * len(messages)
        except (DatabaseError, DecodeError) as error:
            if isinstance(error, DatabaseError) and is_table_missing(error):
                return [self._postponed(error)] * len(messages)
            return self._one_by_one(messages, error)
        for message in messages:
            with suppress(MessageStateError):  # it is redelivered, and recognised
                message.ack()
        return [HANDLED] * len(messages)

    def _store(self, rows: Sequence[Any]) -> int:
        return dead_letters.store(self._database, rows)

    def _postponed(self, error: Exception) -> Outcome:
        logger.error("%s wait for database %r: %s", self.name, self._database, reason(error))
        return Outcome(Ended.NOT_AN_ATTEMPT, error, database=self._database)

    def _one_by_one(self, messages: Sequence[ReceivedMessage], error: Exception) -> list[Outcome]:
        if len(messages) > 1:
            return [outcome for message in messages for outcome in self._handle([message])]
        why = reason(error) if isinstance(error, DatabaseError) else str(error)
        logger.error("%s: %s is left in the queue: %s", self.name, messages[0], why)
        self._left += 1
        if self._left > LEFT_MAX:
            raise DeadLettersStuckError(
                f"{self.name}: more than {LEFT_MAX} messages cannot be stored and are left in the queue; "
                f"the log names each. The last one: {why}"
            )
        # It stays unsettled until the worker ends, so that it is not redelivered at once.
        return [Outcome(Ended.REJECTED, error)]

    def is_possible(self, outcome: Outcome) -> bool:
        """Return whether the database is available again."""
        return outcome.database is None or databases.can_connect(outcome.database)

    def overran(self, messages: Sequence[ReceivedMessage]) -> None:
        """Do nothing: there is no timeout."""

    def close(self) -> None:
        """Do nothing: there is nothing besides the threads."""

    def idle(self) -> None:
        """Delete old rows, and close database connections that are not kept."""
        self._pruner.prune_if_due()
        databases.tidy(idle=True)

    def thread_ends(self) -> None:
        """Close the thread's database connections."""
        databases.close_all()


def add_dead_letters(
    worker: Worker, queue: str, using: str | None, database: str, threads: int = 1
) -> DeadLetterWork:
    """Have a worker store the messages of a dead-letter queue.

    Args:
        worker: not running yet.
        queue: name of the dead-letter queue.
        using: RabbitMQ alias; may be left out when there is one.
        database: Django alias of the database that holds the table.
        threads: the number of threads that store messages.

    Raises:
        TopologyError: a name that AMQP cannot carry.
        InvalidMessage, ImproperlyConfigured: there is no such alias, or none is named.
    """
    consumer = WorkerQueue(
        [queue], using=using, prefetch_count=BATCH * threads, tag_prefix="rmq_dead_letters."
    )
    work = DeadLetterWork(queue, alias_of(using), database)
    worker.add(consumer, work, threads)
    return work


def without_table(database: str) -> str:
    """Return why dead letters cannot be stored; empty if they can. Asks the database."""
    try:
        dead_letters.rows(database).values("pk")[:1].exists()
    except (DatabaseError, InterfaceError) as error:
        if is_table_missing(error):
            return f"database {database!r}: {how_to_migrate(database)}."
    return ""  # the worker waits for a database that is down
