"""One run: two workers, a relay, two clients, and every result compared."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Run:
    """Tasks of both kinds on one queue each.

    Args:
        folder: an empty one, for the database, results and logs.
        broker: its URL.
        kinds: of the queues, "classic" or "quorum", for the stock worker and for the shop's.
        python: interpreter whose Celery is used, with Django and pika.
        django_db: whether the shop's results are kept by django-celery-results.
    """

    def __init__(
        self,
        folder: Path,
        broker: str,
        kinds: tuple[str, str],
        python: str = sys.executable,
        *,
        django_db: bool = False,
    ) -> None:
        self.folder = folder
        self.python = python
        self.kinds = dict(zip(("stock", "shop"), kinds, strict=True))
        self.django_db = django_db
        self.queues = [f"run.{uuid.uuid4().hex[:8]}.{app}" for app in ("stock", "shop")]
        self._shared = {
            **os.environ,
            "RUN_BROKER": broker,
            "RUN_DATABASE": str(folder / "db.sqlite3"),
        }
        for app in ("stock", "shop"):
            (folder / f"results-{app}").mkdir()

    def environment(self, app: str) -> dict[str, str]:
        """That of the processes of an app; the stock worker finds none of our modules."""
        paths = [HERE, ROOT] if app == "shop" else [HERE]
        found = {
            **self._shared,
            "RUN_KIND": self.kinds[app],
            "RUN_QUEUE": self._queue(app),
            "RUN_BACKEND": f"file://{self.folder / f'results-{app}'}",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        found.pop("DJANGO_SETTINGS_MODULE", None)
        if app == "shop" and self.django_db:
            found["RUN_BACKEND"] = "django-db"
        if app == "shop":
            found["DJANGO_SETTINGS_MODULE"] = "run_settings"
        return found

    def _queue(self, app: str) -> str:
        return next(queue for queue in self.queues if queue.endswith(app))

    def client(self, app: str) -> dict[str, str]:
        """The environment of who sends to an app's workers."""
        return {
            **self.environment(app),
            "PYTHONPATH": self.environment("shop")["PYTHONPATH"],
            "DJANGO_SETTINGS_MODULE": "run_settings",
        }

    @contextmanager
    def processes(self) -> Iterator[None]:
        """Migrate; run both workers and a relay for as long as the block lasts."""
        self.call("-m", "django", "migrate", "-v0")
        worker = ("-m", "celery", "-A", "APP", "worker", "-c", "2", "-l", "WARNING")
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        with ExitStack() as stack:
            for app in ("stock", "shop"):
                name = (
                    "-n",
                    f"{self._queue(app)}@localhost",
                )  # else a second one on the broker dies
                command = [part.replace("APP", app) for part in (*worker, *quiet, *name)]
                stack.enter_context(self._process(app, self.environment(app), *command))
            relay = ("-m", "django", "rmq_relay", "--poll-interval", "0.2")
            stack.enter_context(self._process("relay", self.environment("shop"), *relay))
            yield

    @contextmanager
    def _process(self, name: str, environment: dict[str, str], *command: str) -> Iterator[None]:
        with (self.folder / f"{name}.log").open("w") as log:
            running = subprocess.Popen(
                [self.python, *command], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
            try:
                yield
            finally:
                running.send_signal(signal.SIGTERM)
                try:
                    running.wait(30)
                except subprocess.TimeoutExpired:
                    running.kill()
                    running.wait()

    def call(self, *command: str, app: str = "shop", timeout: float = 300) -> str:
        """Run a client to its end; return what it printed."""
        done = subprocess.run(
            [self.python, *command], cwd=self.folder, env=self.client(app), capture_output=True,
            text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, tasks: int) -> dict[str, dict[str, list[object]]]:
        """Send at least so many tasks of each kind; return what is expected of them, by app."""
        by_name = self.call("-m", "tests.celery_run.by_name", str(tasks), app="stock")
        by_app = self.call("-m", "tests.celery_run.by_app", str(tasks))
        return {"stock": json.loads(by_name), "shop": json.loads(by_app)}

    def compare(self, expected: dict[str, dict[str, list[object]]], patience: float) -> list[str]:
        """Wait for all results; return those that differ."""
        deadline = time.monotonic() + patience
        while (missing := self._missing(expected)) and time.monotonic() < deadline:
            time.sleep(0.2)
        wrong = [f"{app} {task}: no result of {expected[app][task]}" for app, task in missing]
        for app, of_app in expected.items():
            for task, (how, *value) in of_app.items():
                found = self._result(app, task)
                if (app, task) not in missing and not _fits(found, how, value):
                    wrong.append(f"{app} {task}: {how} {value}, and is {found}")
        return wrong

    def _missing(self, expected: dict[str, dict[str, list[object]]]) -> list[tuple[str, str]]:
        return [
            (app, task)
            for app, of_app in expected.items()
            for task, (how, *_) in of_app.items()
            if how != "nothing" and (self._result(app, task) or {}).get("status") != "SUCCESS"
        ]

    def _result(self, app: str, task: str) -> dict[str, object] | None:
        if app == "shop" and self.django_db:
            return self._result_in_database(task)
        try:
            text = (self.folder / f"results-{app}" / f"celery-task-meta-{task}").read_text()
            return json.loads(text)  # type: ignore[no-any-return]
        except (FileNotFoundError, json.JSONDecodeError):  # being written
            return None

    def _result_in_database(self, task: str) -> dict[str, object] | None:
        query = "SELECT status, result FROM django_celery_results_taskresult WHERE task_id = ?"
        with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=30)) as database:
            row = database.execute(query, [task]).fetchone()
        return None if row is None else {"status": row[0], "result": json.loads(row[1] or "null")}

    def logs(self) -> str:
        """The ends of what the workers and the relay wrote."""
        return "\n".join(
            f"{path.name}:\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log")
        )


def _fits(found: dict[str, object] | None, how: str, value: list[object]) -> bool:
    if how == "nothing":
        return found is None or found["status"] != "SUCCESS"
    assert found is not None
    result = found["result"]
    return result == value[0] if how == "equals" else float(str(result)) >= float(str(value[0]))
