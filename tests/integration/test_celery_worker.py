"""Celery workers, in processes of their own, run what `CeleryTask` and apps with `AMQP` send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.celery_run.run import Run
from tests.support.rig.ladder import Broker

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "rmq_publisher"]
RMQ_URL = {url!r}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r},
    "OPTIONS": {{"transaction_mode": "IMMEDIATE"}}}}}}
"""
APP = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "celery_settings")
from celery import Celery
from django.db import transaction

app = Celery("project", broker={url!r}, backend="rpc://", amqp="rmq_publisher.contrib.celery:AMQP")
app.conf.task_default_queue = {queue!r}
app.conf.task_default_queue_type = {kind!r}
app.conf.worker_hijack_root_logger = False

@app.task
def add(x, y):
    return x + y

@app.task(bind=True, max_retries=3)
def retries_inside_atomic(self):
    with transaction.atomic():
        if self.request.retries < 2:
            raise self.retry(countdown=0.1)
    return self.request.retries
"""
# In a process of its own: the app's settings are not the suite's.
CLIENT = """
import json
import django
django.setup()
from django.db import transaction
from project import add, app, retries_inside_atomic
from celery import chain, group
from rmq_publisher import QueueConfig
from rmq_publisher.contrib.celery import CeleryTask

get = lambda result: result.get(timeout=PATIENCE)
found = {
    "delay": get(add.delay(1, 2)),
    "options": get(add.apply_async((1, 2), countdown=0.2, expires=60, compression="gzip")),
    "chain": get(chain(add.s(1, 2), add.s(3)).apply_async()),
    "group": get(group(add.s(i, i) for i in range(3)).apply_async()),
    "retry": get(retries_inside_atomic.delay()),
}
with transaction.atomic():
    gone = add.delay(5, 5)
    transaction.set_rollback(True)
with transaction.atomic():
    kept = add.delay(6, 6)
found["committed"] = get(kept)
found["rolled back"] = gone.ready()
ours = CeleryTask("project.add", queue=QueueConfig(QUEUE, queue_type=KIND), delivery="now")
found["ours"] = get(app.AsyncResult(ours.apply_async((20, 22), reply_to=app.thread_oid)))
print(json.dumps(found))
"""
PATIENCE = 60  # seconds


@pytest.fixture
def project(tmp_path: Path, broker: Broker, amqp: Any) -> Iterator[dict[str, Any]]:
    queue, kind = f"celery.{uuid.uuid4().hex[:8]}", "quorum"
    url = broker.url
    (tmp_path / "celery_settings.py").write_text(
        SETTINGS.format(url=url, database=str(tmp_path / "db.sqlite3"))
    )
    (tmp_path / "project.py").write_text(APP.format(url=url, queue=queue, kind=kind))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "celery_settings",
    }
    run(environment, tmp_path, "-m", "django", "migrate", "-v0")
    command = [sys.executable, "-m", "celery", "-A", "project", "worker", "-c", "2"]
    command += ["--without-gossip", "-n", f"{queue}@localhost"]
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            yield {"environment": environment, "path": tmp_path, "queue": queue, "kind": kind}
        finally:
            worker.terminate()
            worker.wait(PATIENCE)
            amqp.delete_queue(queue)


def run(environment: dict[str, str], path: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=path, capture_output=True, text=True,
        timeout=PATIENCE + 30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)  # two workers, a relay and two clients, on a machine that may be busy
def test_workers_run_all_that_is_sent(tmp_path: Path, broker: Broker, amqp: Any) -> None:
    """A stock worker what `CeleryTask` sends, another one what an app with `AMQP` sends.

    `python -m tests.celery_run` is the same with thousands of tasks, on both kinds of queues.
    """
    celery = Run(tmp_path, broker.url, ("quorum", "classic"))
    with celery.processes():
        wrong = celery.compare(celery.send(50), 4 * PATIENCE)
    for queue in celery.queues:
        amqp.delete_queue(queue)
    assert not wrong, celery.logs()


@pytest.mark.thorough
def test_results_come_by_rpc(project: dict[str, Any]) -> None:
    """The reply queue is kombu's; the tasks that answer to it are sent by us."""
    head = f"PATIENCE, QUEUE, KIND = {PATIENCE}, {project['queue']!r}, {project['kind']!r}\n"
    said = run(project["environment"], project["path"], "-c", head + CLIENT)
    assert json.loads(said) == {
        "delay": 3,
        "options": 3,
        "chain": 6,
        "group": [0, 2, 4],
        "retry": 2,
        "committed": 12,
        "rolled back": False,
        "ours": 42,
    }


KILLED = """
import os, signal
import django
django.setup()
from django.db import transaction
from run_tasks import add
from shop import app
from rmq_publisher import QueueConfig
from rmq_publisher.contrib.celery import CeleryTask
ours = CeleryTask("run.add", queue=QueueConfig(os.environ["RUN_QUEUE"], max_priority=10))
with transaction.atomic():
    sent = [add.apply_async((1, 2), delivery="outbox").id, ours.apply_async((3, 4), delivery="outbox")]
print(*sent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_task_outlives_the_process_that_committed_it(
    tmp_path: Path, broker: Broker, amqp: Any
) -> None:
    """The process is killed between the commit and the sending."""
    celery = Run(tmp_path, broker.url, ("classic", "classic"))
    celery.call("-m", "django", "migrate", "-v0")
    environment = {**celery.client("shop"), "RUN_GRACE": "0"}  # it sends nothing itself
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, cwd=tmp_path, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    queue = environment["RUN_QUEUE"]
    celery.call("-m", "django", "rmq_relay", "--once")
    found = amqp.drain(queue, 2)
    amqp.delete_queue(queue)
    assert {message.properties.message_id for message in found} == {*killed.stdout.split()}


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_process_without_djangos_settings_does_not_start(tmp_path: Path, command: str) -> None:
    (tmp_path / "alone.py").write_text(
        "from celery import Celery\n"
        "app = Celery('p', broker='amqp://127.0.0.1:9', amqp='rmq_publisher.contrib.celery:AMQP')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "alone", command], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "set DJANGO_SETTINGS_MODULE before Celery(...)" in done.stderr
