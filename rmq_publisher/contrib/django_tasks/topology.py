"""The broker's queues of tasks, and the priorities of their messages."""

import re

from rmq_publisher.amqp.entities import QueueConfig
from rmq_publisher.consumer.retry_levels import RetryLevels
from rmq_publisher.contrib.django_tasks.message import PUT_BACK_SECONDS
from rmq_publisher.contrib.django_tasks.options import BackendOptions

# The broker may count every delivery to a worker that dies, or stops before it handles the message, and
# drops messages above the limit. It is far above `options.MOST_DEATHS`, so that the rows decide how many
# workers a task may kill.
DELIVERY_LIMIT = 10_000

RUNS_WITH_LEVELS = 64  # enough doublings to reach the longest delay

LOWEST, HIGHEST = -100, 100  # priorities of Django's tasks
LEVELS = 31  # of a quorum queue from 4.3 on, from 0
LOW, HIGH = 4, 5  # of a quorum queue from 4.0 to 4.2, where priorities above 4 are high


def broker_queue(options: BackendOptions, queue_name: str) -> QueueConfig:
    """Return the broker's queue of a queue of tasks.

    Raises:
        TopologyError: its name is longer than AMQP allows.
    """
    is_quorum = options.queue_type == "quorum"
    return QueueConfig(
        f"{options.prefix}{queue_name}",
        queue_type=options.queue_type,
        delivery_limit=DELIVERY_LIMIT if is_quorum else None,
        max_priority=options.max_priority,
        using=options.using,
    )


def retry_levels(options: BackendOptions, queue: QueueConfig) -> RetryLevels:
    """Return the retry queues of a task queue.

    If a decorator sets another backoff, its task waits in the next longer level, or several times in the
    longest one.
    """
    backoffs = {options.defaults.backoff}
    backoffs |= {own["backoff"] for own in options.tasks.values() if "backoff" in own}
    delays = {int(PUT_BACK_SECONDS * 1000)}
    for backoff in backoffs:
        delays.update(RetryLevels.of(queue.name, RUNS_WITH_LEVELS, backoff).delays)
    ordered = tuple(sorted(delays))
    return RetryLevels(queue.name, ordered, ordered[0], ordered[-1])


def all_queues(options: BackendOptions, queue_name: str) -> tuple[QueueConfig, ...]:
    """Return a task queue's queue at the broker, and its retry queues.

    A Celery worker has tasks wait in the table, and needs no levels.

    Raises:
        TopologyError: a name is longer than AMQP allows.
    """
    queue = broker_queue(options, queue_name)
    if options.format == "celery":
        return (queue,)
    return (queue, *retry_levels(options, queue).configs(options.using))


def message_priority(priority: int, options: BackendOptions, product: str) -> int | None:
    """Return the AMQP priority of a task's message.

    Args:
        priority: of the task, from -100 to 100.
        options: of its backend.
        product: the broker's name and version; if it is unknown (empty), a new version is assumed.
    """
    if options.queue_type == "classic":
        most = options.max_priority
        return None if most is None else _scaled(priority, most)
    version = broker_version(product)
    if version is not None and (4, 0) <= version < (4, 3):
        return HIGH if priority > 0 else LOW
    return _scaled(priority, LEVELS)


def _scaled(priority: int, most: int) -> int:
    return round((priority - LOWEST) * most / (HIGHEST - LOWEST))


def broker_version(product: str) -> tuple[int, int] | None:
    """Return the major and minor version of ``"RabbitMQ 4.3.6"``; None for anything else."""
    found = re.fullmatch(r"RabbitMQ (\d+)\.(\d+)\b.*", product)
    return (int(found[1]), int(found[2])) if found else None
