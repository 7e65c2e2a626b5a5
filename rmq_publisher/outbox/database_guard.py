"""A relay's calls to its database: an outage is logged once, and retried with backoff."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError
from django.db import connections as databases

from rmq_publisher.db.errors import is_contention, reason
from rmq_publisher.timing import Backoff, monotonic

logger = logging.getLogger("rmq_publisher.relay")

T = TypeVar("T")

UNAVAILABLE = (OperationalError, InterfaceError)
QUIET_SECONDS = 30.0  # of nothing but conflicts with other transactions


class DatabaseGuard:
    """Notices when the database goes away and when it is back.

    Args:
        database: Django alias.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._is_away = False
        self._backoff = Backoff()
        self._conflict_backoff = Backoff(first=0.01, cap=1.0)
        self._conflicts_since: float | None = None

    def call(self, query: Callable[[], T]) -> T:
        """Return what a query returns; one that succeeds ends an outage.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        result = query()
        self._conflicts_since = None
        if self._is_away:
            self._is_away = False
            self._backoff.reset()
            logger.warning("relay of database %r: database available again", self._database)
        return result

    def on_failure(self, error: Exception) -> float:
        """Log the beginning of an outage and close the broken connection.

        A conflict with other transactions is no outage: nothing is logged unless they last.

        Returns:
            The seconds to wait before the next attempt.
        """
        if is_contention(error):
            now = monotonic()
            if self._conflicts_since is None:
                self._conflicts_since = now
                self._conflict_backoff.reset()
            if now - self._conflicts_since < QUIET_SECONDS:
                return self._conflict_backoff.delay()
        if not self._is_away:
            self._is_away = True
            logger.error(
                "relay of database %r: database unavailable: %s", self._database, reason(error)
            )
        databases[self._database].close()
        return self._backoff.delay()
