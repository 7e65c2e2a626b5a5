"""`once=True`: a message's work is done once, on each kind of database."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction

from rmq_publisher import (
    InvalidMessage,
    Producer,
    QueueConfig,
    Reject,
    apublish,
    consume,
    publish,
)
from rmq_publisher.consumer import handlers, lane
from rmq_publisher.consumer.outcomes import Ended
from rmq_publisher.consumer.retry_levels import RetryLevels
from rmq_publisher.models import InboxMessage, OutboxMessage
from rmq_publisher.transport.memory.transport import broker_of
from tests.support.calls import eventually
from tests.support.configured import configurer
from tests.support.rig.dbserver import DatabaseServer
from tests.support.sides import send
from tests.support.workers import handle_all, ran, running, worker_of

DEAD = QueueConfig("dead")
QUEUE = QueueConfig("orders", dead_letter_exchange="", dead_letter_routing_key="dead")


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(handlers, "_registered", {})
    monkeypatch.setattr(lane, "IDLE_SECONDS", 0.4)  # the memory broker delivers at once
    configurer(settings)(URL="memory://", QUEUES=[QUEUE, DEAD])
    broker_of("default").reset()
    levels = RetryLevels.of("orders", 3, (0.01, 0.01)).configs()
    for config in (QUEUE, DEAD, *levels):
        broker_of("default").run(config.steps(), 5.0)


@pytest.fixture
def effects(store: str) -> Iterator[Any]:
    """What handlers have written and committed, in a table of the test's own."""
    run(store, "CREATE TABLE once_effects (body varchar(100))")
    yield lambda: sorted(row[0] for row in run(store, "SELECT body FROM once_effects"))
    run(store, "DROP TABLE once_effects")


def run(alias: str, sql: str, *params: Any) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def write(store: str, body: Any) -> None:
    run(store, "INSERT INTO once_effects (body) VALUES (%s)", str(body))


def put(body: Any, message_id: str, **options: Any) -> None:
    send(json.dumps(body), queue="orders", message_id=message_id, **options)


def test_a_duplicate_is_acknowledged_without_calling_the_handler(store: str, effects: Any) -> None:
    calls: list[Any] = []

    @consume("orders", once=True, database=store, name="first")
    def handler(body: Any, message: Any) -> None:
        calls.append(body)
        write(store, body)

    for _ in range(3):
        put("a", "1")
    put("b", "2")
    assert ran(handle_all(handler)) == {Ended.HANDLED: 4}
    put("a", "1")
    assert ran(handle_all(handler)) == {Ended.HANDLED: 1}
    assert calls == ["a", "b"]
    assert effects() == ["a", "b"]
    rows = InboxMessage.objects.using(store).order_by("message_id")
    assert [(row.name, row.message_id, len(row.digest)) for row in rows] == [
        ("first", "1", 64),
        ("first", "2", 64),
    ]


def test_ids_that_a_collation_takes_for_equal_are_different(store: str, effects: Any) -> None:
    @consume("orders", once=True, database=store)
    def handler(body: Any, message: Any) -> None:
        write(store, body)

    ids = ["a", "A", "a ", "ä", "x" * 255]
    for number, message_id in enumerate(ids):
        put(number, message_id)
    assert ran(handle_all(handler)) == {Ended.HANDLED: len(ids)}
    assert effects() == [str(number) for number in range(len(ids))]


def test_a_failure_rolls_back_work_and_row_alike(store: str, effects: Any) -> None:
    calls: list[int] = []

    @consume("orders", once=True, database=store, max_attempts=3, backoff=(0.01, 0.01))
    def handler(body: Any, message: Any) -> None:
        write(store, body)
        calls.append(1)
        if len(calls) < 3:
            raise ValueError

    put("a", "1")
    worker = worker_of(handler)
    with running(worker):
        eventually(lambda: worker.counts[Ended.HANDLED] == 1)
    assert len(calls) == 3
    assert effects() == ["a"]


def test_reject_rolls_back_and_a_message_without_id_or_with_anothers_id_is_dead(
    store: str, effects: Any
) -> None:
    @consume("orders", once=True, database=store)
    def handler(body: Any, message: Any) -> None:
        write(store, body)
        if body == "bad":
            raise Reject

    put("a", "1")
    put("another", "1")
    put("bad", "2")
    assert ran(handle_all(handler)) == {Ended.HANDLED: 1, Ended.REJECTED: 2}
    assert effects() == ["a"]
    assert InboxMessage.objects.using(store).count() == 1
    assert broker_of("default").depth("dead") == 2


