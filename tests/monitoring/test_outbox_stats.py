"""What operators are told of a database: numbers by state, rates, charts, relays."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections as databases

from rmq_publisher.db.clock import database_now
from rmq_publisher.monitoring import outbox_stats
from rmq_publisher.outbox import heartbeats
from rmq_publisher.outbox.transitions import messages
from rmq_publisher.telemetry import publish_counts
from tests.support.stored_rows import stored


def now(database: str) -> datetime:
    return database_now(databases[database])


def counted(database: str, minute: datetime, published: int = 0, failed: int = 0) -> None:
    publish_counts.counts_of(database).create(
        minute=minute.replace(second=0, microsecond=0),
        using="default",
        published=published,
        failed=failed,
    )


def several(database: str, state: str, number: int) -> None:
    row = stored(database, state)
    copies = []
    for _ in range(number - 1):
        row.pk = None
        copies.append(type(row)(**{f.attname: getattr(row, f.attname) for f in row._meta.fields}))
    messages(database).bulk_create(copies)


# -- the numbers --------------------------------------------------------------------------------------


def test_of_an_empty_table(store):
    assert outbox_stats.summary(store) == outbox_stats.Summary(0, 0, 0, 0, None, 0, 0, None, 0)


def test_each_state_is_counted_by_itself(store):
    for state, number in [
        ("pending", 5),
        ("failed", 4),
        ("dead", 3),
        ("delivered", 2),
        ("discarded", 1),
    ]:
        several(store, state, number)
    stored(store, "failed", held=True)  # being sent at this moment, and failed all the same
    found = outbox_stats.summary(store)
    assert (found.pending, found.failed, found.dead, found.unresolved) == (5, 5, 3, 8)
    assert found.at_least == frozenset()
    assert outbox_stats.summary(store, at_most=None).pending == 5


def test_the_age_of_the_oldest_pending_one(store):
    stored(store, "delivered", age=10_000)
    stored(store, "failed", age=9_000)
    stored(store, "pending", age=50)
    assert 49 < outbox_stats.summary(store).oldest_pending < 200
    stored(store, "pending", age=3_000, held=True)  # available later than the other
    assert 2_999 < outbox_stats.summary(store).oldest_pending < 3_200
    stored(store, "pending", age=-30)  # written by a clock that goes ahead
    messages(store).filter(created_at__lt=now(store)).delete()
    assert outbox_stats.summary(store).oldest_pending == 0.0


@pytest.mark.parametrize("at_most", [3, 4, 1000])
def test_counting_stops(store, at_most):
    """Numbers that were cut are named, and are never more than the truth."""
    several(store, "pending", 4)
    several(store, "failed", 3)
    several(store, "dead", 2)
    truth = {"pending": 4, "failed": 3, "dead": 2}
    found = outbox_stats.summary(store, at_most=at_most)
    for name, number in truth.items():
        assert getattr(found, name) <= number
        assert getattr(found, name) == number or name in found.at_least
    assert ("pending" in found.at_least) == (at_most < 8)
    assert ("failed" in found.at_least) == (at_most == 3)
    assert "dead" not in found.at_least
    assert "dead" in outbox_stats.summary(store, at_most=2).at_least


def test_many_failures_do_not_hide_what_is_pending_for_good(store):
    several(store, "failed", 9)
    several(store, "pending", 2)
    found = outbox_stats.summary(store, at_most=10)
    assert (found.failed, found.at_least) == (9, {"pending", "scheduled", "oldest_pending"})
    assert 1 <= found.pending <= 2


def test_published_and_failed_of_a_day(store):
    counted(store, now(store), 1, 10)
    counted(store, now(store) - timedelta(hours=23), 2, 20)
    counted(store, now(store) - timedelta(hours=25), 4, 40)
    found = outbox_stats.summary(store)
    assert (found.published_24h, found.failed_24h) == (3, 30)


def test_rows_that_are_finished_are_not_looked_at(store):
    """The plan of each statement, beside rows that are delivered."""
    several(store, "delivered", 3000)
    several(store, "pending", 20)
    several(store, "dead", 20)
    connection = databases[store]
    analyze = {"postgresql": "ANALYZE", "mysql": "ANALYZE TABLE rmq_publisher_outboxmessage"}
    found = []

    def note(execute, sql, params, many, context):
        if "rmq_publisher_outboxmessage" in sql:
            found.append((sql, params))
        return execute(sql, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute(analyze.get(connection.vendor, "ANALYZE"))
    with connection.execute_wrapper(note):
        outbox_stats.summary(store)
        outbox_stats.summary(store, at_most=20)
    assert len(found) == 5
    for sql, params in found:
        assert "body" not in sql
        explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        with connection.cursor() as cursor:
            cursor.execute(f"{explain} {sql}", params)
            plan = " ".join(map(str, cursor.fetchall()))
        assert re.search("rmq_outbox_(available|state)", plan), plan


# -- relays ------------------------------------------------------------------------------------------


def test_beats(store):
    assert heartbeats.last_seen(store) is None
    started = now(store)
    heartbeats.beat(store, "first", started)
    heartbeats.beat(store, "second", started)
    heartbeats.beat(store, "first", started)
    found = heartbeats.seen(store)
    assert {relay.name for relay in found} == {"first", "second"}
    assert all(relay.alive and relay.seconds < 60 for relay in found)
    assert abs((found[0].started_at - started).total_seconds()) < 1
    assert heartbeats.last_seen(store) < 60
    assert outbox_stats.summary(store).relays == 2


def test_a_relay_that_was_seen_long_ago(store):
    heartbeats.beat(store, "old", now(store))
    heartbeats._relays(store).update(seen_at=now(store) - timedelta(seconds=90))
    found = outbox_stats.summary(store)
    assert found.relays == 0
    assert 89 < found.relay_seen < 200
    heartbeats.beat(store, "new", now(store))
    assert outbox_stats.summary(store).relays == 1
    assert outbox_stats.summary(store).relay_seen < 60
    heartbeats.beat(store, "old", now(store))
    assert outbox_stats.summary(store).relays == 2


def test_a_relay_that_ends_is_forgotten_and_the_others_are_pruned(store):
    for name in ("ended", "lost", "there", "late"):
        heartbeats.beat(store, name, now(store))
    heartbeats._relays(store).filter(name="late").update(seen_at=now(store) - timedelta(hours=23))
    heartbeats.forget(store, "ended")
    heartbeats._relays(store).filter(name="lost").update(seen_at=now(store) - timedelta(hours=25))
    assert heartbeats.prune(store, dry_run=True) == 1
    assert {relay.name for relay in heartbeats.seen(store)} == {"lost", "there", "late"}
    assert heartbeats.prune(store) == 1
    assert {relay.name for relay in heartbeats.seen(store)} == {"there", "late"}


# -- charts and rates -----------------------------------------------------------------------------


@pytest.fixture
def noon(store, monkeypatch):
    """A moment that the database's clock stands still at, in the middle of a bucket."""
    moment = datetime(2030, 1, 31, 23, 59, 59, tzinfo=UTC)
    monkeypatch.setattr(outbox_stats, "database_now", lambda _: moment)
    return moment


