"""Workers of Django's tasks as processes, on a real broker and PostgreSQL: killed, stopped, timed out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from rmq_publisher.contrib.django_tasks import records, workers
from rmq_publisher.outbox import after_commit
from tests.support.rig.stores import migrate
from tests.support.some_tasks import add, sleep
from tests.support.task_workers import wait_for

ROOT = Path(__file__).resolve().parents[2]
BACKEND = "rmq_publisher.contrib.django_tasks.RabbitMQBackend"
SETTINGS = """
from tests.settings import *

RMQ_URL = {url!r}
TASKS = {tasks!r}
DATABASES["default"] = {database!r}
"""

pytestmark = pytest.mark.parametrize("store", ["postgres"], indirect=True)


class Workers:
    """Starts `manage.py rmq_worker`, with settings like the test's own."""

    def __init__(self, directory: Path, text: str) -> None:
        (directory / "task_worker_settings.py").write_text(text)
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(directory)]),
            "DJANGO_SETTINGS_MODULE": "task_worker_settings",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "django", "rmq_worker", *arguments]
        process = subprocess.Popen(command, env=self._environment)
        self.running.append(process)
        return process


@pytest.fixture
def started(
    rmq: Any, settings: Any, store: str, names: Any, tmp_path: Path, postgres: Any
) -> Iterator[Workers]:
    migrate(store, "rmq_publisher_tasks")
    options = {"prefix": names.queue() + ".", "backoff": (1, 1)}
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": {**options, "database": store}}}
    told = {
        "default": {
            "BACKEND": BACKEND,
            "OPTIONS": {
                **options,
                "max_attempts": 1,
                "tasks": {"tests.support.some_tasks.sleep": {"timeout": 60}},
            },
        }
    }
    text = SETTINGS.format(url=rmq.RMQ_URL, tasks=told, database=postgres.settings())
    made = Workers(tmp_path, text)
    yield made
    for process in made.running:
        process.kill()
        process.wait()
    after_commit.flush()


def statuses(store: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for status in records.rows(store).values_list("status", flat=True):
        found[status] = found.get(status, 0) + 1
    return found


def pid_of(worker_id: str) -> int:
    return int(worker_id.rpartition("-")[2])


def test_a_task_whose_worker_is_killed_runs_again_and_counts(
    started: Workers, store: str, monkeypatch: Any
) -> None:
    first = started.start("--worker-id=first", "--processes=1")
    result = sleep.enqueue(0.5)
    done = [add.enqueue(number, 1) for number in range(20)]
    wait_for(lambda: statuses(store) == {"SUCCESSFUL": 21})
    blocked = sleep.enqueue(3600)
    wait_for(lambda: statuses(store).get("RUNNING") == 1)
    [child] = [row.id for row in workers.rows(store)]
    os.kill(pid_of(child), signal.SIGKILL)
    # Else 15 seconds would have to pass.
    workers.rows(store).filter(id=child).update(seen_at="2020-01-01T00:00:00Z")
    wait_for(lambda: records.rows(store).get(id=blocked.id).attempts == 2)
    row = records.rows(store).get(id=blocked.id)
    assert (row.status, row.deaths, row.failures) == ("RUNNING", 1, 0)
    ids = records.worker_ids(row)
    assert ids[0] == child
    assert ids[1].startswith("first-")
    assert ids[1] != child
    for one in (result, *done):
        one.refresh()
        assert one.attempts == 1
    first.kill()
    first.wait()
    os.kill(pid_of(ids[1]), signal.SIGKILL)  # it would wait for its task


def test_sigterm_finishes_what_runs_and_gives_the_rest_back(started: Workers, store: str) -> None:
    worker = started.start("--worker-id=first")
    tasks = [sleep.enqueue(0.5) for _ in range(4)]
    wait_for(lambda: statuses(store).get("RUNNING") == 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    found = statuses(store)
    assert found.get("RUNNING", 0) == 0
    assert found["SUCCESSFUL"] >= 1
    assert not workers.rows(store).exists()
    second = started.start("--worker-id=second")
    wait_for(lambda: statuses(store) == {"SUCCESSFUL": 4})
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    for task in tasks:
        task.refresh()
        assert task.attempts == 1


def test_rmq_declare_declares_queues_and_levels(started: Workers, settings: Any) -> None:
    call_command("rmq_declare")
    call_command("rmq_declare", "--check")
