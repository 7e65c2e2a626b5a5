"""One run of a task: from its claim to its outcome in the row."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rmq_publisher.contrib.django_tasks import claims, results
from rmq_publisher.contrib.django_tasks.claims import Claim, Claimant, Meaning
from rmq_publisher.contrib.django_tasks.framework import (
    AnyResult,
    AnyTask,
    TaskContext,
    TaskError,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from rmq_publisher.contrib.django_tasks.message import TaskMessage, dumps
from rmq_publisher.contrib.django_tasks.options import BackendOptions, TaskOptions
from rmq_publisher.contrib.django_tasks.persistence import Persistence
from rmq_publisher.contrib.django_tasks.run_ends import RunEnds
from rmq_publisher.contrib.django_tasks.task import own_options
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher.tasks")


@dataclass(eq=False)
class Run:
    """A run that has begun.

    Attributes:
        since: when, by `timing.monotonic`.
        over: whether its timeout was noticed.
    """

    id: str
    path: str
    attempt: int
    options: TaskOptions
    result: AnyResult
    since: float
    over: bool = False

    @property
    def is_too_long(self) -> bool:
        """Whether it has been running for longer than its timeout."""
        timeout = self.options.timeout
        return timeout is not None and monotonic() - self.since > timeout


class Executor:
    """Runs the tasks of a backend, for all threads of a process.

    Args:
        options: of the backend.
        sender: of the signals: the backend's class.
        worker_id: of this process.
        persistence: repeats writes while the database is down.
    """

    def __init__(
        self,
        options: BackendOptions,
        sender: type[Any],
        worker_id: str,
        persistence: Persistence,
    ) -> None:
        self._backend_options = options
        self._sender = sender
        self.worker_id = worker_id
        self._may_judge = True
        self._persistence = persistence
        self._ends = RunEnds(options.database, sender, persistence)
        self._handling: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._runs: dict[int, Run] = {}  # by thread

    def judge(self, may_judge: bool) -> None:
        """Set whether the heartbeats of other workers can be relied on."""
        self._may_judge = may_judge

    def give_up(self, run: Run) -> None:
        """Record that a run took too long, and make the other tasks of this process ready again.

        All threads are about to end with the process.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        self._ends.give_up(run.id, run.attempt, run.options)
        self.release_all()

    def release_all(self) -> None:
        """Make all running tasks ready again, because the process is about to end.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        for run in self.runs:
            self._ends.release(run.id, run.attempt)

    @property
    def runs(self) -> list[Run]:
        """The current runs."""
        return list(self._runs.values())

    def execute(self, message: TaskMessage, *, redelivered: bool) -> Claim | None:
        """Run a task, unless its row shows that it must not run.

        Returns:
            What to do with the delivery. For `Meaning.WAIT`, publish a delayed copy and acknowledge it;
            for anything else, acknowledge it. None if the worker is stopping and the row could not be
            written: leave it unsettled.
        """
        with self._handled(message.id) as is_busy:
            task = self._find(message.task)
            options = self._options(message.task, task)
            who = Claimant(
                self._backend_options.database, self.worker_id, is_busy, self._may_judge
            )
            claim = self._persistence.persist(
                lambda: claims.claim(
                    who, message.id, redelivered=redelivered, max_deaths=options.max_deaths
                )
            )
            if claim is None:
                return None
            if claim.meaning is not Meaning.RUN:
                self._log(message, claim, task)
                return claim
            if isinstance(task, BaseException):
                return self._ends.failed(message.id, claim, options, task)
            return self._run(message, claim, task, options)

    @contextmanager
    def _handled(self, id: str) -> Iterator[bool]:
        with self._lock:
            self._handling[id] += 1
            is_busy = self._handling[id] > 1
        try:
            yield is_busy
        finally:
            with self._lock:
                self._handling[id] -= 1
                if not self._handling[id]:
                    del self._handling[id]

    def _find(self, path: str) -> AnyTask | BaseException:
        try:
            return results.find_task(path)
        except Exception as error:  # noqa: BLE001 (a module of the project may raise anything)
            return error

    def _options(self, path: str, task: AnyTask | BaseException) -> TaskOptions:
        if isinstance(task, BaseException):
            return self._backend_options.of(path, {})
        return self._backend_options.of(path, own_options(task))

    def _log(self, message: TaskMessage, claim: Claim, task: AnyTask | BaseException) -> None:
        names = message.id, message.task
        if claim.meaning is Meaning.GONE:
            logger.warning(
                "task %s (%s) is not run: it has no row, so it was deleted",
                *names,
            )
        elif claim.meaning is Meaning.LOST:
            logger.error("task %s (%s) failed: its workers died while running it", *names)
            if claim.row is not None and not isinstance(task, BaseException):
                result = results.result_of(claim.row)
                task_finished.send_robust(sender=self._sender, task_result=result)
        else:
            logger.info("task %s (%s) is not run: %s", *names, claim.meaning.name.lower())

    # The run

    def _run(
        self, message: TaskMessage, claim: Claim, task: AnyTask, options: TaskOptions
    ) -> Claim | None:
        __traceback_hide__ = True  # the arguments
        try:
            result = self._result(message, claim, task)
        except Exception as error:  # noqa: BLE001 (its queue or priority may have become invalid)
            return self._ends.failed(message.id, claim, options, error)
        run = Run(message.id, message.task, claim.attempt, options, result, monotonic())
        task_started.send_robust(sender=self._sender, task_result=result)
        thread = threading.get_ident()
        self._runs[thread] = run
        try:
            value = dumps(normalize_json(_call(result)))
        except BaseException as error:  # (SystemExit too ends the task, not the worker)
            self._runs.pop(thread, None)
            if _is_interrupt(error):
                raise
            return self._ends.failed(message.id, claim, options, error, result)
        finally:
            self._runs.pop(thread, None)
        return self._ends.succeeded(message.id, claim, result, value)

    def _result(self, message: TaskMessage, claim: Claim, task: AnyTask) -> AnyResult:
        __traceback_hide__ = True  # the arguments
        return results.new_result(
            task.using(
                priority=message.priority,
                queue_name=message.queue,
                run_after=message.run_after,
                backend=message.backend,
            ),
            message.id,
            message.args,
            message.kwargs,
            status=TaskResultStatus.RUNNING,
            enqueued_at=claim.enqueued_at,
            started_at=claim.started_at,
            last_attempted_at=claim.last_attempted_at,
            worker_ids=list(claim.worker_ids),
            errors=[TaskError(**error) for error in claim.errors],
        )


def _call(result: AnyResult) -> Any:
    __traceback_hide__ = True  # the arguments
    task = result.task
    if task.takes_context:
        return task.call(TaskContext(task_result=result), *result.args, **result.kwargs)
    return task.call(*result.args, **result.kwargs)


def _is_interrupt(error: BaseException) -> bool:
    """Whether this is Ctrl-C, which Python raises in the main thread only."""
    in_main = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and in_main
