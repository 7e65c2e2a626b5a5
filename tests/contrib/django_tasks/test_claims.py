"""The row decides what a delivery means."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections as databases
from django.utils import timezone

from rmq_publisher import cancel
from rmq_publisher.contrib.django_tasks import claims, records, workers
from rmq_publisher.contrib.django_tasks.claims import Claimant, Meaning
from rmq_publisher.contrib.django_tasks.models import TaskRecord, TaskWorker
from tests.support.some_tasks import add

ERROR = records.Error("builtins.ValueError", "Traceback")


@pytest.fixture
def id_(configure: Any) -> str:
    return add.enqueue().id


def row(store: str) -> Any:
    return TaskRecord.objects.using(store).get()


def claim(store: str, id: str, worker: str = "w1", **options: Any) -> Any:
    redelivered = options.pop("redelivered", False)
    max_deaths = options.pop("max_deaths", 3)
    who = Claimant(store, worker, **options)
    return claims.claim(who, id, redelivered=redelivered, max_deaths=max_deaths)


def fail(store: str, id: str, attempt: int, max_attempts: int = 5, delay: float = 0.0) -> Any:
    return records.fail(store, id, attempt, ERROR, max_attempts, lambda _: delay)


def test_ready_is_run(store: str, id_: str) -> None:
    found = claim(store, id_)
    assert (found.meaning, found.attempt, found.worker_ids) == (Meaning.RUN, 1, ["w1"])
    now = row(store)
    assert (now.status, now.attempts, json.loads(now.worker_ids)) == ("RUNNING", 1, ["w1"])
    assert now.started_at == now.last_attempted_at == found.started_at
    assert now.enqueued_at == found.enqueued_at <= now.started_at


def test_what_was_running_and_is_not_redelivered_is_a_duplicate(store: str, id_: str) -> None:
    claim(store, id_)
    assert claim(store, id_, "w2").meaning is Meaning.DUPLICATE
    assert row(store).attempts == 1


def test_what_has_finished_is_not_run_again(store: str, id_: str) -> None:
    attempt = claim(store, id_).attempt
    finished_at = records.succeed(store, id_, attempt, "3")
    assert finished_at == row(store).finished_at >= row(store).started_at
    for redelivered in (False, True):
        found = claim(store, id_, "w2", redelivered=redelivered)
        assert found.meaning is Meaning.FINISHED


def test_what_was_cancelled_is_not_run(store: str, id_: str) -> None:
    assert cancel(id_, database=store)
    assert claim(store, id_).meaning is Meaning.FINISHED


def test_what_has_no_row_is_not_run(store: str, id_: str) -> None:
    row(store).delete()
    assert claim(store, id_, redelivered=True).meaning is Meaning.GONE


def test_redelivered_while_its_worker_is_alive_waits(store: str, id_: str) -> None:
    claim(store, id_)
    workers.beat(store, "w1", "RabbitMQ 4.3.6")
    found = claim(store, id_, "w2", redelivered=True)
    assert (found.meaning, found.seconds) == (Meaning.WAIT, 5.0)
    assert (row(store).attempts, row(store).deaths) == (1, 0)
    # Seen 16 seconds ago: dead.
    TaskWorker.objects.using(store).update(seen_at=timezone.now() - timedelta(seconds=16))
    assert claim(store, id_, "w2", redelivered=True).meaning is Meaning.RUN


def test_redelivered_after_its_worker_died_is_run(store: str, id_: str) -> None:
    first = claim(store, id_)
    found = claim(store, id_, "w2", redelivered=True)
    assert (found.meaning, found.attempt) == (Meaning.RUN, 2)
    assert found.worker_ids == ["w1", "w2"]
    assert found.started_at == first.started_at < found.last_attempted_at
    assert (row(store).deaths, row(store).failures) == (1, 0)
    # The first run's worker was alive after all: its outcome is not written.
    assert records.succeed(store, id_, 1, '"late"') is None
    assert fail(store, id_, 1) is None
    assert row(store).status == "RUNNING"
    assert records.succeed(store, id_, 2, "3") is not None
    assert row(store).return_value == "3"


def test_a_worker_that_cannot_beat_calls_nobody_dead(store: str, id_: str) -> None:
    claim(store, id_)
    assert claim(store, id_, "w2", redelivered=True, may_judge=False).meaning is Meaning.WAIT
    assert row(store).deaths == 0


@pytest.mark.parametrize(("max_deaths", "runs"), [(0, 1), (1, 1), (3, 3)])
def test_the_task_has_failed_after_so_many_deaths(
    store: str, id_: str, max_deaths: int, runs: int
) -> None:
    for number in range(runs):
        found = claim(store, id_, f"w{number}", redelivered=number > 0, max_deaths=max_deaths)
        assert found.meaning is Meaning.RUN
    last = claim(store, id_, "w9", redelivered=True, max_deaths=max_deaths)
    assert last.meaning is Meaning.LOST
    now = row(store)
    assert (now.status, now.deaths, now.attempts) == ("FAILED", runs, runs)
    assert now.finished_at is not None
    [error] = json.loads(now.errors)
    assert error["exception_class_path"] == "rmq_publisher.exceptions.WorkerLost"
    assert claim(store, id_, redelivered=True).meaning is Meaning.FINISHED


def test_deaths_are_no_failures(store: str, id_: str) -> None:
    claim(store, id_)
    claim(store, id_, "w2", redelivered=True)
    assert fail(store, id_, 2, max_attempts=2).status == "READY"
    assert claim(store, id_, "w3").attempt == 3
    assert fail(store, id_, 3, max_attempts=2).status == "FAILED"
    assert len(json.loads(row(store).errors)) == 2


def test_a_failed_run_is_not_repeated_before_its_time(store: str, id_: str) -> None:
    attempt = claim(store, id_).attempt
    assert fail(store, id_, attempt, delay=60).status == "READY"
    for redelivered in (False, True):
        found = claim(store, id_, "w2", redelivered=redelivered)
        assert found.meaning is Meaning.WAIT
        assert 50 < found.seconds <= 60
    records.rows(store).update(retry_at=timezone.now())
    found = claim(store, id_, "w2")
    assert (found.meaning, found.attempt) == (Meaning.RUN, 2)
    assert [error["exception_class_path"] for error in found.errors] == ["builtins.ValueError"]
    assert row(store).retry_at is None


def test_an_answer_that_was_lost_is_asked_for_again(store: str, id_: str) -> None:
    claim(store, id_)
    found = claim(store, id_)  # the same worker, and no thread of it runs the task
    assert (found.meaning, found.attempt) == (Meaning.RUN, 1)
    assert row(store).attempts == 1
    assert claim(store, id_, is_busy=True).meaning is Meaning.DUPLICATE


def test_a_task_that_is_released_runs_again_uncounted(store: str, id_: str) -> None:
    claim(store, id_)
    assert records.release(store, id_, 1)
    assert records.succeed(store, id_, 1, "3") is None
    assert claim(store, id_, "w2").attempt == 2
    assert (row(store).deaths, row(store).failures) == (0, 0)


def test_of_many_at_once_one_runs_it(store: str, id_: str) -> None:
    found: list[Any] = []
    begin = threading.Barrier(8)

    def work(number: int) -> None:
        begin.wait()
        try:
            found.append(claim(store, id_, f"w{number}").meaning)
        finally:
            databases[store].close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.name for one in found) == ["DUPLICATE"] * 7 + ["RUN"]
    assert row(store).attempts == 1


def test_prune(store: str, id_: str) -> None:
    old = add.enqueue().id
    records.succeed(store, old, claim(store, old).attempt, "0")
    assert records.prune(store, ["default"], 7, most=10) == 0
    records.rows(store).filter(id=old).update(finished_at=timezone.now() - timedelta(days=8))
    records.rows(store).filter(id=id_).update(enqueued_at=timezone.now() - timedelta(days=99))
    assert records.prune(store, ["another"], 7, most=10) == 0
    assert records.prune(store, ["default"], 7, most=10, dry_run=True) == 1
    call_command("rmq_prune", "--tasks", "--database", store, "--older-than", "9d")
    assert records.rows(store).count() == 2
    call_command("rmq_prune", "--tasks", "--database", store)
    assert row(store).id == id_
