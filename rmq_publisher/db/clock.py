"""The database's clock. The times in rows are never a worker's: its clock may be wrong."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

VENDORS = ("postgresql", "mysql", "sqlite")  # Django calls MariaDB mysql too


def after(connection: BaseDatabaseWrapper, seconds: float = 0.0) -> str:
    """Return SQL for the database's current time plus some seconds, for a statement with parameters.

    Args:
        connection: to the database.
        seconds: may be negative.
    """
    if connection.vendor == "postgresql":
        # Not CURRENT_TIMESTAMP, which is the time at which the transaction began.
        return f"(STATEMENT_TIMESTAMP() + {seconds:f} * INTERVAL '1 second')"
    if connection.vendor == "mysql":
        # Django stores UTC there, whatever the server's time zone is.
        now = "UTC_TIMESTAMP(6)" if settings.USE_TZ else "CURRENT_TIMESTAMP(6)"
        return f"({now} + INTERVAL {seconds * 1_000_000:.0f} MICROSECOND)"
    # Without USE_TZ Django stores local time there, and sets the C library's time zone.
    zone = "" if settings.USE_TZ else ", 'localtime'"
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', '{seconds:+.3f} seconds'{zone})"


def database_now(connection: BaseDatabaseWrapper) -> datetime:
    """Return the database's current time, as Django would read it from a column."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {after(connection)}", ())
        found = cursor.fetchone()[0]
    value = datetime.fromisoformat(found) if isinstance(found, str) else found
    if settings.USE_TZ and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value


class DatabaseNow(models.Func):
    """The database's current time plus some seconds, as an expression in queries."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(output_field=models.DateTimeField())
        self.seconds = seconds

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the SQL of `after`."""
        del compiler
        return after(connection, self.seconds), ()
