"""`countdown`, `eta` and `cancel`: messages that wait in the table, sent in time and never before."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections as databases
from django.db import transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rmq_publisher import (
    InvalidMessage,
    Message,
    QueueConfig,
    cancel,
    publish,
    publish_many,
    signals,
)
from rmq_publisher.db.clock import database_now
from rmq_publisher.db.schema import TABLE
from rmq_publisher.models import OutboxMessage
from rmq_publisher.monitoring import outbox_stats
from rmq_publisher.outbox import claims, notifier, scheduled
from rmq_publisher.outbox.relay import Relay
from rmq_publisher.outbox.sql_dialect import Dialect
from rmq_publisher.testing import memory_broker
from tests.support.rows import store_rows

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def memory(settings: Any) -> Any:
    settings.RMQ_URL = "memory://"
    settings.RMQ_OUTBOX_GRACE = 30
    memory_broker().reset()
    return memory_broker()


def rows(database: str) -> Any:
    return OutboxMessage.objects.using(database).order_by("id")


def make_due(database: str) -> None:
    past = timezone.now() - HOUR
    rows(database).update(available_at=past, scheduled_at=past)


def test_it_is_stored_and_sent_by_a_relay_in_time(store: str, memory: Any) -> None:
    id_ = publish("b", routing_key="q", countdown=3600, database=store)
    [row] = rows(store)
    assert (row.message_id, row.state, row.token) == (id_, "pending", 0)
    assert row.scheduled_at == row.available_at
    now = timezone.now()
    assert now + 0.9 * HOUR < row.scheduled_at < now + 1.1 * HOUR
    Relay(store, once=True).run()
    assert rows(store).count() == 1
    make_due(store)
    memory.declare(QueueConfig("q"))
    Relay(store, once=True).run()
    assert memory.depth("q") == 1
    assert not rows(store).exists()


@pytest.mark.parametrize("delivery", ["on_commit", "outbox", None])
def test_whatever_the_delivery_it_is_part_of_the_transaction(store: str, delivery: Any) -> None:
    with transaction.atomic(store):
        publish("b", routing_key="q", eta=timezone.now() + HOUR, database=store, delivery=delivery)
        transaction.set_rollback(True, using=store)
    assert not rows(store).exists()


@pytest.mark.parametrize(
    "times", [{"countdown": 0}, {"countdown": -5}, {"countdown": timedelta(0)}]
)
def test_what_has_passed_is_as_if_not_given(store: str, rmq_published: Any, times: Any) -> None:
    publish("b", queue="q", database=store, **times)
    publish("b", queue="q", database=store, eta=timezone.now() - HOUR)
    assert len(rmq_published) == 2
    assert not rows(store).exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"countdown": 1, "eta": timezone.now() + HOUR}, "give one of them"),
        ({"eta": datetime(2100, 1, 1)}, "naive"),  # noqa: DTZ001
        ({"eta": 5}, "eta must be an aware datetime, not int"),
        ({"countdown": "1"}, "countdown must be seconds"),
        ({"countdown": True}, "countdown must be seconds"),
        ({"countdown": float("inf")}, "out of range"),
        ({"countdown": 1, "delivery": "now"}, 'delivery="now"'),
        ({"countdown": 1, "ordering_key": "k", "delivery": "outbox"}, "ordering_key"),
        ({"countdown": 1, "ordering_key": "k"}, "ordering_key"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(store: str, options: Any, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        publish("b", routing_key="q", database=store, **options)
    with pytest.raises(InvalidMessage, match=said):
        publish_many(["b"], routing_key="q", database=store, **options)
    assert not rows(store).exists()


def test_each_of_many_has_its_own_time(store: str, rmq_published: Any) -> None:
    ids = publish_many(
        [
            Message("now", countdown=0),
            Message("later", countdown=60),
            Message("much later", eta=timezone.now() + HOUR),
            "as the call",
        ],
        routing_key="q",
        queue="q",
        database=store,
        countdown=30,
    )
    assert [message.message_id for message in rmq_published] == [ids[0]]
    found = {row.message_id: row.scheduled_at - row.created_at for row in rows(store)}
    assert list(found) == ids[1:]
    assert timedelta(seconds=25) < found[ids[3]] < found[ids[1]] < found[ids[2]]


def test_cancel_deletes_what_nobody_has_taken(store: str) -> None:
    told: list[Any] = []

    def listen(message_id: str, database: str, **_: Any) -> None:
        told.append((message_id, database))

    signals.message_cancelled.connect(listen)
    try:
        id_ = publish("b", routing_key="q", countdown=60, database=store, message_id="m")
        publish("b", routing_key="other", countdown=60, database=store, message_id="m")
        with transaction.atomic(store):
            assert cancel(id_, database=store)
            transaction.set_rollback(True, using=store)
        assert rows(store).count() == 2
        assert cancel(id_, database=store)
        assert not cancel(id_, database=store)
        assert not rows(store).exists()
    finally:
        signals.message_cancelled.disconnect(listen)
    assert told == [("m", store)] * 2


def test_cancel_leaves_what_was_taken_or_failed(store: str) -> None:
    publish("b", routing_key="q", countdown=60, database=store, message_id="taken")
    publish("b", routing_key="q", countdown=60, database=store, message_id="failed")
    make_due(store)
    rows(store).filter(message_id="failed").update(state="failed")
    claims.claim(store, aliases=["default"], limit=1, max_bytes=10, lease=60)
    assert not cancel("taken", database=store)
    assert not cancel("failed", database=store)
    assert not cancel("unknown", database=store)
    with pytest.raises(TypeError, match="message_id must be a str"):
        cancel(5, database=store)  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage, match="not in DATABASES"):
        cancel("m", database="nowhere")
    assert rows(store).count() == 2


def test_cancel_and_claim_race_for_a_row(store: str) -> None:
    """Each message is either cancelled or claimed, never both."""
    number = 30
    messages = [Message("b", countdown=0.001) for _ in range(number)]
    ids = publish_many(messages, routing_key="q", database=store)
    make_due(store)
    cancelled: list[str] = []
    barrier = threading.Barrier(2)

    def cancel_all() -> None:
        barrier.wait(30)
        for id_ in reversed(ids):
            if cancel(id_, database=store):
                cancelled.append(id_)
        databases[store].close()

    thread = threading.Thread(target=cancel_all)
    thread.start()
    barrier.wait(30)
    claimed: list[str] = []
    while thread.is_alive() or rows(store).filter(token=0).exists():
        found = claims.claim(store, aliases=["default"], limit=2, max_bytes=10, lease=60)
        claimed += [row.envelope.message_id for row in found]
    thread.join(30)
    assert not set(claimed) & set(cancelled)
    assert sorted(claimed + cancelled) == sorted(ids)


def test_statistics_count_it_apart(store: str) -> None:
    publish("b", routing_key="q", countdown=3600, database=store)
    found = outbox_stats.summary(store)
    assert (found.pending, found.scheduled, found.oldest_pending) == (0, 1, None)
    make_due(store)
    found = outbox_stats.summary(store)
    assert (found.pending, found.scheduled) == (1, 0)
    assert found.oldest_pending is not None
    # From the time that was asked for, and not from when it was written.
    assert 0.9 * 3600 < found.oldest_pending < 1.1 * 3600


def test_a_relay_sleeps_until_the_next_is_due(store: str) -> None:
    assert scheduled.seconds_to_next(store) is None
    publish("b", routing_key="q", countdown=3600, database=store)
    publish("b", routing_key="q", countdown=60, database=store)
    seconds = scheduled.seconds_to_next(store)
    assert seconds is not None
    assert 30 < seconds <= 60


def test_overdue(store: str) -> None:
    publish("b", routing_key="q", countdown=3600, database=store)
    assert scheduled.overdue(store, 60) == 0
    make_due(store)
    assert scheduled.overdue(store, 60) == 1


def test_check_says_where_scheduling_lacks_a_relay(store: str, capsys: Any) -> None:
    publish("b", routing_key="q", countdown=3600, database=store)
    call_command("rmq_check")
    make_due(store)
    with pytest.raises(CommandError, match=r"1 scheduled message.*start manage.py rmq_relay"):
        call_command("rmq_check")


# -- beside many that wait ---------------------------------------------------------------------------

WAITING = 20_000  # that are due tomorrow


def read_by(plan: Any) -> int:
    """How many rows a plan's steps took up and put aside again."""
    aside = sum(value for key, value in plan.items() if key.startswith("Rows Removed by"))
    return int(aside) + sum(map(read_by, plan.get("Plans", ())))


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_claim_never_reads_what_is_due_tomorrow(store: str) -> None:
    publish("b", routing_key="q", countdown=86_400, database=store)
    names = [field.column for field in OutboxMessage._meta.concrete_fields if field.column != "id"]
    columns = ", ".join(f'"{name}"' for name in names)
    connection = databases[store]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({columns}) SELECT {columns} FROM {TABLE}, "
            f"generate_series(2, {WAITING})"
        )
    store_rows(store, 5)
    with CaptureQueriesContext(connection) as captured:
        claimed = claims.claim(store, aliases=["default"], limit=100, max_bytes=10**6, lease=60)
        scheduled.seconds_to_next(store)
    assert len(claimed) == 5
    statements = [each["sql"] for each in captured if TABLE in each["sql"]]
    assert len(statements) == 2
    for sql in statements:
        with Dialect(connection).in_index_order(), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            plan = cursor.fetchone()[0][0]["Plan"]
        assert "rmq_outbox_available" in str(plan), plan
        assert "Seq Scan" not in str(plan), plan
        assert read_by(plan) < 100, plan


