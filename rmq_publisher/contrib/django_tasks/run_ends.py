"""Writes the outcome of a run to its row, and sends the signal."""

import logging
import traceback
from datetime import datetime
from typing import Any

from rmq_publisher.consumer.outcomes import Retry
from rmq_publisher.contrib.django_tasks import records, results
from rmq_publisher.contrib.django_tasks.claims import Claim, Meaning
from rmq_publisher.contrib.django_tasks.framework import (
    AnyResult,
    TaskError,
    TaskResultStatus,
    task_finished,
)
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.contrib.django_tasks.options import TaskOptions
from rmq_publisher.contrib.django_tasks.persistence import Persistence
from rmq_publisher.exceptions import TaskTimeout

logger = logging.getLogger("rmq_publisher.tasks")


class RunEnds:
    """Writes the outcomes of runs.

    Args:
        database: Django alias of the database that holds the rows.
        sender: of the signals: the backend's class.
        persistence: repeats writes while the database is down.
    """

    def __init__(self, database: str, sender: type[Any], persistence: Persistence) -> None:
        self._database = database
        self._sender = sender
        self._persistence = persistence

    def succeeded(self, id: str, claim: Claim, result: AnyResult, value: str) -> Claim | None:
        """Write the result of a run; return the claim, or None if it could not be written."""

        def write() -> tuple[datetime | None]:
            return (records.succeed(self._database, id, claim.attempt, value),)

        written = self._persistence.persist(write)
        if written is None:
            return None
        if (finished_at := written[0]) is None:
            self._outrun(id, result.task.module_path, claim.attempt)
            return claim
        results.change(
            result,
            status=TaskResultStatus.SUCCESSFUL,
            finished_at=finished_at,
            _return_value=results.loads(value),
        )
        task_finished.send_robust(sender=self._sender, task_result=result)
        return claim

    def failed(
        self,
        id: str,
        claim: Claim,
        options: TaskOptions,
        error: BaseException,
        result: AnyResult | None = None,
    ) -> Claim | None:
        """Write the failure of a run.

        Returns:
            A claim that says whether the task has to wait for another run; None if it could not be
            written.
        """
        stored = stored_error(error)
        countdown = error.countdown if isinstance(error, Retry) else None
        written = self._write_failure(id, claim.attempt, options, stored, countdown)
        if written is None:
            return None
        row = written[0]
        if row is None:
            path = result.task.module_path if result is not None else "?"
            self._outrun(id, path, claim.attempt)
            return claim
        if row.status == records.READY:
            seconds = _seconds(options, row.failures, countdown)
            logger.warning(
                "task %s (%s) failed in run %d (%s) and will run again in %g s",
                id, row.task_path, claim.attempt, type(error).__name__, seconds,
            )  # fmt: skip
            return Claim(Meaning.WAIT, seconds=seconds)
        if result is None:
            logger.error("task %s (%s) cannot be run: %s", id, row.task_path, type(error).__name__)
            return claim
        result.errors.append(
            TaskError(exception_class_path=stored.exception_class_path, traceback=stored.traceback)
        )
        results.change(result, status=TaskResultStatus.FAILED, finished_at=row.finished_at)
        task_finished.send_robust(sender=self._sender, task_result=result)
        return claim

    def _write_failure(
        self,
        id: str,
        attempt: int,
        options: TaskOptions,
        error: records.Error,
        countdown: float | None,
    ) -> tuple[TaskRecord | None] | None:
        def write() -> tuple[TaskRecord | None]:
            row = records.fail(
                self._database, id, attempt, error, options.max_attempts,
                lambda failures: _seconds(options, failures, countdown),
            )  # fmt: skip
            return (row,)

        return self._persistence.persist(write)

    def _outrun(self, id: str, path: str, attempt: int) -> None:
        logger.warning(
            "the outcome of run %d of task %s (%s) is not written: another run has begun, or it timed "
            "out",
            attempt, id, path,
        )  # fmt: skip

    def give_up(self, id: str, attempt: int, options: TaskOptions) -> None:
        """Record that a run took too long; its thread is about to end with its process.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        text = f"run {attempt} took longer than {options.timeout:g} s"
        place = f"{TaskTimeout.__module__}.{TaskTimeout.__qualname__}"
        records.fail(
            self._database,
            id,
            attempt,
            records.Error(place, f"{place}: {text}\n"),
            options.max_attempts,
            options.delay,
        )

    def release(self, id: str, attempt: int) -> None:
        """Make a task ready again whose process ends because of another task's timeout.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        records.release(self._database, id, attempt)


def _seconds(options: TaskOptions, failures: int, countdown: float | None) -> float:
    return options.delay(failures) if countdown is None else countdown


def stored_error(error: BaseException) -> records.Error:
    """Return an exception as it is stored, the way Django's own backends do."""
    kind = type(error)
    return records.Error(
        f"{kind.__module__}.{kind.__qualname__}", "".join(traceback.format_exception(error))
    )
