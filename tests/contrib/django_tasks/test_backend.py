"""`RabbitMQBackend`: a task and its message are one transaction's."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import connections as databases
from django.db import transaction
from django.utils import timezone

from rmq_publisher import InvalidMessage, cancel
from rmq_publisher.contrib.django_tasks import RabbitMQBackend
from rmq_publisher.contrib.django_tasks.framework import (
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
)
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.models import OutboxMessage
from rmq_publisher.testing import memory_broker
from tests.support.some_tasks import add, nothing
from tests.support.transactions import Undo, undone

ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


QUEUE = "tasks.default"


def arrived() -> list[Any]:
    """Take what lies in the queue."""
    broker = memory_broker()
    return broker.drain(QUEUE) if QUEUE in broker.depths() else []


def bodies() -> list[dict[str, Any]]:
    return [json.loads(message.body) for message in arrived()]


def records(store: str) -> Any:
    return TaskRecord.objects.using(store)


def test_flags() -> None:
    assert RabbitMQBackend.supports_defer
    assert RabbitMQBackend.supports_async_task
    assert RabbitMQBackend.supports_get_result
    assert RabbitMQBackend.supports_priority


def test_a_result_is_found_as_enqueue_returned_it(configure: Any, store: str) -> None:
    later = timezone.now() + timedelta(hours=1)
    task = nothing.using(priority=7, run_after=later)
    result = task.enqueue(1, (2.5, 1e300), "\0ü\ud800", b"bytes", key={1: None}, big=10**30)
    assert result == task.get_result(result.id)
    assert result.status == TaskResultStatus.READY
    assert result.args == [1, [2.5, 1e300], "\0ü\ud800", "bytes"]
    assert result.kwargs == {"key": {"1": None}, "big": 10**30}
    assert result.task == task
    assert abs(result.enqueued_at - timezone.now()) < timedelta(minutes=5)
    copy = nothing.get_result(result.id)
    result.refresh()
    assert result == copy


def test_the_message_leaves_after_the_commit(configure: Any, store: str) -> None:
    with transaction.atomic(using=store):
        result = add.enqueue(1, 2, unit="EUR")
        assert records(store).count() == 1
        assert bodies() == []
    [message] = arrived()
    assert json.loads(message.body) == {
        "version": 1,
        "id": result.id,
        "task": "tests.support.some_tasks.add",
        "args": [1, 2],
        "kwargs": {"unit": "EUR"},
        "backend": "default",
        "queue": "default",
        "priority": 0,
        "run_after": None,
    }
    assert message.properties.message_id == result.id
    assert message.properties.type == "rmq_publisher.task"
    assert message.properties.content_type == "application/json"


@pytest.mark.parametrize("delivery", ["outbox", "on_commit"])
def test_a_rollback_takes_both(configure: Any, store: str, delivery: str) -> None:
    configure(delivery=delivery)
    with undone(store):
        lost = add.enqueue()
    with transaction.atomic(using=store):
        kept = add.enqueue()
        with undone(store):
            add.enqueue()
    assert [body["id"] for body in bodies()] == [kept.id]
    assert list(records(store).values_list("id", flat=True)) == [kept.id]
    assert not OutboxMessage.objects.using(store).exists()
    with pytest.raises(TaskResultDoesNotExist):
        add.get_result(lost.id)


def test_without_a_transaction_both_are_written_at_once(configure: Any, store: str) -> None:
    seen = []

    def receiver(task_result: Any, **_: Any) -> None:
        seen.append((task_result.id, databases[store].in_atomic_block))
        raise Undo

    task_enqueued.connect(receiver)
    try:
        with pytest.raises(Undo):
            add.enqueue()
    finally:
        task_enqueued.disconnect(receiver)
    assert [inside for _, inside in seen] == [True]
    assert not records(store).exists()
    assert bodies() == []
    add.enqueue()
    assert len(bodies()) == 1


@ON_SQLITE
def test_an_enqueue_costs_two_statements_in_a_transaction(
    configure: Any, store: str, django_assert_num_queries: Any
) -> None:
    with (
        transaction.atomic(using=store),
        django_assert_num_queries(2, connection=databases[store]),
    ):
        add.enqueue()


@ON_SQLITE
def test_what_is_not_json_is_refused(configure: Any, store: str) -> None:
    with pytest.raises(TypeError):
        add.enqueue(object())
    with pytest.raises(ValueError, match="JSON"):
        add.enqueue(float("nan"))
    with pytest.raises(InvalidMessage, match="RMQ_MAX_BODY_SIZE"):
        add.enqueue("x" * 2**24)
    assert not records(store).exists()


@ON_SQLITE
def test_a_transaction_elsewhere_is_warned_of(
    configure: Any, store: str, django_db_blocker: Any, caplog: Any
) -> None:
    with transaction.atomic(using="other"):
        add.enqueue()
    [record] = [r for r in caplog.records if r.name == "rmq_publisher.tasks"]
    assert record.levelno == logging.WARNING
    assert "'other'" in record.getMessage()
    assert len(bodies()) == 1


@ON_SQLITE
def test_enqueue_in_an_event_loop(configure: Any, store: str) -> None:
    async def wrong() -> None:
        nothing.enqueue()

    with pytest.raises(SynchronousOnlyOperation, match="aenqueue"):
        asyncio.run(wrong())


def test_a_task_for_later_waits_in_the_table(configure: Any, store: str) -> None:
    later = timezone.now() + timedelta(hours=1)
    result = add.using(run_after=later).enqueue()
    [row] = OutboxMessage.objects.using(store).all()
    assert (row.message_id, row.scheduled_at) == (result.id, later)
    assert bodies() == []
    passed = add.using(run_after=timezone.now() - timedelta(hours=1)).enqueue()
    assert [body["id"] for body in bodies()] == [passed.id]


def test_cancel_makes_it_failed_in_the_same_transaction(configure: Any, store: str) -> None:
    later = add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    sent = add.enqueue()
    for result in (later, sent):
        with undone(store):
            assert cancel(result.id, database=store)
        result.refresh()
        assert result.status == TaskResultStatus.READY
        assert cancel(result.id, database=store)
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert result.finished_at >= result.enqueued_at
        [error] = result.errors
        assert error.exception_class_path == "rmq_publisher.exceptions.TaskCancelled"
        assert issubclass(error.exception_class, Exception)
        assert not cancel(result.id, database=store)
    assert not OutboxMessage.objects.using(store).exists()


@ON_SQLITE
def test_results_of_another_alias_are_not_found(configure: Any, store: str, settings: Any) -> None:
    result = add.enqueue()
    settings.TASKS = {**settings.TASKS, "more": settings.TASKS["default"]}
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["more"].get_result(result.id)
    assert task_backends["default"].get_result(result.id) == result


@ON_SQLITE
def test_wrong_options_are_told_by_check_and_by_the_first_use(configure: Any, store: str) -> None:
    configure(max_attempt=3, timeout=0, backoff=(5, 1), delivery="now", tasks={"a.b": {"x": 1}})
    found = {message.id: message.msg for message in task_backends["default"].check()}
    assert set(found) == {"rmq_publisher_tasks.E001", "rmq_publisher_tasks.E002"}
    messages = task_backends["default"].check()
    text = "\n".join(f"{m.msg} {m.hint}" for m in messages)
    for name in ("max_attempt'", "timeout", "backoff", "delivery", "'a.b'"):
        assert name in text
    assert "Did you mean 'max_attempts'" in text
    with pytest.raises(ImproperlyConfigured, match="max_attempt"):
        add.enqueue()


@ON_SQLITE
@pytest.mark.parametrize(
    ("options", "id_", "named"),
    [
        ({"using": "elsewhere"}, "E003", "elsewhere"),
        ({"database": "nowhere"}, "E004", "nowhere"),
        ({"prefix": "x" * 255}, "E005", "prefix"),
        ({"timeout": 3600}, "W002", "consumer_timeout"),
        ({"tasks": {"a.b": {"timeout": 3600}}}, "W002", "a.b"),
        ({"max_priority": 10}, "E002", "max_priority"),
    ],
)
def test_checks(configure: Any, options: Any, id_: str, named: str) -> None:
    configure(**options)
    [message] = task_backends["default"].check()
    assert message.id == f"rmq_publisher_tasks.{id_}"
    assert named in message.msg


@ON_SQLITE
def test_check_of_right_options(configure: Any, store: str) -> None:
    assert task_backends["default"].check() == []
    configure(queue_type="classic", max_priority=10, backoff=[2, 60], max_attempts=5, timeout=9)
    assert task_backends["default"].check() == []