def test_a_relay_that_sleeps_sends_it_in_time_and_never_early(store: str, memory: Any) -> None:
    """By the database's clock; the poll interval is longer than the test may take."""
    memory.declare(QueueConfig("q"))
    sent: list[datetime] = []
    arrived = threading.Event()

    def arrive(message_id: str, **_: Any) -> None:
        if message_id == "m":
            sent.append(database_now(databases[store]))
            arrived.set()

    signals.message_published.connect(arrive)
    relay = Relay(store, poll_interval=3600)
    thread = threading.Thread(target=relay.run)
    try:
        publish("b", routing_key="q", message_id="m", countdown=0.5, database=store)
        due = rows(store).get().scheduled_at
        thread.start()
        assert arrived.wait(60)
    finally:
        relay.stop()
        thread.join(60)
        signals.message_published.disconnect(arrive)
    assert sent[0] >= due


def test_a_poll_is_due_after_the_interval_or_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is scheduled after the relay looked is found by the next poll, at most one interval late."""
    monkeypatch.setattr(notifier, "monotonic", lambda: 100.0)
    for within, at in ((None, 101.0), (3600.0, 101.0), (0.25, 100.25), (0.0, 100.0)):
        schedule = notifier.PollSchedule(1.0)
        schedule.begin()
        schedule.end(within)
        assert schedule.at == at


def test_cancel_and_a_relay_race_for_messages(store: str, memory: Any) -> None:
    """Each message is either cancelled or sent, never both, and none is left."""
    memory.declare(QueueConfig("q"))
    number = 60
    messages = [Message(str(n), countdown=0.001, message_id=f"m{n}") for n in range(number)]
    ids = publish_many(messages, routing_key="q", database=store)
    make_due(store)
    relay = Relay(store, batch_size=4)
    thread = threading.Thread(target=relay.run)
    cancelled = set()
    thread.start()
    try:
        for id_ in reversed(ids):
            if cancel(id_, database=store):
                cancelled.add(id_)
    finally:
        relay.stop()
        thread.join(60)
    Relay(store, once=True).run()
    sent = [message.properties.message_id for message in memory.drain("q")]
    assert sorted([*sent, *cancelled]) == sorted(ids)
    assert not rows(store).exists()
