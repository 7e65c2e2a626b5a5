"""What a relay says of its work: how many it sent, and what is left in the table."""

from collections.abc import Callable

from django.db import connections as databases
from django.db.models import Count, Min, Q

from rmq_publisher.db.clock import database_now
from rmq_publisher.outbox.transitions import messages
from rmq_publisher.timing import monotonic

COUNTED = 10_000  # rows at most, so that it takes milliseconds
REPORT_SECONDS = 1.0  # between two reports while messages are being sent


def left_over(database: str) -> str:
    """Return in words what the table holds that was not sent; empty if there is nothing.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    now = database_now(databases[database])
    waits = Q(available_at__gt=now)
    found = (
        messages(database)
        .filter(state__in=("pending", "failed"), available_at__isnull=False)
        .order_by("ordering_key", "available_at", "id")[:COUNTED]
        .aggregate(
            waiting=Count("id", filter=waits),
            due=Count("id", filter=~waits),
            next=Min("available_at", filter=waits),
        )
    )
    dead = messages(database).filter(state="dead")[:COUNTED].count()
    parts = []
    if found["due"]:
        parts.append(f"{_number(found['due'])} due")
    if found["waiting"]:
        seconds = (found["next"] - now).total_seconds()
        parts.append(f"{_number(found['waiting'])} not due for {max(1, round(seconds))} s")
    if dead:
        parts.append(f"{_number(dead)} dead")
    return ", ".join(parts)


def _number(count: int) -> str:
    return f"{count} or more" if count == COUNTED else str(count)


class Progress:
    """Reports while a relay runs: once a second while it sends, and each time that it has nothing to do.

    Args:
        database: Django alias.
        say: takes a line; None if nothing is to be reported.
    """

    def __init__(self, database: str, say: Callable[[str], object] | None) -> None:
        self._database = database
        self._say = say
        self._sent = 0  # when last reported
        self._at = monotonic()
        self._idle_at: int | None = None  # how many were sent when it last had nothing to do

    def sending(self, sent: int) -> None:
        """Report, if it is time, that so many were sent since the start."""
        if self._say is None or sent == self._sent:
            return
        if monotonic() >= self._at + REPORT_SECONDS:
            self._report(sent, "")

    def idle(self, sent: int) -> None:
        """Report, once, that nothing can be sent now, and what is left.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        if self._say is None or sent == self._idle_at:
            return
        left = left_over(self._database)
        self._idle_at = sent
        self._report(sent, left)

    def _report(self, sent: int, left: str) -> None:
        assert self._say is not None  # noqa: S101 (narrowing)
        self._say(f"sent {sent - self._sent}" + (f"; {left}" if left else ""))
        self._sent, self._at = sent, monotonic()
