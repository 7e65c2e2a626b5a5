"""What is not a contest: the footprint of 16 publishing threads, and the time of imports."""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .contest import Entry, Stage, say
from .peers import OURS, PEERS
from .plan import BLOCKING, THREADS
from .runners import PeerError, Worker

_ROOT = Path(__file__).parents[2]
_PREPARED = "import django.conf; django.conf.settings.configure(); django.setup()"
_TIMED = """
import sys, time
{before}
known, started = len(sys.modules), time.perf_counter()
{statement}
print(time.perf_counter() - started, len(sys.modules) - known)
"""


@dataclass
class Import:
    """How long an import takes in a fresh interpreter."""

    label: str
    statement: str
    peer: str = ""
    before: str = ""
    milliseconds: float = 0.0
    modules: int = 0
    error: str = ""


def imports(rounds: int) -> list[Import]:
    """Measure imports, taking turns."""
    ours = "from rmq_publisher import publish, publish_many, Producer"
    rows = [
        Import("pika", "import pika"),
        Import(f"{OURS}, with pika, Django being loaded", ours, before=_PREPARED),
        Import(
            f"{OURS} alone, pika and Django being loaded", ours, before=f"{_PREPARED}; import pika"
        ),
        Import("Django alone (setup without apps)", _PREPARED),
        Import("Flask-RMQ, with Flask and pika", "import flask_rmq", "flask_rmq"),
        Import(
            "django-rmq's producer, with pika, Django being loaded",
            "import django_rmq.producer",
            "django_rmq",
            before=_PREPARED,
        ),
        Import("kombu", "from kombu import Connection, Producer; import amqp", "kombu"),
        Import("aio-pika", "import aio_pika", "aio_pika"),
        Import("dramatiq, with pika", "import dramatiq.brokers.rabbitmq", "dramatiq"),
    ]
    for row in rows:
        if row.peer and (missing := PEERS[row.peer].missing):
            row.error = f"not installed: {', '.join(missing)}"
    times: dict[str, list[float]] = {}
    say("Imports")
    for number in range(rounds + 1):
        for row in rows:
            if row.error:
                continue
            seconds, modules = _timed(row)
            if number:  # the first one warms the disk's cache
                times.setdefault(row.label, []).append(seconds * 1000)
            row.modules = modules
    for row in rows:
        row.milliseconds = statistics.median(times.get(row.label, [0.0]))
    return rows


def _timed(row: Import) -> tuple[float, int]:
    program = _TIMED.format(before=row.before, statement=row.statement)
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    seconds, modules = ended.stdout.split()
    return float(seconds), int(modules)


def footprints(stage: Stage) -> list[Entry]:
    """What a process holds in which so many threads have published."""
    task = {"do": "each", "threads": THREADS, "seconds": 0.3}
    entries = [Entry(name, task) for name in ("ours", *BLOCKING)]
    entries.append(Entry("aio_pika", task, f"{THREADS} tasks"))
    say("Footprints")
    for entry in entries:
        if entry.info.missing:
            entry.error = f"not installed: {', '.join(entry.info.missing)}"
            continue
        runner = stage.open(entry)
        assert isinstance(runner, Worker)
        try:
            runner.ready()
            runner.run(**task)
            entry.rounds.append(runner.run(do="footprint"))
        except PeerError as error:
            entry.error = str(error)
        finally:
            runner.close()
    return entries
