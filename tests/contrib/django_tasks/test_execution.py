"""Runs of tasks, in the test's thread: statuses, attempts, errors, signals."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import Any

import django
import pytest
from django.utils import timezone

from rmq_publisher.contrib.django_tasks import records
from rmq_publisher.contrib.django_tasks.framework import (
    TaskResultStatus,
    task_finished,
    task_started,
)
from rmq_publisher.testing import django_tasks as testing_tasks
from rmq_publisher.testing import run_tasks, tasks_run_immediately
from tests.support import some_tasks
from tests.support.some_tasks import add, chained, fail, fail_twice, nothing

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
READY, FAILED = TaskResultStatus.READY, TaskResultStatus.FAILED
SUCCESSFUL = TaskResultStatus.SUCCESSFUL


@pytest.fixture
def signals() -> Any:
    """The signals of runs: name, status, and the class of the exception that was being handled."""
    seen: list[Any] = []

    def started(task_result: Any, **_: Any) -> None:
        seen.append(("started", task_result.status, None))

    def finished(task_result: Any, **_: Any) -> None:
        seen.append(("finished", task_result.status, sys.exc_info()[0]))

    task_started.connect(started)
    task_finished.connect(finished)
    yield seen
    task_started.disconnect(started)
    task_finished.disconnect(finished)


def test_a_task_that_returns(configure: Any, signals: Any) -> None:
    result = add.enqueue(1, 2)
    [ran] = run_tasks()
    result.refresh()
    assert ran == result
    assert (result.status, result.return_value, result.errors) == (SUCCESSFUL, 3, [])
    assert (result.attempts, result.worker_ids) == (1, ["test"])
    assert result.enqueued_at <= result.started_at == result.last_attempted_at
    assert result.started_at <= result.finished_at
    assert signals == [
        ("started", TaskResultStatus.RUNNING, None),
        ("finished", SUCCESSFUL, None),
    ]


def test_a_task_that_raises(configure: Any, signals: Any) -> None:
    fail.enqueue()
    [result] = run_tasks()
    assert result.status == FAILED
    [error] = result.errors
    assert error.exception_class is some_tasks.NotTodayError
    assert "not today" in error.traceback
    assert "some_tasks.py" in error.traceback
    assert signals[1] == ("finished", FAILED, some_tasks.NotTodayError)


def test_the_result_that_signals_see_is_the_stored_one(configure: Any) -> None:
    seen = []

    def finished(task_result: Any, **_: Any) -> None:
        seen.append(task_result)

    task_finished.connect(finished)
    try:
        add.enqueue(1, key=2)
        fail.enqueue()
        stored = run_tasks()
    finally:
        task_finished.disconnect(finished)
    assert seen == stored


def test_framework_logs_it(configure: Any, caplog: Any) -> None:
    name = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    with caplog.at_level(logging.INFO, name):
        result = fail.enqueue()
        run_tasks()
    lines = [record for record in caplog.records if record.name == name]
    assert [record.levelname for record in lines][-2:] == ["INFO", "ERROR"]
    assert result.id in lines[-1].getMessage()
    assert lines[-1].exc_info[0] is some_tasks.NotTodayError


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("leave", "builtins.SystemExit"),
        ("not_json", "builtins.TypeError"),
    ],
)
def test_what_fails_a_task_and_ends_no_worker(configure: Any, name: str, path: str) -> None:
    getattr(some_tasks, name).enqueue()
    add.enqueue()
    failed, added = run_tasks()
    assert (failed.status, added.status) == (FAILED, SUCCESSFUL)
    assert failed.errors[0].exception_class_path == path


def test_attempts(configure: Any, caplog: Any) -> None:
    configure(max_attempts=3)
    result = fail_twice.enqueue()
    [ran] = run_tasks()
    result.refresh()
    assert (ran.status, ran.attempts, ran.return_value) == (SUCCESSFUL, 3, ["test"] * 3)
    assert ["run 1" in ran.errors[0].traceback, "run 2" in ran.errors[1].traceback] == [True] * 2
    assert len(ran.errors) == 2
    lines = [r.getMessage() for r in caplog.records if r.name == "rmq_publisher.tasks"]
    assert [line.rpartition(" run ")[2] for line in lines] == ["again in 1 s", "again in 2 s"]


def test_attempts_are_used_up(configure: Any, store: str) -> None:
    path = "tests.support.some_tasks.fail_twice"
    configure(max_attempts=9, tasks={path: {"max_attempts": 2}})
    fail_twice.enqueue()
    [ran] = run_tasks()
    assert (ran.status, ran.attempts, len(ran.errors)) == (FAILED, 2, 2)


def test_retry_chooses_the_wait_and_counts(configure: Any, caplog: Any) -> None:
    configure(max_attempts=2)
    some_tasks.again_in.enqueue(77)
    [ran] = run_tasks()
    assert (ran.status, ran.attempts) == (FAILED, 2)
    [line] = [r.getMessage() for r in caplog.records if r.name == "rmq_publisher.tasks"]
    assert "again in 77 s" in line


def test_async_tasks(configure: Any) -> None:
    some_tasks.add_async.enqueue(1, second=2)
    [ran] = run_tasks()
    assert ran.return_value == 3


def test_what_is_no_task_is_not_run(configure: Any, store: str) -> None:
    add.enqueue()
    records.rows(store).update(task_path="tests.support.some_tasks.undecorated")
    with pytest.raises(ImportError, match="is not a task"):
        run_tasks()
    [row] = records.rows(store)
    assert (row.status, row.attempts) == ("FAILED", 1)
    assert "is not a task" in row.errors


def test_a_receiver_that_raises_changes_nothing(configure: Any) -> None:
    def receiver(**_: Any) -> None:
        raise some_tasks.NotTodayError

    task_started.connect(receiver)
    task_finished.connect(receiver)
    try:
        add.enqueue()
        [ran] = run_tasks()
    finally:
        task_started.disconnect(receiver)
        task_finished.disconnect(receiver)
    assert ran.status == SUCCESSFUL


# rmq_publisher.testing


def test_run_tasks_runs_what_tasks_enqueue(configure: Any, monkeypatch: Any) -> None:
    chained.enqueue(2)
    assert [ran.return_value for ran in run_tasks()] == [2, 1, 0]
    monkeypatch.setattr(testing_tasks, "MOST", 10)
    chained.enqueue(20)
    with pytest.raises(RuntimeError, match="enqueues itself"):
        run_tasks()


def test_run_tasks_leaves_what_is_deferred(configure: Any) -> None:
    nothing.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert run_tasks() == []
    [ran] = run_tasks(deferred=True)
    assert ran.status == SUCCESSFUL


def test_run_tasks_of_an_unknown_backend(configure: Any) -> None:
    with pytest.raises(LookupError, match="'default'"):
        run_tasks("nowhere")


def test_tasks_run_immediately(configure: Any) -> None:
    configure(max_attempts=3)
    with tasks_run_immediately():
        assert add.enqueue(1, 2).return_value == 3
        assert fail_twice.enqueue().attempts == 3
        failed = fail.enqueue()
        later = nothing.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert (failed.status, failed.attempts, later.status) == (FAILED, 3, READY)
    assert failed == fail.get_result(failed.id)
    assert add.enqueue().status == READY
