"""Which relays are running on a database: each writes a row from time to time."""

import os
import socket
from datetime import datetime
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections as databases

from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.timing import monotonic

BEAT_SECONDS = 10.0
ALIVE_SECONDS = 60.0  # a relay that was seen within this time is running
KEPT_SECONDS = 24 * 3600.0


class RelayStatus(NamedTuple):
    """A relay, and when it was last seen.

    Attributes:
        name: its host and process.
        started_at: by the database's clock.
        seconds: since its last beat.
    """

    name: str
    started_at: datetime
    seconds: float

    @property
    def alive(self) -> bool:
        """Whether it was seen in the last minute."""
        return self.seconds <= ALIVE_SECONDS


def _relays(database: str) -> Any:
    return apps.get_model("rmq_publisher", "RelaySeen")._default_manager.using(database)


def beat(database: str, name: str, started: datetime) -> None:
    """Record that a relay is running, now by the database's clock.

    Args:
        database: Django alias.
        name: of the relay: one for each process.
        started: when it began, by the database's clock.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    relays = _relays(database)
    if not relays.filter(name=name).update(seen_at=DatabaseNow(), started_at=started):
        row = relays.model(
            name=name, started_at=started, seen_at=database_now(databases[database])
        )
        relays.bulk_create([row], ignore_conflicts=True)


def forget(database: str, name: str) -> None:
    """Delete the row of a relay that has ended in an orderly way.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    _relays(database).filter(name=name).delete()


class Heartbeat:
    """Writes the heartbeats of a relay, and the counts of published messages with them.

    Args:
        database: Django alias.
        once: for a relay that a timer starts repeatedly: all its runs share one name, whose row is
            kept, so that it shows when the last of them ran.

    Attributes:
        due_at: when the next beat is due, by `timing.monotonic`.
    """

    def __init__(self, database: str, *, once: bool = False) -> None:
        self.due_at = 0.0
        self._database = database
        self._once = once
        self._name = f"{socket.gethostname()} {'--once' if once else f'[{os.getpid()}]'}"
        self._started: datetime | None = None

    def beat(self) -> None:
        """Record that it is running, if a heartbeat is due.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        if monotonic() < self.due_at:
            return
        self.due_at = monotonic() + BEAT_SECONDS
        if self._started is None:
            self._started = database_now(databases[self._database])
        beat(self._database, self._name, self._started)
        publish_counts.flush(self._database)

    def end(self) -> None:
        """Record that it has ended, and write the last counts.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        publish_counts.flush(self._database, last=True)
        if not self._once:
            forget(self._database, self._name)


def seen(database: str) -> list[RelayStatus]:
    """Return the relays of a database, most recently seen first.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    rows = list(
        _relays(database).order_by("-seen_at").values_list("name", "started_at", "seen_at")
    )
    if not rows:
        return []
    now = database_now(databases[database])
    return [
        RelayStatus(name, started, max(0.0, (now - last).total_seconds()))
        for name, started, last in rows
    ]


def last_seen(database: str) -> float | None:
    """Return the seconds since the last heartbeat of any relay, None if there has been none.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    return next((relay.seconds for relay in seen(database)), None)


def prune(database: str, *, dry_run: bool = False) -> int:
    """Delete the relays that were not seen for a day.

    Returns:
        How many rows were, or would be, deleted.
    """
    old = _relays(database).filter(seen_at__lt=DatabaseNow(-KEPT_SECONDS))
    return int(old.count() if dry_run else old.delete()[0])
