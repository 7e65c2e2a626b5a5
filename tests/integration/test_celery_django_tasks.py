"""A Celery worker, in processes of its own, runs Django's tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from tests.support.rig.amqp import Amqp
from tests.support.rig.ladder import Broker

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds
TASKS_OF = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes", "rmq_publisher", {more} "rmq_publisher.contrib.django_tasks",
]
RMQ_URL = {url!r}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r},
    "OPTIONS": {{"transaction_mode": "IMMEDIATE"}}}}}}
TASKS = {{"default": {{"BACKEND": "rmq_publisher.contrib.django_tasks.RabbitMQBackend", "OPTIONS": {{
    "format": "celery", "prefix": {prefix!r}, "max_attempts": 3, "backoff": (0.05, 1),
    "tasks": {{"work.too_slow": {{"timeout": 1, "max_attempts": 1}}}}}}}}}}
"""
APP = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings_of_tasks")
from celery import Celery
from rmq_publisher.contrib.celery import register_django_tasks

app = Celery("project", broker={url!r})
app.conf.task_default_queue = {queue!r}
app.conf.task_default_queue_type = "quorum"
app.conf.worker_hijack_root_logger = False
register_django_tasks(app)
"""
WORK = f"""
import os, signal, time
from {TASKS_OF} import task

@task
def add(x, y):
    return {{"sum": x + y, "__type__": "not kombu's", "__value__": 1}}

@task(takes_context=True)
def third_time(context):
    if context.attempt < 3:
        raise ValueError("not yet")
    return context.attempt

@task
def never():
    raise ValueError("never")

@task(takes_context=True)
def kills_its_process(context):
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"

@task
def too_slow():
    time.sleep(30)
"""
CLIENT = """
import json, time
import django
django.setup()
import work
from django.db import transaction

sent = {
    "add": work.add.enqueue(2, y=3), "third_time": work.third_time.enqueue(),
    "never": work.never.enqueue(), "kills_its_process": work.kills_its_process.enqueue(),
    "too_slow": work.too_slow.enqueue(),
}
with transaction.atomic():
    gone = work.add.enqueue(5, 5)
    transaction.set_rollback(True)
deadline = time.monotonic() + PATIENCE
while not all(result.is_finished for result in sent.values()) and time.monotonic() < deadline:
    time.sleep(0.1)
    for result in sent.values():
        result.refresh()
print(json.dumps({
    name: [result.status.value, result.attempts, [error.exception_class_path for error in result.errors]]
    for name, result in sent.items()
} | {
    "value": sent["add"].is_finished and sent["add"].return_value,
    "workers": len(set(sent["kills_its_process"].worker_ids)),
}))
"""


class Project:
    """A project whose tasks a Celery worker runs, and a relay that looks often."""

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self.prefix = f"tasks{uuid.uuid4().hex[:8]}."
        settings = SETTINGS.format(
            url=url, database=str(path / "db.sqlite3"), prefix=self.prefix,
            more="" if django.VERSION >= (6, 0) else '"django_tasks",',
        )  # fmt: skip
        (path / "settings_of_tasks.py").write_text(settings)
        self.own_queue = f"{self.prefix}celery"
        (path / "project.py").write_text(APP.format(url=url, queue=self.own_queue))
        (path / "work.py").write_text(WORK)
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": "settings_of_tasks",
        }
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self._path.glob("*.log"))

    def start(self, name: str, *arguments: str) -> None:
        with (self._path / f"{name}.log").open("wb") as log:
            self._started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *arguments], cwd=self._path, env=self._environment,
                    stdout=log, stderr=log,
                )
            )  # fmt: skip

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=self._environment, cwd=self._path, capture_output=True,
            text=True, timeout=2 * PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + self.logs
        return done.stdout

    def end(self) -> None:
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(PATIENCE)


@pytest.fixture
def project(tmp_path: Path, broker: Broker, amqp: Amqp) -> Iterator[Project]:
    made = Project(tmp_path, broker.url)
    try:
        yield made
    finally:
        made.end()
        for queue in (f"{made.prefix}default", made.own_queue):
            amqp.delete_queue(queue)


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_a_celery_worker_runs_djangos_tasks(project: Project, amqp: Amqp) -> None:
    """Results, errors, retries, a time limit and a killed process are as with a worker of ours."""
    project.run("-m", "django", "migrate", "-v0")
    project.run("-m", "django", "rmq_declare", "-v0")
    project.start("relay", "django", "rmq_relay")
    worker = ("celery", "-A", "project", "worker", "-c", "2", "--without-gossip")
    project.start("worker", *worker, "-n", f"{project.prefix}@localhost")
    found = json.loads(project.run("-c", f"PATIENCE = {PATIENCE}\n{CLIENT}"))
    errors = ["builtins.ValueError"]
    assert found == {
        "add": ["SUCCESSFUL", 1, []],
        "third_time": ["SUCCESSFUL", 3, errors * 2],
        "never": ["FAILED", 3, errors * 3],
        "kills_its_process": ["SUCCESSFUL", 2, []],
        "too_slow": ["FAILED", 1, ["billiard.exceptions.SoftTimeLimitExceeded"]],
        "value": {"sum": 5, "__type__": "not kombu's", "__value__": 1},
        "workers": 2,
    }, project.logs
    assert amqp.wait_for_depth(f"{project.prefix}default", 0) == 0
