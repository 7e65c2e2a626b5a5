"""What a database's error means: another transaction was in the way, or the table does not exist."""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError
from django.db import connections as databases

from rmq_publisher.timing import Backoff, monotonic

T = TypeVar("T")

RETRY_SECONDS = 2.0  # in a request: a lock that was waited for as long as this is not tried again

# PostgreSQL: serialization_failure, deadlock_detected, lock_not_available (lock_timeout).
_CONTENTION_STATES = {"40001", "40P01", "55P03"}
# MySQL and MariaDB: deadlock, lock wait timeout, changed since the snapshot (MariaDB 11.6 and later).
_CONTENTION_NUMBERS = {1213, 1205, 1020}
_CONTENTION_SQLITE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

# undefined_table and undefined_column in PostgreSQL, and the same in MySQL and MariaDB.
_MISSING_STATES = {"42P01", "42703"}
_MISSING_NUMBERS = {1146, 1054}
_MISSING_SQLITE = ("no such table", "no such column", "has no column named")

# Access and connection errors of the server, and all errors of the client, which knows no values.
_MYSQL_CONNECTING = {1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226, *range(2000, 3000)}


def is_contention(error: BaseException) -> bool:
    """Whether another transaction was in the way, so that the same statement may work a moment later."""
    cause = error.__cause__ or error
    sqlite_code = getattr(cause, "sqlite_errorcode", None)
    return (
        _state(cause) in _CONTENTION_STATES
        or _number(cause) in _CONTENTION_NUMBERS
        or (sqlite_code is not None and sqlite_code & 0xFF in _CONTENTION_SQLITE)
    )


def is_table_missing(error: BaseException) -> bool:
    """Whether a table or column does not exist: the migrations were not applied."""
    cause = error.__cause__ or error
    text = str(cause) if isinstance(cause, sqlite3.Error) else ""
    return (
        _state(cause) in _MISSING_STATES
        or _number(cause) in _MISSING_NUMBERS
        or any(words in text for words in _MISSING_SQLITE)
    )


def reason(error: Exception) -> str:
    """Return why a database could not be used, without what the driver may quote of a statement.

    The driver's own text is that of an error without a code of the server's: it could not connect.
    """
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg, psycopg2
    if code is None and cause.args and isinstance(cause.args[0], int):  # MySQL drivers
        code = None if cause.args[0] in _MYSQL_CONNECTING else cause.args[0]
    if code is not None:
        return f"{type(cause).__name__} (code {code})"
    return " ".join(str(error).split()) or type(error).__name__


def retried(database: str, call: Callable[[], T]) -> T:
    """Return what a call returns; while other transactions are in the way, call it again.

    Args:
        database: Django alias. In an open transaction nothing is tried again: it is lost as a whole.
        call: safe to repeat.

    Raises:
        DatabaseError: Django's, of the last attempt.
    """
    until = monotonic() + RETRY_SECONDS
    backoff = Backoff(first=0.01, cap=0.2)
    while True:
        try:
            return call()
        except DatabaseError as error:
            connection = databases[database]
            if connection.in_atomic_block or not is_contention(error) or monotonic() >= until:
                raise
        time.sleep(backoff.delay())


def _state(cause: BaseException) -> str | None:
    """Return the SQLSTATE, by psycopg's or psycopg2's name of it."""
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _number(cause: BaseException) -> int | None:
    """Return the error number of MySQL's drivers."""
    first = cause.args[0] if cause.args else None
    return first if isinstance(first, int) else None