def test_a_swallowed_database_error_does_not_acknowledge_lost_work(
    store: str, effects: Any
) -> None:
    @consume("orders", once=True, database=store, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        write(store, body)
        row = InboxMessage.objects.using(store).get()
        try:
            InboxMessage.objects.using(store).create(
                id=row.id, name="n", message_id="m", digest="", handled_at=row.handled_at
            )
        except IntegrityError:
            return  # without a savepoint: the transaction can only be rolled back

    put("a", "1")
    assert ran(handle_all(handler)) == {Ended.FAILED: 1}
    assert effects() == []


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_swallowed_error_of_raw_sql_neither(store: str, effects: Any) -> None:
    @consume("orders", once=True, database=store, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        write(store, body)
        try:
            run(store, "SELECT 1/0")
        except DatabaseError:
            return

    put("a", "1")
    assert ran(handle_all(handler)) == {Ended.FAILED: 1}
    assert effects() == []


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_connection_that_was_cut_is_no_attempt(
    store: str, effects: Any, postgres: DatabaseServer
) -> None:
    attempts: list[int] = []

    @consume("orders", once=True, database=store, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        attempts.append(message.attempts)
        write(store, body)
        if len(attempts) == 1:
            postgres.terminate_all()
            write(store, body)

    put("a", "1")
    assert ran(handle_all(handler)) == {Ended.NOT_AN_ATTEMPT: 1, Ended.HANDLED: 1}
    assert attempts == [1, 1]
    connections[store].close()  # the test's own was cut as well
    assert effects() == ["a"]


def test_two_threads_with_one_message_do_its_work_once(store: str, effects: Any) -> None:
    @consume("orders", once=True, database=store, threads=4)
    def handler(body: Any, message: Any) -> None:
        write(store, body)

    for _ in range(12):
        put("a", "1")
    worker = worker_of(handler)
    with running(worker):
        eventually(lambda: worker.counts[Ended.HANDLED] == 12)
    assert effects() == ["a"]


def test_a_publish_is_of_the_transaction_and_nothing_else_is_allowed(
    store: str, effects: Any
) -> None:
    refused: list[str] = []

    @consume("orders", once=True, database=store, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        publish("out", queue="dead", message_id=f"out {body}")
        for call in (
            lambda: publish("x", queue="dead", delivery="now"),
            lambda: publish("x", queue="dead", delivery="on_commit"),
            lambda: Producer(queue="dead").publish("x"),
            lambda: apublish("x", queue="dead").send(None),
        ):
            with pytest.raises(InvalidMessage) as caught:
                call()
            refused.append(str(caught.value))
        assert OutboxMessage.objects.using(store).count() == 1
        if body == "bad":
            raise Reject

    put("bad", "1")
    handle_all(handler)
    assert broker_of("default").depth("dead") == 1  # the rejected message alone
    assert OutboxMessage.objects.using(store).count() == 0
    put("good", "2")
    handle_all(handler)
    assert broker_of("default").depth("dead") == 2
    assert all("once=True" in text for text in refused)
    assert len(refused) == 8
    publish("x", queue="dead", delivery="now")  # it holds within the handler only


def test_a_batch_shares_one_transaction_and_a_failure_is_its_own(store: str, effects: Any) -> None:
    transactions: list[int] = []

    @consume("orders", once=True, once_batch=5, database=store, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        write(store, body)
        blocks = connections[store].atomic_blocks
        transactions.append(id(blocks[0]))
        if body == "bad":
            raise ValueError

    put("a", "1")
    put("a", "1")
    for number in range(2, 6):
        put("bad" if number == 3 else str(number), str(number))
    counts = ran(handle_all(handler))
    assert counts == {Ended.HANDLED: 5, Ended.FAILED: 1}
    assert effects() == ["2", "4", "5", "a"]
    assert len(set(transactions)) == 2


def test_a_batch_whose_commit_fails_is_run_one_by_one(store: str, effects: Any) -> None:
    @consume("orders", once=True, once_batch=3, database=store, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        write(store, body)
        if body == "2":
            transaction.set_rollback(True, using=store)  # it can only be rolled back

    for number in range(1, 4):
        put(str(number), str(number))
    counts = ran(handle_all(handler))
    assert counts == {Ended.HANDLED: 2, Ended.FAILED: 1}
    assert effects() == ["1", "3"]


def test_what_locks_the_database_is_no_attempt(store: str, effects: Any) -> None:
    """Two handlers take two rows in opposite orders: one is the deadlock's victim, and runs again."""
    run(store, "CREATE TABLE once_pair (id int PRIMARY KEY, n int)")
    run(store, "INSERT INTO once_pair VALUES (1, 0), (2, 0)")
    both = threading.Barrier(2)
    met = threading.Event()

    @consume("orders", once=True, database=store, threads=2, max_attempts=1)
    def handler(body: Any, message: Any) -> None:
        first, second = (1, 2) if body == "a" else (2, 1)
        run(store, "UPDATE once_pair SET n = n + 1 WHERE id = %s", first)
        if connections[store].vendor != "sqlite" and not met.is_set():
            both.wait(30)
            met.set()
        run(store, "UPDATE once_pair SET n = n + 1 WHERE id = %s", second)

    try:
        put("a", "1")
        put("b", "2")
        worker = worker_of(handler)
        with running(worker):
            eventually(lambda: worker.counts[Ended.HANDLED] == 2)
        assert list(run(store, "SELECT n FROM once_pair")) == [(2,), (2,)]
        assert worker.counts[Ended.FAILED] == 0
    finally:
        run(store, "DROP TABLE once_pair")
