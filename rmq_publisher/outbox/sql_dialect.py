"""SQL by hand, in the words of each database: for statements on which a relay's rate hangs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.db.clock import after
from rmq_publisher.db.schema import COLUMNS

# What PostgreSQL is not to plan with while it claims, and what a planner's mistake must not start.
_PLANS = ("enable_bitmapscan", "enable_seqscan", "enable_sort", "jit")


class Dialect:
    """What the databases say differently, of one connection.

    Attributes:
        using: the quoted name of that column.
        lock: what makes a SELECT take rows that nobody else is taking.
        by_key: what makes MySQL use the keys' index, whatever it believes of the table.
        columns: those of `stored.from_row`, quoted.
        now: the database's now.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        quote = connection.ops.quote_name
        locks = connection.vendor != "sqlite"  # which knows one writer at a time, by IMMEDIATE
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
        """Have PostgreSQL read as the indexes are ordered, in a transaction; elsewhere do nothing.

        Where a table was empty when it was last analysed, it believes in a few rows, and would fetch
        and sort all of them for the first one. Within somebody else's transaction its settings are
        left alone: they would outlast the block.
        """
        if self.connection.vendor != "postgresql" or self.connection.in_atomic_block:
            yield
            return
        with transaction.atomic(using=self.connection.alias):
            off = ", ".join(f"set_config('{name}', 'off', true)" for name in _PLANS)
            self.run(f"SELECT {off}", [])
            yield

    def run(self, sql: str, params: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement; none of one that has no rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []


def by_id(ids: Sequence[int], condition: str) -> str:
    """Return the condition of those of these rows for which another one is true.

    It is put so that no planner, whatever it believes of the table, looks for the rows by an index of
    what else is asked of them: it would go through all that is due, and on MySQL lock it.
    """
    return f"id IN ({places(ids)}) AND CASE WHEN {condition} THEN 1 ELSE 0 END = 1"


def places(values: Sequence[Any]) -> str:
    """Return so many placeholders."""
    return ", ".join(["%s"] * len(values))