@pytest.mark.parametrize(
    ("period", "number", "minutes", "last"),
    [
        ("60m", 60, 1, datetime(2030, 1, 31, 23, 59, tzinfo=UTC)),
        ("24h", 96, 15, datetime(2030, 1, 31, 23, 45, tzinfo=UTC)),
        ("7d", 84, 120, datetime(2030, 1, 31, 22, tzinfo=UTC)),
    ],
)
def test_series(store, noon, period, number, minutes, last):
    length = timedelta(minutes=minutes)
    first = last - (number - 1) * length
    counted(store, first - timedelta(minutes=1), 1000, 1000)  # before the period
    counted(store, first, 1, 0)
    counted(store, first + length - timedelta(minutes=1), 2, 0)
    counted(store, first + length, 4, 0)
    counted(store, noon, 8, 3)
    counted(store, noon, 16, 3)  # another process's
    counted(store, noon + timedelta(minutes=1), 32, 0)  # written since the clock was read
    found = outbox_stats.series(store, period)
    assert [bucket.start for bucket in found] == [first + n * length for n in range(number)]
    assert sum(bucket.published for bucket in found) == 63
    assert (found[0].published, found[1].published) == (3, 4)
    assert (found[-1].published, found[-1].failed) == (56, 6)
    assert all(bucket == outbox_stats.Bucket(bucket.start) for bucket in found[2:-1])


def test_series_without_any_count(store):
    assert {(bucket.published, bucket.failed) for bucket in outbox_stats.series(store, "7d")} == {
        (0, 0)
    }
    with pytest.raises(KeyError):
        outbox_stats.series(store, "1y")


def test_rates(store, noon):
    counted(store, noon, 1000)  # of the minute under way
    counted(store, noon - timedelta(minutes=1), 60, 6)
    counted(store, noon - timedelta(minutes=60), 60)
    counted(store, noon - timedelta(minutes=61), 1320)
    counted(store, noon - timedelta(hours=24, minutes=1), 10_000)
    assert outbox_stats.per_minute(outbox_stats.recent(store)) == {
        "published": {"1m": 60.0, "1h": 2.0, "24h": 1.0},
        "failed": {"1m": 6.0, "1h": 0.1, "24h": 0.004},
    }


def test_a_pulse(store, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(heartbeats, "monotonic", lambda: clock[0])
    heartbeat = heartbeats.Heartbeat(store)
    heartbeat.beat()
    [first] = heartbeats.seen(store)
    moved = now(store) - timedelta(seconds=50)
    heartbeats._relays(store).update(seen_at=moved)
    heartbeat.beat()  # not due
    assert heartbeats.last_seen(store) > 49
    clock[0] = heartbeat.due_at
    heartbeat.beat()
    [second] = heartbeats.seen(store)
    assert second.seconds < 40
    assert (second.name, second.started_at) == (first.name, first.started_at)
    heartbeat.end()
    assert heartbeats.seen(store) == []


def test_the_pulse_of_relays_that_a_timer_starts(store):
    for _ in range(2):
        heartbeat = heartbeats.Heartbeat(store, once=True)
        heartbeat.beat()
        heartbeat.end()
    [seen] = heartbeats.seen(store)
    assert seen.name.endswith(" --once")
