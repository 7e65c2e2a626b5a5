"""SQL by hand, in the words of each database: for statements on which a relay's rate hangs."""

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.dbtime import after
from rmq_publisher.stored import COLUMNS


class Dialect:
    """What the databases say differently, of one connection.

    Attributes:
        using: the quoted name of that column.
        lock: what makes a SELECT take rows that nobody else is taking.
        columns: those of `stored.from_row`, quoted.
        now: the database's now, with its parameters in ``now_params``.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        quote = connection.ops.quote_name
        locks = connection.vendor != "sqlite"  # which knows one writer at a time, by IMMEDIATE
        self.connection = connection
        self.using = quote("using")
        self.lock = " FOR UPDATE SKIP LOCKED" if locks else ""
        self.columns = ", ".join(map(quote, COLUMNS))
        self.now, self.now_params = after(connection)

    def due(self, aliases: Sequence[str]) -> tuple[str, list[Any]]:
        """Return the condition of a row that may be sent now."""
        text = f"available_at <= {self.now} AND state IN ('pending', 'failed')"
        return f"{text} AND {self.using} IN ({places(aliases)})", [*self.now_params, *aliases]

    def run(self, sql: str, params: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement; none of one that has no rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []


def places(values: Sequence[Any]) -> str:
    """Return so many placeholders."""
    return ", ".join(["%s"] * len(values))
