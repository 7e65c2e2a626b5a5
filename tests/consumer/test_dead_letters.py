"""Dead letters as rows: what each column says, and what is recognised as the same death."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections as databases

from rmq_publisher.consumer import dead_letters
from rmq_publisher.consumer.dead_letters import SENT_BACK, from_dead_letter_queue, from_worker
from rmq_publisher.db.clock import database_now
from rmq_publisher.serialization import DecodeError
from tests.support.received import received

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def died(queue: str = "orders", reason: str = "rejected", **other: Any) -> dict[str, Any]:
    return {
        "queue": queue, "reason": reason, "exchange": "events", "routing-keys": ["order.new"],
        "count": 1, "time": THEN, **other,
    }  # fmt: skip


def letter(message_id: str = "m1", body: bytes = b"{}", **headers: Any) -> Any:
    headers.setdefault("x-death", [died()])
    message = received(body, queue="dead", message_id=message_id, headers=headers)
    return from_dead_letter_queue(message, "default")


def only(database: str) -> Any:
    (row,) = dead_letters.rows(database)
    return row


def test_a_row_says_where_and_why_the_message_died(store: str) -> None:
    headers = {
        "x-death": [died("orders.retry.1000", "expired"), died(exchange="")],
        "x-rmq-attempts": 5,
        "x-rmq-error": "failed: ValueError at shop.consumers:12",
        "x-rmq-original": {"exchange": "events", "routing_key": "order.new"},
    }
    message = received(
        b"\x00\xff", queue="dead", message_id="m1", correlation_id="c1", headers=headers
    )
    assert dead_letters.store(store, [from_dead_letter_queue(message, "default")]) == 1
    row = only(store)
    assert (row.state, row.message_id, row.correlation_id) == ("waiting", "m1", "c1")
    assert (row.using, row.queue, row.dead_letter_queue) == ("default", "orders", "dead")
    assert (row.exchange, row.routing_key, row.reason) == ("events", "order.new", "failed")
    assert (row.attempts, row.error) == (5, "failed: ValueError at shop.consumers:12")
    assert (bytes(row.body), row.size, bytes(row.header)) == (b"\x00\xff", 2, message.header)
    assert row.died_at == THEN
    assert [death["queue"] for death in row.deaths] == ["orders.retry.1000", "orders"]
    now = database_now(databases[store])
    assert timedelta(0) <= now - row.stored_at < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("reason", "headers", "attempts", "error"),
    [
        ("rejected", {}, 1, ""),
        ("rejected", {"x-rmq-attempts": 2}, 3, ""),
        ("delivery_limit", {}, 1, ""),
        ("expired", {}, 0, ""),
        ("maxlen", {"x-rmq-attempts": 1}, 1, ""),
        ("rejected", {"x-rmq-error": "anything", "x-rmq-attempts": -1}, 1, "anything"),
    ],
)
def test_the_brokers_reason_counts_where_no_worker_gave_one(
    reason: str, headers: dict[str, Any], attempts: int, error: str
) -> None:
    row = letter(**{"x-death": [died(reason=reason)], **headers})
    assert (row.reason, row.attempts, row.error) == (reason, attempts, error)


def test_a_row_of_a_worker_says_which_handler_gave_up(store: str) -> None:
    message = received(queue="orders", exchange="events", message_id="m1")
    letter_ = from_worker(
        message, "default", handler="book", reason="crashed", error="crashed", attempts=5
    )
    assert dead_letters.store(store, [letter_]) == 1
    row = only(store)
    assert (row.queue, row.dead_letter_queue, row.handler) == ("orders", "", "book")
    assert (row.exchange, row.routing_key) == ("events", "orders")
    assert (row.reason, row.error, row.attempts, row.deaths) == ("crashed", "crashed", 5, [])


def test_a_message_that_comes_again_is_stored_once(store: str) -> None:
    assert dead_letters.store(store, [letter(), letter()]) == 1
    assert dead_letters.store(store, [letter()]) == 0
    ended = {"handler": "h", "reason": "failed", "error": "e", "attempts": 5}
    for expected in (1, 0):
        again = from_worker(received(message_id="m2"), "default", **ended)
        assert dead_letters.store(store, [again]) == expected


def test_two_processes_that_store_the_same_at_once_store_it_once(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, rows = [], dead_letters.rows

    def rows_before_the_other(database: str) -> Any:
        if not looked:
            looked.append(1)
            return rows(database).none()  # what the other has not committed yet
        return rows(database)

    dead_letters.store(store, [letter()])
    monkeypatch.setattr(dead_letters, "rows", rows_before_the_other)
    assert dead_letters.store(store, [letter(), letter("m2")]) == 1
    assert sorted(rows(store).values_list("message_id", flat=True)) == ["m1", "m2"]


OTHERS = [
    {"message_id": "M1"}, {"message_id": "m1 "}, {"body": b"[]"}, {SENT_BACK: "another"},
    {"x-death": [died("other")]}, {"x-death": [died(reason="expired")]},
    {"x-death": [died(count=2)]}, {"x-death": [died(time=THEN + timedelta(seconds=1))]},
]  # fmt: skip


def test_another_message_and_another_death_are_stored_too(store: str) -> None:
    """Also where a collation treats two ids as equal."""
    letters = [letter(), *(letter(**other) for other in OTHERS)]
    assert dead_letters.store(store, letters) == len(letters)
    assert dead_letters.rows(store).count() == len(letters)


def test_messages_without_an_id_are_all_stored(store: str) -> None:
    """Two of them may be equal in everything; one stored twice is better than one lost."""
    assert dead_letters.store(store, [letter(""), letter("")]) == 2


@pytest.mark.parametrize("state", ["sent_back", "discarded"])
def test_a_row_that_was_dealt_with_does_not_stand_for_its_message(store: str, state: str) -> None:
    dead_letters.store(store, [letter()])
    dead_letters.rows(store).update(state=state)
    assert dead_letters.store(store, [letter(), letter()]) == 1
    states = dead_letters.rows(store).order_by("id").values_list("state", flat=True)
    assert list(states) == [state, "waiting"]


HOSTILE: list[dict[str, Any]] = [
    {"message_id": "a\0b", "headers": {"x-death": [died("q\0", "r\0" * 99, exchange="e" * 999)]}},
    {"headers": {"x-death": [died(**{"routing-keys": ["k" * 999, 1, b"\xff"]})]}},
    {"headers": {"x-death": [died(time=datetime(9999, 12, 31, tzinfo=UTC))]}},
    {"headers": {"x-death": "text", "x-rmq-attempts": "9", "x-rmq-error": b"\xff" * 999}},
    {"headers": {"x-death": [died()] * 500, "x-rmq-attempts": 2**62}},
    {"header": b""}, {"header": b"\x80\x00\xff"}, {"header": b"\x20\x00\x00\x00\x00\xff\x01"},
    {"header": b"\xff" * 100_000},
]  # fmt: skip


@pytest.mark.parametrize("properties", HOSTILE)
def test_whatever_the_headers_hold_is_stored(store: str, properties: dict[str, Any]) -> None:
    message = received(b"\0" * 10, queue="dead", **properties)
    assert dead_letters.store(store, [from_dead_letter_queue(message, "default")]) == 1
    row = only(store)
    assert bytes(row.header) == message.header
    assert row.died_at.year < 3000
    assert row.attempts < 2**31


def test_a_body_over_the_limit_is_refused() -> None:
    with pytest.raises(DecodeError, match="RMQ_MAX_BODY_SIZE"):
        from_dead_letter_queue(received(b"", queue="dead", limit=10, size=11), "default")


def test_times_without_time_zones(settings: Any, store: str) -> None:
    settings.USE_TZ = False
    dead_letters.store(store, [letter()])
    assert only(store).died_at == THEN.astimezone().replace(tzinfo=None)
