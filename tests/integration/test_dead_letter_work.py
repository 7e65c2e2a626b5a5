"""A dead-letter queue is emptied into the table: committed before the ack, and nothing is dropped."""

import logging
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError

from rmq_publisher import QueueConfig, Rejected
from rmq_publisher.consumer import dead_letter_work, dead_letters
from rmq_publisher.consumer.dead_letter_work import (
    DeadLettersStuckError,
    DeadLetterWork,
    add_dead_letters,
)
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.worker import Worker
from rmq_publisher.publisher.send_back import send_back
from tests.support.sides import Side, send

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queues(side: Side) -> tuple[QueueConfig, str]:
    """A queue and the name of its dead-letter queue."""
    dead = side.queue()
    return side.queue(dead_letter_exchange="", dead_letter_routing_key=dead.name), dead.name


def kill(side: Side, queue: QueueConfig, *bodies: bytes, **options: Any) -> list[str]:
    """Publish messages and reject each, so that they lie in the dead-letter queue; return their ids."""
    ids = [send(body, queue=queue.name, **options) for body in bodies]
    for _ in bodies:
        side.take(queue.name).reject()
    return ids


def collect(queue: str, *, limit: int | None = None) -> DeadLetterWork:
    """Store what the queue holds, until it is empty or so many are stored."""
    worker = Worker(limit=limit, once=True)
    work = add_dead_letters(worker, queue, None, "default")
    worker.run()
    return work


def rows() -> list[Any]:
    return list(dead_letters.rows("default").order_by("id"))


def test_what_died_becomes_rows_and_leaves_the_queue(
    side: Side, queues: tuple[QueueConfig, str]
) -> None:
    queue, dead = queues
    ids = kill(side, queue, b"1", b"2", headers={"h": 1})
    assert collect(dead).stored == 2
    assert [(row.message_id, bytes(row.body)) for row in rows()] == list(
        zip(ids, [b"1", b"2"], strict=True)
    )
    for row in rows():
        assert (row.queue, row.dead_letter_queue, row.using) == (queue.name, dead, "default")
        assert (row.reason, row.routing_key, row.attempts) == ("rejected", queue.name, 1)
        assert row.deaths[0]["time"] is not None
    assert side.stays_empty(dead)


def test_a_row_is_committed_before_its_message_is_acknowledged(
    side: Side, queues: tuple[QueueConfig, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, dead = queues
    kill(side, queue, b"1")

    def killed(*_: object) -> int:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(dead_letters, "store", killed)
        with pytest.raises(SystemExit):
            collect(dead)
    assert rows() == []
    collect(dead)
    assert len(rows()) == 1


def test_a_lost_ack_stores_nothing_twice(
    side: Side, queues: tuple[QueueConfig, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, dead = queues
    kill(side, queue, b"1")
    with monkeypatch.context() as patched:
        patched.setattr(ReceivedMessage, "ack", lambda _: None)
        assert collect(dead).stored == 1
    assert (collect(dead).stored, len(rows())) == (0, 1)
    assert side.stays_empty(dead)


def test_a_limit_leaves_the_rest_in_the_queue(side: Side, queues: tuple[QueueConfig, str]) -> None:
    queue, dead = queues
    kill(side, queue, b"1", b"2", b"3")
    collect(dead, limit=2)
    assert [bytes(row.body) for row in rows()] == [b"1", b"2"]
    assert side.take(dead).body == b"3"


def test_it_waits_for_the_database(
    side: Side,
    queues: tuple[QueueConfig, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, dead = queues
    kill(side, queue, b"1")
    failures = [OperationalError("gone away"), OperationalError("still away")]

    real = dead_letters.store

    def store(database: str, letters: Any) -> int:
        if failures:
            raise failures.pop(0)
        return real(database, letters)

    monkeypatch.setattr(dead_letters, "store", store)
    with caplog.at_level(logging.ERROR, "rmq_publisher.consumer"):
        collect(dead)
    assert len(rows()) == 1
    told = [each.getMessage() for each in caplog.records if dead in each.getMessage()]
    reasons = [text.rpartition(": ")[2] for text in told if "wait for database" in text]
    assert reasons == ["gone away", "still away"]


def test_a_row_that_the_database_refuses_stays_in_the_queue(
    side: Side, queues: tuple[QueueConfig, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, dead = queues
    kill(side, queue, b"1", b"bad", b"3")

    real = dead_letters.store

    def store(database: str, letters: Any) -> int:
        if any(bytes(letter.body) == b"bad" for letter in letters):
            raise DatabaseError("refused")
        return real(database, letters)

    monkeypatch.setattr(dead_letters, "store", store)
    collect(dead)
    assert [bytes(row.body) for row in rows()] == [b"1", b"3"]
    assert side.take(dead).body == b"bad"


def test_a_body_over_the_limit_stays_in_the_queue(
    side: Side, queues: tuple[QueueConfig, str], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, dead = queues
    kill(side, queue, b"x" * 2000, b"2")
    settings.RMQ_MAX_BODY_SIZE = 1024
    collect(dead)
    assert [bytes(row.body) for row in rows()] == [b"2"]
    monkeypatch.setattr(dead_letter_work, "LEFT_MAX", 0)
    with pytest.raises(DeadLettersStuckError, match="RMQ_MAX_BODY_SIZE allows 1024"):
        collect(dead)
    assert len(side.take(dead).body) == 2000


def test_a_queue_that_does_not_exist_is_refused(side: Side) -> None:
    with pytest.raises(Rejected, match="404"):
        collect(side.unused_queue())


def test_sent_back_it_is_handled_as_if_new_and_can_die_again(
    side: Side, queues: tuple[QueueConfig, str], settings: Any
) -> None:
    settings.RMQ_OUTBOX_GRACE = (
        90.0  # more than the publish timeout: this process sends its rows itself
    )
    queue, dead = queues
    (message_id,) = kill(side, queue, b"1", headers={"h": 1})
    for round_ in (1, 2):
        collect(dead, limit=1)
        assert len(rows()) == round_
        assert send_back("default", [rows()[-1].pk]).sent == [rows()[-1].pk]
        message = side.take(queue.name)
        headers = dict(message.properties.headers or {})
        assert (message.body, message.properties.message_id) == (b"1", message_id)
        assert (headers.pop("h"), set(headers)) == (1, {dead_letters.SENT_BACK})
        message.reject()
