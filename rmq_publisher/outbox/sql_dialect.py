"""Hand-written SQL for each kind of database, where the rate of a relay depends on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.db.clock import after
from rmq_publisher.db.schema import COLUMNS

# Switched off while PostgreSQL claims rows: with outdated statistics they make a claim slow.
_PLANS = ("enable_bitmapscan", "enable_seqscan", "enable_sort", "jit")


class Dialect:
    """How one connection's database writes what the databases write differently.

    Attributes:
        using: the quoted name of that column.
        lock: makes a SELECT lock its rows and skip those that are locked; empty on SQLite.
        by_key: makes MySQL use the index of ordering keys, whatever its statistics say.
        columns: the quoted columns that `row.from_row` reads.
        now: the SQL of the database's current time.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        quote = connection.ops.quote_name
        locks = connection.vendor != "sqlite"  # SQLite allows one writer at a time
        self.connection = connection
        self.using = quote("using")
        self.lock = " FOR UPDATE SKIP LOCKED" if locks else ""
        self.by_key = " FORCE INDEX (rmq_outbox_key)" if connection.vendor == "mysql" else ""
        self.columns = ", ".join(map(quote, COLUMNS))
        self.now = after(connection)

    def due(self, aliases: Sequence[str]) -> tuple[str, list[Any]]:
        """Return the condition of a row that may be sent now."""
        text = f"available_at <= {self.now} AND state IN ('pending', 'failed')"
        return f"{text} AND {self.using} IN ({places(aliases)})", [*aliases]

    @contextmanager
    def in_index_order(self) -> Iterator[None]:
        """Have PostgreSQL read rows in index order, in a transaction; elsewhere do nothing.

        If the table was empty when it was last analysed, PostgreSQL expects a few rows, and would
        fetch and sort all of them to find the first. Nothing is changed in a transaction that is
        open already, because the settings would last until its end.
        """
        if self.connection.vendor != "postgresql" or self.connection.in_atomic_block:
            yield
            return
        with transaction.atomic(using=self.connection.alias):
            off = ", ".join(f"set_config('{name}', 'off', true)" for name in _PLANS)
            self.run(f"SELECT {off}", [])
            yield

    def run(self, sql: str, params: Sequence[Any]) -> list[Any]:
        """Run a statement, and return its rows, if it returns any."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []


def by_id(ids: Sequence[int], condition: str) -> str:
    """Return the condition for those of these rows that meet another condition.

    The CASE keeps planners from using an index of the other condition: they would read all rows that
    are due, and MySQL would lock them.
    """
    return f"id IN ({places(ids)}) AND CASE WHEN {condition} THEN 1 ELSE 0 END = 1"


def places(values: Sequence[Any]) -> str:
    """Return a placeholder for each value."""
    return ", ".join(["%s"] * len(values))
