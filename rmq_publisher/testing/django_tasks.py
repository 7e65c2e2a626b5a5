"""Tasks of Django's framework in the tests of projects: run in the test's own thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db.models import Q

from rmq_publisher.contrib.django_tasks import records, results
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend, backends
from rmq_publisher.contrib.django_tasks.execution import Executor
from rmq_publisher.contrib.django_tasks.framework import AnyResult, task_enqueued
from rmq_publisher.contrib.django_tasks.message import TaskMessage
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.contrib.django_tasks.persistence import Persistence
from rmq_publisher.db.clock import DatabaseNow

WORKER_ID = "test"
MOST = 1_000  # runs in one call, because a task that enqueues itself would never end

T = TypeVar("T")


class _AtOnce(Persistence):
    """Raises the database's errors at once."""

    def persist(self, write: Any) -> Any:
        return write()


def run_tasks(backend: str = "default", *, deferred: bool = False) -> list[AnyResult]:
    """Run the ready tasks in this thread, as a worker would; their messages are ignored.

    It sees what the test's own transaction holds. Tasks that a task enqueues are run too, and failed
    ones again until their attempts are used up, without waiting for their next attempt.

    Args:
        backend: alias in ``TASKS``.
        deferred: also those whose ``run_after`` has not come.

    Returns:
        The results of the tasks that were run, in the order of their last run.

    Raises:
        LookupError: ``TASKS`` has no such backend of this package.
        RuntimeError: there is no end of tasks.
    """
    known = {one.alias: one for one in backends()}
    if backend not in known:
        listed = ", ".join(map(repr, known)) or "none"
        raise LookupError(f"TASKS has no RabbitMQBackend {backend!r}; there are: {listed}")
    one = known[backend]
    ran: dict[str, None] = {}
    for _ in range(MOST):
        row = _next(one, deferred=deferred)
        if row is None:
            return [one.get_result(result_id) for result_id in ran]
        ran.pop(row.id, None)
        ran[row.id] = None
        _run(one, row)
    raise RuntimeError(f"more than {MOST} runs: a task enqueues itself, or is tried too often")


@contextmanager
def tasks_run_immediately() -> Iterator[None]:
    """Run each task within the call that enqueues it, including further attempts.

    The result that ``enqueue()`` returns has finished then, as with Django's ImmediateBackend; a task
    with a ``run_after`` to come waits for `run_tasks`.
    """

    def run(task_result: AnyResult, **_: Any) -> None:
        backend = task_result.task.get_backend()
        if not isinstance(backend, ConfiguredBackend):
            return
        database = backend.configured.database
        while (row := _ready(backend).filter(id=task_result.id).first()) is not None:
            _run(backend, row)
        row = records.get(database, task_result.id, backend.alias)
        if row is not None:
            results.take_over(task_result, results.result_of(row))

    task_enqueued.connect(run, dispatch_uid="rmq_publisher.testing")
    try:
        yield
    finally:
        task_enqueued.disconnect(dispatch_uid="rmq_publisher.testing")


def _ready(backend: ConfiguredBackend, *, deferred: bool = False) -> Any:
    rows = records.rows(backend.configured.database)
    due = Q() if deferred else Q(run_after__isnull=True) | Q(run_after__lte=DatabaseNow())
    return rows.filter(due, status=records.READY, backend=backend.alias)


def _next(backend: ConfiguredBackend, *, deferred: bool) -> TaskRecord | None:
    found: TaskRecord | None = _ready(backend, deferred=deferred).order_by("enqueued_at").first()
    return found


def _run(backend: ConfiguredBackend, row: TaskRecord) -> None:
    options = backend.configured
    records.rows(options.database).filter(id=row.id).update(retry_at=None)
    executor = Executor(options, type(backend), WORKER_ID, _AtOnce(options.database))
    executor.execute(
        TaskMessage(
            id=row.id,
            task=row.task_path,
            args=results.loads(row.args),
            kwargs=results.loads(row.kwargs),
            backend=row.backend,
            queue=row.queue_name,
            priority=row.priority,
            run_after=row.run_after,
        ),
        redelivered=False,
    )
