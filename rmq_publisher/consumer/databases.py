"""The database connections of a handler's thread: kept while there is work.

Not closed after each message, as Django closes them after each request where CONN_MAX_AGE is 0:
connecting would cost more than most handlers do.
"""

from django.db import DatabaseError, InterfaceError, reset_queries
from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper


def tidy(*, idle: bool) -> None:
    """Close the connections of this thread that are unusable or older than CONN_MAX_AGE.

    A connection in a transaction is left open: in a `TestCase`, handlers run in its transaction.

    Args:
        idle: whether the thread waits for messages; a CONN_MAX_AGE of 0 counts only then.
    """
    reset_queries()
    for connection in databases.all(initialized_only=True):
        if connection.in_atomic_block:
            continue
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            if idle:
                connection.close()
                continue
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


def close_all() -> None:
    """Close the connections of this thread."""
    for connection in databases.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def unusable_database() -> str | None:
    """Return the alias of a database that this thread cannot use any more, or None.

    Every open connection is checked, because a rollback on a lost one succeeds and resets Django's error
    flag. A lost connection counts even if reconnecting is possible: it was not the message's fault.
    """
    for connection in databases.all(initialized_only=True):
        is_in_doubt = connection.connection is not None or connection.errors_occurred
        if is_in_doubt and not connection.in_atomic_block and not _works(connection):
            return connection.alias
    return None


def _works(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return False  # it could not be made, or Django closed it as it could not roll back
    if not connection.is_usable():
        connection.close()
        return False
    connection.errors_occurred = False
    return True


def can_connect(database: str) -> bool:
    """Return whether this thread can use a database."""
    connection = databases[database]
    try:
        if connection.connection is not None and not connection.is_usable():
            connection.close()
        connection.ensure_connection()
    except (DatabaseError, InterfaceError):
        return False
    return True
