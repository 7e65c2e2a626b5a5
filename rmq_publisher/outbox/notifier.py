"""How a relay sleeps: until its time is up, somebody wakes it, or PostgreSQL notifies it."""

import os
import select
import weakref
from typing import Any

from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.timing import monotonic

CHANNEL = "rmq_publisher"


class PollSchedule:
    """When to poll for rows of one kind again: at once, unless the last poll found none.

    Args:
        every: seconds between two polls that find nothing.

    Attributes:
        at: when the next poll is due, by `timing.monotonic`.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._is_wanted = False
        self.at = 0.0

    def soon(self) -> None:
        """Poll at once, and once more where a poll is under way."""
        self.at = 0.0
        self._is_wanted = True

    def begin(self) -> None:
        """Begin a poll, which may take several queries."""
        self._is_wanted = False

    def end(self, within: float | None = None) -> None:
        """End a poll; unless `soon` was called meanwhile, the next one is due after the interval.

        Args:
            within: seconds until something is known to be due; None if nothing is.
        """
        if not self._is_wanted:
            self.at = monotonic() + min(self._every, self._every if within is None else within)


class Sleeper:
    """Sleeps, and is woken by any thread or by a signal's handler."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        # Not sooner: somebody may wake it when it has long ended.
        weakref.finalize(self, _close, self._reader, self._writer)

    def wake(self) -> None:
        """End the sleep, or the next one."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # it is full: the sleeper wakes anyway

    def sleep(self, seconds: float, *descriptors: int) -> None:
        """Sleep so long at most, or until one of the descriptors has something to read."""
        poll = select.poll()
        for descriptor in (self._reader, *descriptors):
            poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)
        try:
            while len(os.read(self._reader, 4096)) == 4096:
                pass
        except BlockingIOError:
            return  # nobody woke us


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Listener:
    """Hears PostgreSQL's notifications on a connection that is used for other things as well.

    With another database, or with psycopg 2, it hears nothing: notifications are hints, and whoever
    waits for them looks by itself from time to time.

    Args:
        database: Django alias.

    Attributes:
        notified: whether there was a notification that `hear` did not tell of yet.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._heard: Any = None  # the driver's connection that listens
        self.notified = False

    @property
    def _connection(self) -> BaseDatabaseWrapper:
        return databases[self._database]  # that of the calling thread

    def descriptors(self) -> tuple[int, ...]:
        """Return what to sleep on; begin to listen where the connection is a new one.

        Raises:
            OperationalError, InterfaceError: the database is unavailable.
        """
        if self._connection.vendor != "postgresql":
            return ()
        self._connection.ensure_connection()
        raw = self._connection.connection
        if not hasattr(raw, "add_notify_handler"):
            return ()
        if raw is not self._heard:
            raw.add_notify_handler(self._on_notify)
            with self._connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            self._heard = raw
            self.notified = True  # what was sent before we listened was not heard
        return (raw.fileno(),)

    def _on_notify(self, _: object) -> None:
        self.notified = True

    def hear(self) -> bool:
        """Return whether there was a notification since the last call.

        Raises:
            OperationalError, InterfaceError: the database is unavailable.
        """
        if self._heard is not None and self._heard is self._connection.connection:
            with self._connection.wrap_database_errors:
                self._heard.pgconn.consume_input()
                while self._heard.pgconn.notifies():
                    self.notified = True
        notified, self.notified = self.notified, False
        return notified


def notify(database: str) -> None:
    """Wake the relays of a database, where it can.

    Raises:
        DatabaseError, InterfaceError: the database's.
    """
    connection = databases[database]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
