"""What operators ask first: how many wait, how many failed, is a relay at work."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import connections as databases
from django.db.models import Count, Min, Q, Sum

from rmq_publisher.db.clock import DatabaseNow, database_now
from rmq_publisher.outbox import heartbeats
from rmq_publisher.outbox.transitions import messages
from rmq_publisher.telemetry import publish_counts

AT_MOST = 10_000  # rows that a page counts
DAY_SECONDS = 24 * 3600.0

Period = Literal["60m", "24h", "7d"]
# Length of a bucket in minutes, and how many there are.
MINUTES = {"1m": 1, "1h": 60, "24h": 24 * 60}  # that `recent` counts
BUCKETS: dict[str, tuple[int, int]] = {"60m": (1, 60), "24h": (15, 96), "7d": (120, 84)}


@dataclass(frozen=True, slots=True)
class Summary:
    """A database's stored messages at one moment.

    Attributes:
        pending: written and not yet sent.
        scheduled: waiting for the time that `countdown` or `eta` asked for; not among the pending.
        failed: to be sent again.
        dead: waiting for a person.
        oldest_pending: age in seconds; None where nothing is pending.
        published_24h: messages that the broker confirmed; some seconds late.
        failed_24h: attempts that ended otherwise.
        relay_seen: seconds since a relay was last seen; None where there was none.
        relays: seen in the last minute.
        at_least: names of the numbers above that are no less, and may be more: counting stopped.
    """

    pending: int
    scheduled: int
    failed: int
    dead: int
    oldest_pending: float | None
    published_24h: int
    failed_24h: int
    relay_seen: float | None
    relays: int
    at_least: frozenset[str] = frozenset()

    @property
    def unresolved(self) -> int:
        """Messages that failed and are neither delivered nor discarded."""
        return self.failed + self.dead


@dataclass(frozen=True, slots=True)
class Bucket:
    """A part of a period, from ``start`` on."""

    start: datetime
    published: int = 0
    failed: int = 0


def summary(database: str, *, at_most: int | None = AT_MOST) -> Summary:
    """Return the state of a database. Delivered and discarded rows are never read.

    Args:
        database: Django alias.
        at_most: rows of one state after which counting stops, so that it takes milliseconds even when
            millions have failed; None counts all.

    Raises:
        DatabaseError, InterfaceError: Django's; there may be no table.
    """
    now = database_now(databases[database])
    numbers, oldest, at_least = _stored(database, at_most)
    published, failed = _sums(database, DAY_SECONDS)
    relays = heartbeats.seen(database)
    return Summary(
        **numbers,
        oldest_pending=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        published_24h=published,
        failed_24h=failed,
        relay_seen=relays[0].seconds if relays else None,
        relays=sum(relay.alive for relay in relays),
        at_least=frozenset(at_least),
    )


def _stored(
    database: str, at_most: int | None
) -> tuple[dict[str, int], datetime | None, set[str]]:
    """Return the numbers by state, when the oldest pending one was written, and what was cut."""
    open_rows = messages(database).filter(
        state__in=("pending", "failed"), available_at__isnull=False
    )
    # In the order of the index that has open rows only. MySQL's has all; there the states lead one.
    partial = databases[database].vendor != "mysql"
    order = ("ordering_key", "available_at", "id") if partial else ()
    waits = Q(state="pending", scheduled_at__gt=DatabaseNow())
    pending = Q(state="pending") & ~Q(scheduled_at__isnull=False, scheduled_at__gt=DatabaseNow())
    found = open_rows.order_by(*order)[:at_most].aggregate(
        pending=Count("id", filter=pending),
        scheduled=Count("id", filter=waits),
        failed=Count("id", filter=Q(state="failed")),
        oldest=Min("created_at", filter=pending & Q(scheduled_at__isnull=True)),
        oldest_due=Min("scheduled_at", filter=pending),
    )
    found["oldest"] = min(filter(None, (found["oldest"], found.pop("oldest_due"))), default=None)
    numbers = {name: found[name] for name in ("pending", "scheduled", "failed")}
    numbers["dead"] = _number(database, "dead", at_most)
    if at_most is None:
        return numbers, found["oldest"], set()
    at_least = {"dead"} if numbers["dead"] == at_most else set()
    if sum(found[name] for name in ("pending", "scheduled", "failed")) == at_most:
        # Not all open rows were seen: mostly those due first, which is nearly those written first.
        numbers["failed"] = _number(database, "failed", at_most)
        at_least |= {"pending", "scheduled", "oldest_pending"}
        if numbers["failed"] == at_most:
            at_least.add("failed")
    return numbers, found["oldest"], at_least


def _number(database: str, state: str, at_most: int | None) -> int:
    """Count the rows of a state that only those have which failed: it leads an index of theirs."""
    rows = messages(database).filter(state=state, failed_at__isnull=False).order_by()
    return int(rows.values("id")[:at_most].count())


def _sums(database: str, seconds: float) -> tuple[int, int]:
    found = publish_counts.counts_of(database).filter(minute__gte=DatabaseNow(-seconds))
    sums = found.aggregate(published=Sum("published"), failed=Sum("failed"))
    return sums["published"] or 0, sums["failed"] or 0


def recent(database: str) -> dict[str, dict[str, int]]:
    """Return messages counted: ``{"published": {"1m": ..., "1h": ..., "24h": ...}, "failed": ...}``.

    The first is that of the last whole minute: counts come some seconds late.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    now = database_now(databases[database]).replace(second=0, microsecond=0)
    found: dict[str, dict[str, int]] = {"published": {}, "failed": {}}
    for name, minutes in MINUTES.items():
        rows = publish_counts.counts_of(database).filter(
            minute__gte=now - timedelta(minutes=minutes), minute__lt=now
        )
        sums = rows.aggregate(published=Sum("published"), failed=Sum("failed"))
        for what, by_length in found.items():
            by_length[name] = sums[what] or 0
    return found


def per_minute(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """Return what `recent` counted as messages per minute."""
    return {
        what: {name: round(count / MINUTES[name], 3) for name, count in by_length.items()}
        for what, by_length in counts.items()
    }


def series(database: str, period: Period) -> list[Bucket]:
    """Return what was published and failed over a period, the oldest bucket first.

    Args:
        database: Django alias.
        period: ``60m`` by the minute, ``24h`` by 15 minutes, ``7d`` by two hours; the last bucket is
            the one that is under way.

    Raises:
        DatabaseError, InterfaceError: Django's.
        KeyError: another period.
    """
    minutes, number = BUCKETS[period]
    length = timedelta(minutes=minutes)
    now = database_now(databases[database])
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight + (now - midnight) // length * length - (number - 1) * length
    sums: list[Any] = [[0, 0] for _ in range(number)]
    rows = publish_counts.counts_of(database).filter(minute__gte=first).order_by()
    by_minute = rows.values_list("minute").annotate(Sum("published"), Sum("failed"))
    for minute, published, failed in by_minute:
        place = min((minute - first) // length, number - 1)
        sums[place][0] += published
        sums[place][1] += failed
    return [Bucket(first + at * length, *found) for at, found in enumerate(sums)]
