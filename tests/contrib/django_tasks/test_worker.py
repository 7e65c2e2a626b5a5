"""A worker of tasks: takes messages, runs what their rows say, puts back what must wait."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import OperationalError

from rmq_publisher import publish
from rmq_publisher.consumer import lane
from rmq_publisher.contrib.django_tasks import execution, records, workers
from rmq_publisher.contrib.django_tasks.framework import TaskResultStatus
from rmq_publisher.contrib.django_tasks.models import TaskWorker
from rmq_publisher.models import DeadLetter
from rmq_publisher.testing import memory_broker
from tests.support.some_tasks import add, fail, fail_twice
from tests.support.task_workers import drained, wait_for, working

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _soon_idle(monkeypatch: Any) -> None:
    monkeypatch.setattr(lane, "IDLE_SECONDS", 0.1)


def test_it_runs_what_comes_and_leaves_no_trace(configure: Any, store: str) -> None:
    before = add.enqueue(1, 2)
    with working(threads=2, worker_id="w1") as process:
        assert TaskWorker.objects.using(store).get().id == process.worker_id == "w1"
        after = add.enqueue(3, 4)
        wait_for(lambda: all(is_finished(one) for one in (before, after)))
    assert (before.return_value, after.return_value) == (3, 7)
    assert before.worker_ids == ["w1"]
    assert memory_broker().depths()["tasks.default"] == 0
    assert not TaskWorker.objects.using(store).exists()


def is_finished(result: Any) -> bool:
    result.refresh()
    return bool(result.is_finished)


def test_a_failed_task_waits_in_a_level_and_comes_back(configure: Any, store: str) -> None:
    configure(max_attempts=3, backoff=(2, 60))
    result = fail_twice.enqueue()
    drained()
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
    depths = memory_broker().depths()
    assert (depths["tasks.default.retry.2000"], depths["tasks.default"]) == (1, 0)
    for level in (2, 4):
        assert memory_broker().depths()[f"tasks.default.retry.{level}000"] == 1
        memory_broker().advance(level)
        records.rows(store).update(retry_at=None)  # the database's clock goes on by itself
        drained()
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3)


def test_it_does_not_run_before_its_time_though_its_message_is_there(
    configure: Any, store: str
) -> None:
    configure(max_attempts=2, backoff=(60, 60))
    result = fail.enqueue()
    drained()
    memory_broker().advance(60)
    drained()
    result.refresh()
    assert result.attempts == 1
    assert memory_broker().depths()["tasks.default.retry.60000"] == 1


def test_a_delivery_whose_task_may_be_running_is_put_back(configure: Any, store: str) -> None:
    result = add.enqueue(1, 2)
    [copy] = memory_broker().drain("tasks.default")
    records.rows(store).update(status="RUNNING", attempts=1, worker_ids='["w1"]')
    workers.beat(store, "w1", "")
    headers = {"x-rmq-task-put-back": True}
    publish(copy.body, queue="tasks.default", headers=headers, message_id=result.id)
    for _ in range(2):
        drained()
        assert memory_broker().depths()["tasks.default.retry.5000"] == 1
        memory_broker().advance(5)
    assert records.rows(store).get().attempts == 1
    workers.forget(store, "w1")
    drained(worker_id="w2")
    result.refresh()
    assert (result.return_value, result.worker_ids) == (3, ["w1", "w2"])


def test_a_duplicate_is_acknowledged(configure: Any, store: str) -> None:
    result = add.enqueue(1, 2)
    [copy] = memory_broker().drain("tasks.default")
    for _ in range(3):
        publish(copy.body, queue="tasks.default", message_id=result.id)
    drained()
    result.refresh()
    assert (result.return_value, result.attempts) == (3, 1)
    assert memory_broker().depths()["tasks.default"] == 0


def test_a_message_without_a_row_is_acknowledged_and_logged(
    configure: Any, store: str, caplog: Any
) -> None:
    result = add.enqueue(1, 2)
    records.rows(store).all().delete()
    drained()
    assert memory_broker().depths()["tasks.default"] == 0
    lines = [r.getMessage() for r in caplog.records if r.name == "rmq_publisher.tasks"]
    assert any(result.id in line and "no row" in line for line in lines)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"version": 2}',
        json.dumps({"version": 1, "id": 3}).encode(),
        json.dumps(
            {"version": 1, "id": "a", "task": "b", "args": [], "kwargs": {}, "backend": "other",
             "queue": "default", "priority": 0}
        ).encode(),
    ],
)  # fmt: skip
def test_what_is_no_task_is_kept_as_a_dead_letter(configure: Any, store: str, body: bytes) -> None:
    add.enqueue()
    publish(body, queue="tasks.default", content_type="application/json")
    drained()
    [letter] = DeadLetter.objects.using(store).all()
    assert bytes(letter.body) == body
    assert records.rows(store).get().status == "SUCCESSFUL"


def test_a_database_that_is_away_is_waited_for(
    configure: Any, store: str, monkeypatch: Any
) -> None:
    failing = threading.Event()
    failing.set()
    tries = []
    succeed = records.succeed

    def unreliable(*args: Any) -> Any:
        if failing.is_set():
            tries.append(1)
            raise OperationalError("away")
        return succeed(*args)

    started = []
    monkeypatch.setattr(records, "succeed", unreliable)
    monkeypatch.setattr(
        execution.task_started, "send_robust", lambda **options: started.append(options)
    )
    result = add.enqueue(1, 2)
    with working():
        wait_for(lambda: len(tries) > 2)
        result.refresh()
        assert result.status == TaskResultStatus.RUNNING
        failing.clear()
        wait_for(lambda: is_finished(result))
    assert (result.return_value, result.attempts) == (3, 1)
    assert len(started) == 1  # the function ran once


def test_max_tasks(configure: Any, store: str) -> None:
    for _ in range(3):
        add.enqueue()
    drained(limit=2)
    assert records.rows(store).filter(status="SUCCESSFUL").count() == 2
