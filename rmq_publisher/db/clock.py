"""The database's own clock: rows carry no time of a worker's, whose clock may be wrong."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

VENDORS = ("postgresql", "mysql", "sqlite")  # Django calls MariaDB mysql too


def after(connection: BaseDatabaseWrapper, seconds: float = 0.0) -> str:
    """Return the SQL of the database's now, seconds added, for a statement with parameters.

    Args:
        connection: of the database.
        seconds: may be negative.
    """
    if connection.vendor == "postgresql":
        # Not CURRENT_TIMESTAMP, which stands still from the transaction's begin.
        return f"(STATEMENT_TIMESTAMP() + {seconds:f} * INTERVAL '1 second')"
    if connection.vendor == "mysql":
        # Django keeps UTC there, whatever the server's time zone is.
        now = "UTC_TIMESTAMP(6)" if settings.USE_TZ else "CURRENT_TIMESTAMP(6)"
        return f"({now} + INTERVAL {seconds * 1_000_000:.0f} MICROSECOND)"
    # Without USE_TZ Django keeps local time there, and tells the C library which.
    zone = "" if settings.USE_TZ else ", 'localtime'"
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', '{seconds:+.3f} seconds'{zone})"


def database_now(connection: BaseDatabaseWrapper) -> datetime:
    """Ask a database for its time, as Django would read it from a column."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {after(connection)}", ())
        found = cursor.fetchone()[0]
    value = datetime.fromisoformat(found) if isinstance(found, str) else found
    if settings.USE_TZ and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value


class After(models.Func):
    """The database's now, seconds added, as an expression of queries."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(output_field=models.DateTimeField())
        self.seconds = seconds

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, tuple[Any, ...]]:
        """Return what `after` returns."""
        del compiler
        return after(connection, self.seconds), ()
