"""What operators do with tasks: retry, cancel and delete them, and send orphans again."""

from collections.abc import Iterator

from django.apps import apps
from django.db import transaction
from django.db.models import Q

from rmq_publisher.amqp.entities import QueueName
from rmq_publisher.contrib.django_tasks import records, workers
from rmq_publisher.contrib.django_tasks.configured import ConfiguredBackend
from rmq_publisher.contrib.django_tasks.message import NewTask
from rmq_publisher.contrib.django_tasks.models import TaskRecord
from rmq_publisher.contrib.django_tasks.options import BackendOptions, rabbitmq_alias
from rmq_publisher.contrib.django_tasks.topology import all_queues
from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.exceptions import Rejected
from rmq_publisher.publisher.scheduling import cancel as cancel_message
from rmq_publisher.transport.handler import connections

ORPHAN_SECONDS = 24 * 3600.0  # a younger task is never an orphan


def retry(backend: ConfiguredBackend, id: str) -> bool:
    """Run a failed task again, with the same id and as many attempts as a new one.

    Its errors and workers stay in its history.

    Returns:
        Whether there was such a task.

    Raises:
        ImproperlyConfigured: the settings are wrong.
        DatabaseError: Django's.
    """
    with transaction.atomic(using=backend.configured.database):
        row = records.locked(backend.configured.database, id)
        if row is None or row.status != records.FAILED:
            return False
        row.status, row.finished_at, row.run_after = records.READY, None, None
        row.failures = row.deaths = 0
        records.save(row, "run_after", "failures", "deaths")
        backend.send(_message(row), delivery="outbox")
    return True


def cancel(backend: ConfiguredBackend, id: str) -> bool:
    """Cancel a task that has not started; return whether there was one."""
    with transaction.atomic(using=backend.configured.database):
        return cancel_message(id, database=backend.configured.database)


def delete(backend: ConfiguredBackend, id: str) -> bool:
    """Delete a finished task; return whether there was one."""
    finished = records.rows(backend.configured.database).filter(
        id=id, status__in=(records.FAILED, records.SUCCESSFUL)
    )
    return finished._raw_delete(backend.configured.database) > 0


def orphans(backend: ConfiguredBackend, *, most: int = 1_000) -> Iterator[TaskRecord]:
    """Yield tasks that nothing will run any more, as far as can be known, the oldest first.

    They have been ready or running for more than a day, they have no stored message, their queue and its
    retry queues are empty, and no living worker runs them.

    Args:
        backend: whose tasks.
        most: the largest number of rows to check.

    Raises:
        BrokerUnavailable: it cannot be asked.
        DatabaseError: Django's.
    """
    options = backend.configured
    database = options.database
    old = DatabaseNow(-ORPHAN_SECONDS)
    candidates = records.rows(database).filter(
        Q(run_after__isnull=True) | Q(run_after__lt=old),
        Q(last_attempted_at__isnull=True) | Q(last_attempted_at__lt=old),
        Q(retry_at__isnull=True) | Q(retry_at__lt=old),
        status__in=(records.READY, records.RUNNING),
        enqueued_at__lt=old,
        backend=backend.alias,
    )
    empty: dict[str, bool] = {}
    for row in candidates.order_by("enqueued_at")[:most]:
        if _is_stored(database, row.id) or _is_being_run(database, row):
            continue
        if row.queue_name not in empty:
            empty[row.queue_name] = _is_empty(options, row.queue_name)
        if empty[row.queue_name]:
            yield row


def send_orphan(backend: ConfiguredBackend, id: str) -> bool:
    """Send the message of an orphan again, with the same id.

    Returns:
        Whether the task is still ready or running.
    """
    with transaction.atomic(using=backend.configured.database):
        row = records.locked(backend.configured.database, id)
        if row is None or row.status not in (records.READY, records.RUNNING):
            return False
        row.status, row.retry_at, row.run_after = records.READY, None, None
        records.save(row, "retry_at", "run_after")
        backend.send(_message(row), delivery="outbox")
    return True


def _message(row: TaskRecord) -> NewTask:
    return NewTask(
        id=row.id,
        backend=row.backend,
        task_path=row.task_path,
        queue_name=row.queue_name,
        priority=row.priority,
        run_after=row.run_after,
        args=row.args,
        kwargs=row.kwargs,
    )


def _is_stored(database: str, id: str) -> bool:
    messages = apps.get_model("rmq_publisher", "OutboxMessage")._default_manager.using(database)
    unsent = Q(state__in=("pending", "failed", "dead"))
    return bool(messages.filter(unsent, message_id=id).exists())


def _is_being_run(database: str, row: TaskRecord) -> bool:
    if row.status != records.RUNNING:
        return False
    return workers.is_alive(database, records.worker_ids(row)[-1])


def _is_empty(options: BackendOptions, queue_name: str) -> bool:
    """Return whether a queue and its retry queues are empty or do not exist."""
    transport = connections[rabbitmq_alias(options)]
    for queue in all_queues(options, queue_name):
        try:
            [declared] = transport.declare(
                (QueueName(queue.name),), transport.settings.publish_timeout
            )
        except Rejected:
            continue
        if declared.messages:
            return False
    return True
