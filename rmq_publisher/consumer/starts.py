"""Counts how often a handler started on a message and never ended, because its worker died.

The broker's counters cannot be used: classic queues have none, and quorum queues also count other
messages that the dead worker held, and orderly closes.
"""

import hashlib
import logging
import uuid
from typing import Any

from django.apps import apps
from django.db import DatabaseError, InterfaceError
from django.db.models import F, QuerySet

from rmq_publisher.consumer.deaths import clean_text
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.db.errors import retried
from rmq_publisher.db.keys import key_of
from rmq_publisher.db.support import unfit
from rmq_publisher.serialization import DecodeError

logger = logging.getLogger("rmq_publisher.consumer")


def identity(message: ReceivedMessage) -> str:
    """Return what identifies a message when it is redelivered: its id, or a digest of its body."""
    try:
        return message.message_id or f"sha256 {hashlib.sha256(message.body).hexdigest()}"
    except DecodeError:  # neither properties nor body can be read
        return f"sha256 {hashlib.sha256(message.header).hexdigest()}"


def label(message: ReceivedMessage) -> str:
    """Return the name of a message in log lines."""
    try:
        return message.message_id or "without id"
    except DecodeError:
        return "without readable properties"


class Starts:
    """The starts of one handler that have not ended, as rows of a table.

    A redelivered message gets a row before its handler starts; the row is deleted when the handler ends.
    Both happen in autocommit. The very first crash is therefore not recorded, and messages that were only
    waiting in a worker that died are not counted.

    Args:
        name: of the handler.
        database: Django alias.

    Attributes:
        reason: why nothing can be counted in that database; empty if it can.
    """

    def __init__(self, name: str, database: str) -> None:
        self._name = name
        self._database = database
        self.reason = unfit(database)
        self._running: set[uuid.UUID] = set()
        self._left_over: set[uuid.UUID] = set()  # ended, but not deleted yet

    def begin(self, message: ReceivedMessage) -> int:
        """Record that a handler is about to start; return how many earlier starts never ended.

        Raises:
            DatabaseError, InterfaceError: Django's; the handler must not start.
        """
        self.delete_left_over()
        key = self._key(message)
        before = retried(self._database, lambda: self._add(key, message))
        self._running.add(key)
        return before

    def note(self, message: ReceivedMessage) -> None:
        """Write the start of a running handler that is about to be killed, unless it is written already.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        if self._key(message) not in self._running:
            self.begin(message)

    def end(self, message: ReceivedMessage) -> None:
        """Record that the handler has ended."""
        if not self._running:
            return
        key = self._key(message)
        if key not in self._running:
            return
        self._running.discard(key)
        self._left_over.add(key)
        try:
            self.delete_left_over()
        except (DatabaseError, InterfaceError) as error:
            logger.warning(
                "handler %r: the start of message %s is not deleted yet: %s",
                self._name, label(message), type(error).__name__,
            )  # fmt: skip

    def delete_left_over(self) -> None:
        """Delete the rows of handlers that ended while the database could not be used.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        keys = set(self._left_over)
        if keys:
            rows = self._rows().filter(pk__in=keys)
            retried(self._database, rows.delete)
            self._left_over -= keys

    def _add(self, key: uuid.UUID, message: ReceivedMessage) -> int:
        row, is_new = self._rows().get_or_create(
            pk=key,
            defaults={
                "name": self._name,
                "message_id": clean_text(message.message_id),
                "starts": 1,
                "started_at": DatabaseNow(),
            },
        )
        if is_new:
            return 0
        self._rows().filter(pk=key).update(starts=F("starts") + 1, started_at=DatabaseNow())
        return int(row.starts)

    def _rows(self) -> QuerySet[Any]:
        # The model is not imported: apps may not be ready yet.
        table = apps.get_model("rmq_publisher", "HandlerStart")
        return table._default_manager.using(self._database)

    def _key(self, message: ReceivedMessage) -> uuid.UUID:
        return key_of(self._name, identity(message))
