"""The inbox: its row is committed with the handler's work, so that a message is handled once."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, transaction
from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.db.clock import after
from rmq_publisher.db.keys import key_of
from rmq_publisher.outbox.only_outbox import only_outbox

TEXT_MAX = 255
IN_ERROR = 3  # libpq's PQTRANS_INERROR


class MissingMessageId(Exception):
    """A message has no id, so a duplicate could not be recognised."""


class ReusedMessageId(Exception):
    """A message has the id of a handled message, but a different body."""


class WorkUndone(Exception):
    """A handler returned, but its transaction can only be rolled back."""


class InboxUnavailable(Exception):
    """A statement of the inbox failed, which is not the message's fault."""


class Inbox:
    """The messages that one handler has handled.

    Args:
        name: of the handler.
        database: Django alias; None for the default one.
    """

    def __init__(self, name: str, database: str | None) -> None:
        self.database = database or DEFAULT_DB_ALIAS
        self._name = name

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Open the transaction of the handler; in it, only publishing by the outbox is allowed."""
        connection, used = databases[self.database], None
        try:
            with transaction.atomic(using=self.database), only_outbox():
                used = connection.connection
                yield
        except (DatabaseError, InterfaceError) as error:
            if used is not None and connection.connection is used:
                raise
            # Django has reconnected, so that the lost connection cannot be seen later.
            raise InboxUnavailable(f"database {self.database!r}") from error

    def add(self, message: ReceivedMessage) -> bool:
        """Write the row of a message, in the transaction; return False if it was handled before.

        Raises:
            MissingMessageId: it has no id.
            ReusedMessageId: another message with its id was handled.
            DatabaseError, InterfaceError: Django's.
        """
        message_id = message.message_id
        if not message_id:
            raise MissingMessageId(
                "the message has no message_id, by which once=True recognises it"
            )
        connection = databases[self.database]
        digest = hashlib.sha256(message.body).hexdigest()
        key = _key(connection, self._name, message_id)
        values = [key, _storable(self._name), _storable(message_id), digest]
        with connection.cursor() as cursor:
            cursor.execute(_insert(connection), values)
            if cursor.rowcount == 1:
                return True
            cursor.execute(f"SELECT digest FROM {_table()} WHERE id = %s", [key])  # noqa: S608 (ours)
            found = cursor.fetchone()
        if found is not None and found[0] != digest:
            raise ReusedMessageId("another message with this message_id was handled before")
        return False

    def check_intact(self) -> None:
        """Check that the transaction can be committed.

        If the handler catches a database error outside of a savepoint, the transaction is rolled back at
        its end without an error. The message would be acknowledged, and its work lost.

        Raises:
            WorkUndone: it cannot be committed.
        """
        connection = databases[self.database]
        info = getattr(connection.connection, "info", None)  # psycopg's
        if connection.needs_rollback or getattr(info, "transaction_status", None) == IN_ERROR:
            raise WorkUndone(
                "the handler returned, and its transaction cannot be committed: catch database errors "
                "around `with transaction.atomic():`"
            )


def _table() -> str:
    name: str = apps.get_model("rmq_publisher", "InboxMessage")._meta.db_table
    return name


def _key(connection: BaseDatabaseWrapper, name: str, message_id: str) -> Any:
    field = apps.get_model("rmq_publisher", "InboxMessage")._meta.pk
    return field.get_db_prep_value(key_of(name, message_id), connection)


def _insert(connection: BaseDatabaseWrapper) -> str:
    """Return a statement that inserts a row unless it exists.

    An IntegrityError would abort the transaction on PostgreSQL.
    """
    insert, ignored = "INSERT", " ON CONFLICT DO NOTHING"
    if connection.vendor == "mysql":
        insert, ignored = "INSERT IGNORE", ""
    columns = "(id, name, message_id, digest, handled_at)"
    return (
        f"{insert} INTO {_table()} {columns} VALUES (%s, %s, %s, %s, {after(connection)}){ignored}"
    )


def _storable(text: str) -> str:
    """Return the text in a form that every database can store, for display."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        text = ascii(text)[1:-1]
    return text[:TEXT_MAX]
