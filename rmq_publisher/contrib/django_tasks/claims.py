"""Decides from a task's row, under its lock, whether a delivery runs the task.

A message is also redelivered if a relay sent it twice, if a connection was lost while the task continues,
or if a worker died. The broker cannot tell these cases apart; the row and its worker's heartbeat can.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

from django.db import connections as databases
from django.db import transaction

from rmq_publisher.contrib.django_tasks import records, workers
from rmq_publisher.contrib.django_tasks.message import PUT_BACK_SECONDS, dumps
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.contrib.django_tasks.records import READY, RUNNING, TABLE
from rmq_publisher.db.clock import after, database_now
from rmq_publisher.exceptions import WorkerLost

# A broker's clock may run a little faster than the database's.
EARLY_SECONDS = 0.25
_PLACE = f"{WorkerLost.__module__}.{WorkerLost.__qualname__}"


class Meaning(Enum):
    """What to do with a delivery."""

    RUN = auto()  # the row is RUNNING, and this is its latest run
    GONE = auto()  # acknowledge it: there is no row
    FINISHED = auto()  # acknowledge it: the task has finished, or was cancelled
    DUPLICATE = auto()  # acknowledge it: another delivery is being handled
    LOST = auto()  # acknowledge it: the task has just failed, because too many workers died
    WAIT = auto()  # requeue it with a delay, without counting


@dataclass(frozen=True, slots=True)
class Claim:
    """What a delivery means, and for a run the contents of the row.

    Attributes:
        seconds: to wait.
        attempt: number of the run.
    """

    meaning: Meaning
    seconds: float = 0.0
    attempt: int = 0
    enqueued_at: datetime | None = None
    started_at: datetime | None = None
    last_attempted_at: datetime | None = None
    worker_ids: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    row: TaskRecord | None = None


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker that received a delivery.

    Attributes:
        database: Django alias.
        worker_id: of the process.
        is_busy: whether another thread of this process is handling a delivery of the task.
        may_judge: whether heartbeats can be relied on; not if this worker could not write its own lately,
            because then others may not have been able to either.
    """

    database: str
    worker_id: str
    is_busy: bool = False
    may_judge: bool = True


def claim(who: Claimant, id: str, *, redelivered: bool, max_deaths: int) -> Claim:
    """Decide what a delivery means, and begin its run if the task must run.

    Args:
        who: the worker.
        id: of the task.
        redelivered: whether the message, or the one that it is a copy of, was delivered before.
        max_deaths: how many workers may die while running the task.

    Raises:
        DatabaseError, InterfaceError: Django's.
    """
    return _first(who, id) or _any(who, id, redelivered, max_deaths)


def _first(who: Claimant, id: str) -> Claim | None:
    """Begin the first run of a task, in one statement; None if this is not its first run."""
    connection = databases[who.database]
    if not records.can_return(connection):
        return None
    now = after(connection)
    sql = (
        f"UPDATE {TABLE} SET status = '{RUNNING}', attempts = 1, worker_ids = %s, "  # noqa: S608
        f"started_at = {now}, last_attempted_at = {now} "
        f"WHERE id = %s AND status = '{READY}' AND attempts = 0 AND retry_at IS NULL "
        "RETURNING enqueued_at, started_at, last_attempted_at"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [dumps([who.worker_id]), id])
        found = cursor.fetchone()
    if found is None:
        return None
    enqueued_at, started_at, last_attempted_at = map(records.as_time, found)
    return Claim(
        Meaning.RUN,
        attempt=1,
        enqueued_at=enqueued_at,
        started_at=started_at,
        last_attempted_at=last_attempted_at,
        worker_ids=[who.worker_id],
    )


def _any(who: Claimant, id: str, redelivered: bool, max_deaths: int) -> Claim:
    with transaction.atomic(using=who.database):
        row = records.locked(who.database, id)
        if row is None:
            return Claim(Meaning.GONE)
        if row.status == RUNNING:
            return _running(who, row, redelivered, max_deaths)
        if row.status == READY:
            return _ready(who, row)
        return Claim(Meaning.FINISHED)


def _ready(who: Claimant, row: TaskRecord) -> Claim:
    now = database_now(databases[who.database])
    if row.retry_at is not None:
        left = (row.retry_at - now).total_seconds()
        if left > EARLY_SECONDS:
            return Claim(Meaning.WAIT, seconds=left)
    row.status, row.retry_at = RUNNING, None
    row.attempts += 1
    row.worker_ids = dumps([*records.worker_ids(row), who.worker_id])
    row.started_at = row.started_at or now
    row.last_attempted_at = now
    records.save(
        row, "retry_at", "attempts", "worker_ids", "started_at", "last_attempted_at", "deaths"
    )
    return _begun(row)


def _running(who: Claimant, row: TaskRecord, redelivered: bool, max_deaths: int) -> Claim:
    last = records.worker_ids(row)[-1]
    if last == who.worker_id and not who.is_busy:
        # The answer to an earlier claim of ours was lost.
        return _begun(row)
    if not redelivered:
        return Claim(Meaning.DUPLICATE)
    if not who.may_judge or workers.is_alive(who.database, last):
        return Claim(Meaning.WAIT, seconds=PUT_BACK_SECONDS)
    row.deaths += 1
    if row.deaths < max(1, max_deaths):
        return _ready(who, row)
    text = f"worker {last} died during run {row.attempts}; {row.deaths} died over the task"
    records.add_error(row, records.Error(_PLACE, f"{_PLACE}: {text}\n"))
    records.finish_failed(row)
    records.save(row, "deaths")
    return Claim(Meaning.LOST, row=row)


def _begun(row: TaskRecord) -> Claim:
    return Claim(
        Meaning.RUN,
        attempt=row.attempts,
        enqueued_at=row.enqueued_at,
        started_at=row.started_at,
        last_attempted_at=row.last_attempted_at,
        worker_ids=records.worker_ids(row),
        errors=json.loads(row.errors),
    )
