"""Every outcome is counted once, whoever learns of it; relays are seen."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections as databases
from django.db import transaction

from rmq_publisher import apublish, publish, publish_many
from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.exceptions import PublishError, PublishManyError
from rmq_publisher.outbox import after_commit, heartbeats
from rmq_publisher.outbox.relay import Relay
from rmq_publisher.outbox.transitions import make_due, messages
from rmq_publisher.signals import message_published
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.testing import memory_broker

QUEUE = QueueConfig("counted")


@pytest.fixture
def counted(store, settings, monkeypatch) -> Callable[[], tuple[int, int]]:
    """What the database was told so far, the rest written first."""
    settings.RMQ_URL = "memory://"
    settings.RMQ_OUTBOX_GRACE = 0
    monkeypatch.setattr(publish_counts, "_in_tests", lambda: False)
    monkeypatch.setattr(publish_counts, "_counts", publish_counts._Counts())
    monkeypatch.setattr(publish_counts, "FLUSH_SECONDS", 0.0)
    memory_broker().reset()
    databases[store].ensure_connection()

    def told() -> tuple[int, int]:
        rows = list(publish_counts.counts_of(store))
        return sum(row.published for row in rows), sum(row.failed for row in rows)

    return told


def in_transaction(database: str, action: Callable[[], Any]) -> None:
    with transaction.atomic(using=database):
        action()


def test_on_commit(store, counted):
    in_transaction(store, lambda: publish("x", queue=QUEUE, database=store))
    assert counted() == (1, 0)
    in_transaction(store, lambda: publish_many(["x"] * 5, queue=QUEUE, database=store))
    assert counted() == (6, 0)
    in_transaction(store, lambda: publish("x", queue="no-such", database=store))
    assert counted() == (6, 1)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_now(store, counted):
    publish("x", queue=QUEUE, delivery="now")
    assert counted() == (1, 0)
    with pytest.raises(PublishError):
        publish("x", queue="no-such", delivery="now")
    assert counted() == (1, 1)
    publish_many(["x"] * 5, queue=QUEUE, delivery="now")
    assert counted() == (6, 1)
    with pytest.raises(PublishManyError):
        publish_many(["x"] * 2, queue="no-such", delivery="now")
    assert counted() == (6, 3)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_apublish_counts_and_writes_nothing(store, counted):
    asyncio.run(apublish("x", queue=QUEUE))
    with pytest.raises(PublishError):
        asyncio.run(apublish("x", queue="no-such"))
    assert counted() == (0, 0)
    publish_counts.flush(store)
    assert counted() == (1, 1)


@pytest.mark.parametrize("heard", [False, True])
def test_a_relay(store, counted, heard):
    def listen(**_: Any) -> None:
        pass

    if heard:
        message_published.connect(listen)
    try:
        in_transaction(
            store,
            lambda: publish_many(["x"] * 3, queue=QUEUE, database=store, delivery="outbox"),
        )
        in_transaction(
            store, lambda: publish("x", queue="no-such", database=store, delivery="outbox")
        )
        assert counted() == (0, 0)
        Relay(store, once=True).run()
        assert counted() == (3, 1)
        assert make_due(messages(store)) == 1
        Relay(store, once=True).run()
        assert counted() == (3, 2)
    finally:
        message_published.disconnect(listen)


def test_the_writers_settler(store, counted, settings):
    settings.RMQ_OUTBOX_GRACE = 30
    in_transaction(
        store, lambda: publish_many(["x"] * 3, queue=QUEUE, database=store, delivery="outbox")
    )
    after_commit.flush(30)
    assert not messages(store).exists()
    publish_counts.flush(store, last=True)
    assert counted() == (3, 0)


def test_relays_are_seen(store, counted):
    Relay(store, once=True).run()
    Relay(store, once=True).run()
    [seen] = heartbeats.seen(store)
    assert seen.alive
    assert seen.name.endswith("--once")
    relay = Relay(store)
    found = []

    def stop() -> None:
        found.extend(heartbeats.seen(store))
        relay.stop()

    original = relay._sleep
    relay._sleep = lambda: (stop(), original())  # type: ignore[method-assign]
    relay.run()
    assert len(found) == 2
    assert len(heartbeats.seen(store)) == 1  # one that ended is not missed
