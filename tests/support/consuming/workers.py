"""`rmq_consume` in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.db import connections

from rmq_publisher import connections as brokers
from rmq_publisher import publish
from rmq_publisher.consumer.retry_levels import RetryLevels
from tests.support.calls import eventually
from tests.support.rig import PATIENCE
from tests.support.rig.amqp import Amqp
from tests.support.rig.processes import children

ROOT = Path(__file__).parents[3]
BACKOFF = (1, 1)  # a single retry queue
_KEYS = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")


class Consuming:
    """A queue, a database, and the workers that handle the one and write into the other."""

    def __init__(self, url: str, amqp: Amqp, queue: str, store: str, directory: Path) -> None:
        self.queue, self.directory = queue, directory
        self._amqp = amqp
        self._store, self._url = store, url
        self.processes: list[subprocess.Popen[str]] = []
        self._declared: set[str] = set()
        self.run("CREATE TABLE effects (body varchar(20))")

    def run(self, sql: str) -> Any:
        with connections[self._store].cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def effects(self) -> list[str]:
        return sorted(row[0] for row in self.run("SELECT body FROM effects"))

    def send(self, ids: Sequence[int], **what: Any) -> None:
        for number in ids:
            body = json.dumps({"id": f"{number:02}", **what})
            publish(body, queue=self.queue, message_id=f"m{number}", delivery="now")

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Declare its retry queue and start a worker; ``options`` are the handler's."""
        levels = RetryLevels.of(self.queue, 2, BACKOFF).configs()
        brokers["default"].declare(levels, PATIENCE)
        self._declared.update(level.name for level in levels)
        given = connections[self._store].settings_dict
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.support.consuming.settings",
            "CONSUMING_DATABASE": json.dumps({key: given[key] for key in _KEYS}),
            "CONSUMING_URL": self._url,
            "CONSUMING_QUEUE": self.queue,
            "CONSUMING_DIRECTORY": str(self.directory),
            "CONSUMING_OPTIONS": json.dumps({"backoff": BACKOFF, **options}),
        }
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "django", "rmq_consume", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
            )
        )
        return self.processes[-1]

    def started(self) -> list[tuple[str, int]]:
        """The messages whose handling began, with the process that did."""
        found = (path.name.split() for path in self.directory.glob("started *"))
        return sorted((number, int(pid)) for _, number, pid in found)

    def await_started(self, count: int) -> None:
        eventually(lambda: len(self.started()) >= count, 2 * PATIENCE)

    def go(self) -> None:
        """Let the handlers go on that wait."""
        (self.directory / "go").touch()

    def end(self) -> None:
        self.go()
        for process in self.processes:
            for pid in (*children(process.pid), process.pid):
                if process.poll() is None:
                    os.kill(pid, 9)
            process.communicate()
        self.run("DROP TABLE effects")
        for level in self._declared:
            self._amqp.delete_queue(level)
        brokers.close()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit code of a process, and what it has written."""
    output, _ = process.communicate(timeout=2 * PATIENCE)
    return process.returncode, output
