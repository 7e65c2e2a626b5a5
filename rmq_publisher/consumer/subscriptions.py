"""The queues of a consumer, and their subscriptions."""

import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from rmq_publisher.amqp.entities import QueueConfig, QueueName, Topology
from rmq_publisher.amqp.validation import check_name, plain_arguments
from rmq_publisher.transport.consuming import Subscription

Queue: TypeAlias = str | QueueConfig
QueueItem: TypeAlias = Queue | tuple[Queue, Mapping[str, Any]]

PREFETCH = 100  # without a limit, one consumer would hold a whole queue
PREFETCH_MAX = 65_535  # AMQP 0-9-1, 1.8.3.1: 16 bits
_numbers = itertools.count(1)


class ConsumedQueue:
    """A queue of a consumer.

    Attributes:
        queue: as it was given.
        arguments: of the consumer: ``x-priority``, ``x-stream-offset``.
        subscription: the current one; None while it is not consumed from.
        no_ack: whether its messages are acknowledged when they are received.
    """

    def __init__(self, item: QueueItem) -> None:
        queue, arguments = item if isinstance(item, tuple) else (item, {})
        if not isinstance(queue, QueueConfig):
            queue = check_name("queue (unless it is a QueueConfig)", queue)
        self.queue = queue
        self.name = queue.name if isinstance(queue, QueueConfig) else queue
        self.arguments = plain_arguments(f"consumer arguments of queue {self.name!r}", arguments)
        self.subscription: Subscription | None = None
        self.no_ack = False

    def topology(self, *, declare: bool) -> Topology:
        """Return what to declare or verify first: consuming from a missing queue closes the channel."""
        if declare and isinstance(self.queue, QueueConfig):
            return (self.queue,)
        return (QueueName(self.name),)

    def begin(self, prefetch: int, tag_prefix: str, *, declare: bool) -> Subscription:
        """Return a subscription with a new tag."""
        tag = f"{tag_prefix}{os.getpid()}.{next(_numbers)}"
        topology = self.topology(declare=declare)
        return Subscription(self.name, tag, prefetch, topology, self.arguments)


def queue_items(queues: object) -> list[ConsumedQueue]:
    """Return the queues that a consumer was given: one, or a list of them.

    Raises:
        TypeError: they are neither names nor configs.
        TopologyError: a name or an argument that AMQP cannot carry.
    """
    if isinstance(queues, str | QueueConfig):
        queues = [queues]
    if not isinstance(queues, Iterable):
        raise TypeError(f"queues must be a list of queues, not {type(queues).__name__}")
    return [consumed_queue(item) for item in queues]


def consumed_queue(item: Any) -> ConsumedQueue:
    """Return one queue of a consumer; raises as `queue_items`."""
    pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping)
    if not isinstance(item, str | QueueConfig) and not pair:
        raise TypeError(
            "a queue must be a name, a QueueConfig, or one of them with the consumer's arguments, "
            f'such as ("events", {{"x-stream-offset": "first"}}); not {type(item).__name__}'
        )
    return ConsumedQueue(item)


def queue_name(queue: Queue) -> str:
    """Return the name of a queue."""
    return queue.name if isinstance(queue, QueueConfig) else queue


def check_prefetch(count: object) -> int:
    """Return a prefetch count; None and 0 mean the default.

    Raises:
        ValueError: it is not a count, or larger than AMQP allows.
    """
    if count is None or (count == 0 and not isinstance(count, bool)):
        return PREFETCH
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= PREFETCH_MAX:
        raise ValueError(f"prefetch_count must be an int from 1 to {PREFETCH_MAX}, not {count!r}")
    return count
