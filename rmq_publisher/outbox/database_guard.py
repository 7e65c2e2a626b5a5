"""A relay's calls to its database: an outage is logged once, and retried with backoff."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError
from django.db import connections as databases

from rmq_publisher.timing import Backoff

logger = logging.getLogger("rmq_publisher.relay")

T = TypeVar("T")

UNAVAILABLE = (OperationalError, InterfaceError)


class DatabaseGuard:
    """Notices when the database goes away and when it is back.

    Args:
        database: Django alias.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._is_away = False
        self._backoff = Backoff()

    def call(self, query: Callable[[], T]) -> T:
        """Return what a query returns; one that succeeds ends an outage.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        result = query()
        if self._is_away:
            self._is_away = False
            self._backoff.reset()
            logger.warning("relay of database %r: database available again", self._database)
        return result

    def on_failure(self, error: Exception) -> float:
        """Log the beginning of an outage and close the broken connection.

        Returns:
            The seconds to wait before the next attempt.
        """
        if not self._is_away:
            self._is_away = True
            logger.error(
                "relay of database %r: database unavailable: %s", self._database, reason(error)
            )
        databases[self._database].close()
        return self._backoff.delay()


def reason(error: Exception) -> str:
    """Return the driver's own words, in one line; they name the server and no values of rows."""
    return " ".join(str(error).split()) or type(error).__name__
