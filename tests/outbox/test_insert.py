"""New rows: many in one statement, on servers that number and limit them in ways of their own."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from django.db import connections as databases
from django.db import transaction

from rmq_publisher import publish_many
from rmq_publisher.conf.loader import connection
from rmq_publisher.messages.compose import compose
from rmq_publisher.outbox import after_commit, insert, transitions
from rmq_publisher.telemetry import publish_counts
from tests.support.rig.stores import LIKE_MYSQL

STEP = 3


@pytest.fixture
def stepping(store: str) -> Iterator[str]:
    """A store that numbers rows in steps of three, and returns nothing from an INSERT."""
    features = type(databases[store].features)
    with pytest.MonkeyPatch.context() as patch, databases[store].cursor() as cursor:
        # What MySQL has not, MariaDB does without for once.
        patch.setattr(features, "can_return_rows_from_bulk_insert", False)
        patch.setattr(features, "can_return_columns_from_insert", False)
        cursor.execute(f"SET SESSION auto_increment_increment = {STEP}")
        yield store


def written(store: str, count: int) -> None:
    envelopes = [compose(connection("default"), b"x", routing_key="q") for _ in range(count)]
    items = [(envelope, "") for envelope in envelopes]
    ids = insert.insert_pending(databases[store], "default", items, token=0, grace=0.0)
    assert len(ids) == count
    found = dict(transitions.messages(store).filter(id__in=ids).values_list("id", "message_id"))
    assert [found.get(id_) for id_ in ids] == [envelope.message_id for envelope in envelopes]
    assert {after - before for before, after in pairwise(ids)} <= {STEP}


@LIKE_MYSQL
def test_ids_of_many_rows_without_returning(stepping: str) -> None:
    """A wrong one would have a confirm delete somebody else's row."""
    for count in (1, 2, 5, 1):
        written(stepping, count)


@LIKE_MYSQL
def test_ids_of_more_rows_than_one_statement_takes(
    stepping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insert, "ROWS_AT_ONCE", 3)
    envelopes = [compose(connection("default"), b"x", routing_key="q") for _ in range(7)]
    items = [(envelope, "") for envelope in envelopes]
    ids = insert.insert_pending(databases[stepping], "default", items, token=0, grace=0.0)
    found = dict(transitions.messages(stepping).values_list("id", "message_id"))
    assert [found[id_] for id_ in ids] == [envelope.message_id for envelope in envelopes]


@LIKE_MYSQL
def test_a_counters_row_without_returning(stepping: str) -> None:
    """The second count is added to the row of the first one."""
    counts = publish_counts._Counts()
    database = databases[stepping]
    for published, failed in ((1, 2), (3, 4)):
        taken = {("a", 100): [published, failed], ("b", 100): [1, 0]}
        publish_counts._write(counts, stepping, database, taken)
        assert taken == {}
    rows = publish_counts.counts_of(stepping).values_list("using", "published", "failed")
    assert sorted(rows) == [("a", 4, 6), ("b", 2, 0)]


@LIKE_MYSQL
@pytest.mark.parametrize("delivery", ["outbox", "on_commit"])
def test_more_than_a_packet_takes(
    store: str, settings: Any, monkeypatch: pytest.MonkeyPatch, delivery: Any
) -> None:
    """As rows that wait, and as failures: each statement is smaller than the server's limit."""
    monkeypatch.setattr(after_commit, "send_committed", lambda *_: None)
    with databases[store].cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()
    settings.RMQ_URL = "memory://"
    settings.RMQ_MAX_BODY_SIZE = limit
    bodies = [bytes([65 + number]) * (limit // 3) for number in range(4)]
    missing = "no-such-queue"
    with transaction.atomic(using=store):
        publish_many(bodies, routing_key=missing, database=store, delivery=delivery)
    rows = transitions.messages(store).order_by("id")
    assert [bytes(body[:1]) for body in rows.values_list("body", flat=True)] == [
        body[:1] for body in bodies
    ]
    assert set(rows.values_list("size", flat=True)) == {limit // 3}
