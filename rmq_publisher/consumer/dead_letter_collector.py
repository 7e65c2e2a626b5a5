"""Empties a dead-letter queue into the table of dead letters."""

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError
from django.db import connections as databases

from rmq_publisher.consumer.consumer import Consumer
from rmq_publisher.consumer.dead_letters import from_dead_letter_queue, store
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.db.errors import is_table_missing, reason, retried
from rmq_publisher.messages.compose import alias_of
from rmq_publisher.serialization import DecodeError
from rmq_publisher.timing import Backoff

logger = logging.getLogger("rmq_publisher.consumer")

PREFETCH = 100
POLL_SECONDS = 1.0
HELD_MAX = PREFETCH // 2  # messages that cannot be stored and keep a place of the prefetch
TAG_PREFIX = "rmq_dead_letters."

Pair = tuple[ReceivedMessage, Any]  # with its row, which is not saved yet


class DeadLettersStuckError(Exception):
    """Too many messages of a dead-letter queue cannot be stored."""


class DeadLetterCollector:
    """Takes messages from a dead-letter queue, commits each as a row, and only then acknowledges it.

    What cannot be stored stays in the queue and is logged.

    Args:
        queue: name of the dead-letter queue.
        using: RabbitMQ alias; may be left out when there is one.
        database: Django alias of the database that holds the table.

    Attributes:
        stored: how many rows were written.
    """

    def __init__(self, queue: str, *, using: str | None, database: str) -> None:
        self.stored = 0
        self._queue = queue
        self._using = alias_of(using)
        self._database = database
        self._came: list[ReceivedMessage] = []
        self._held: list[ReceivedMessage] = []
        self._stopping = threading.Event()
        self._backoff = Backoff()

    def stop(self) -> None:
        """End `run` within about a second; safe in a signal's handler."""
        self._stopping.set()

    def run(self, *, limit: int | None = None, until_empty: bool = False) -> None:
        """Store what comes, until `stop`.

        Args:
            limit: end after so many messages.
            until_empty: end once nothing has come for a second.

        Raises:
            Rejected: there is no such queue, or it may not be read.
            BrokerUnavailable: the broker cannot be reached at the start.
            DatabaseError: the table is missing.
            DeadLettersStuckError: too many messages cannot be stored.
        """
        count = 0
        with Consumer(
            [self._queue],
            using=self._using,
            on_message=self._came.append,
            prefetch_count=PREFETCH,
            tag_prefix=TAG_PREFIX,
        ) as consumer:
            while not self._stopping.is_set() and (limit is None or count < limit):
                try:
                    consumer.drain_events(POLL_SECONDS)
                except TimeoutError:
                    if until_empty:
                        break
                # What is left over goes back to the queue when the consumer closes.
                came, self._came[:] = self._came[: limit and limit - count], []
                count += len(came)
                self._keep(came)
                databases[self._database].close_if_unusable_or_obsolete()

    def _keep(self, messages: Sequence[ReceivedMessage]) -> None:
        """Store messages and acknowledge them; hold those that cannot be stored."""
        pairs = []
        for message in messages:
            try:
                pairs.append((message, from_dead_letter_queue(message, self._using)))
            except DecodeError as error:
                self._hold(message, str(error))
        for stored in self._stored(pairs):
            self._acknowledge(stored)

    def _acknowledge(self, message: ReceivedMessage) -> None:
        with suppress(MessageStateError):  # it comes again, and is recognised
            message.ack()

    def _stored(self, pairs: Sequence[Pair]) -> list[ReceivedMessage]:
        """Store rows, waiting for the database; return the messages that are stored."""
        while pairs and not self._stopping.is_set():
            try:
                rows = [row for _, row in pairs]
                self.stored += retried(self._database, partial(store, self._database, rows))
            except (OperationalError, InterfaceError) as error:
                if is_table_missing(error):
                    raise
                delay = self._backoff.delay()
                why = reason(error)
                logger.error(
                    "dead letters of queue %r wait for the database: %s", self._queue, why
                )
                databases[self._database].close()
                self._stopping.wait(delay)
            except DatabaseError as error:
                if is_table_missing(error):
                    raise
                return self._stored_one_by_one(pairs, error)
            else:
                self._backoff.reset()
                return [message for message, _ in pairs]
        return []

    def _stored_one_by_one(
        self, pairs: Sequence[Pair], error: DatabaseError
    ) -> list[ReceivedMessage]:
        if len(pairs) > 1:
            return [message for pair in pairs for message in self._stored([pair])]
        self._hold(pairs[0][0], f"the database refuses it: {reason(error)}")
        return []

    def _hold(self, message: ReceivedMessage, why: str) -> None:
        """Keep a message unsettled, so that it stays in the queue and does not come again at once."""
        logger.error("%s of dead-letter queue %r is left there: %s", message, self._queue, why)
        self._held.append(message)
        if len(self._held) > HELD_MAX:
            raise DeadLettersStuckError(
                f"more than {HELD_MAX} messages of queue {self._queue!r} cannot be stored; the log says "
                f"why each is left there, the last one: {why}"
            )
