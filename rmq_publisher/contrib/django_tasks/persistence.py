"""Writes that are repeated until they succeed, or the worker stops."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.timing import Backoff

logger = logging.getLogger("rmq_publisher.tasks")

T = TypeVar("T")


class Persistence:
    """Repeats writes to a database, with backoff.

    Args:
        database: Django alias.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `persist` try only once more."""
        self._stopping.set()

    def persist(self, write: Callable[[], T]) -> T | None:
        """Return what ``write`` returns; None if the worker stops before it succeeds."""
        backoff = Backoff(first=0.1, cap=5.0)
        while True:
            try:
                return write()
            except (DatabaseError, InterfaceError) as error:
                # Only the class is logged, because the text may contain values.
                logger.warning(
                    "database %r: the state of a task cannot be written (%s); trying again",
                    self._database,
                    type(error).__name__,
                )
                self._close()
            if self._stopping.wait(backoff.delay()):
                return None

    def _close(self) -> None:
        try:
            databases[self._database].close()
        except (DatabaseError, InterfaceError):
            pass
