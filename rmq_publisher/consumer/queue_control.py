"""The queues of a `Consumer` and its connection: what is consumed from, and how."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from rmq_publisher.amqp.validation import Step
from rmq_publisher.consumer.receiver import Receiver
from rmq_publisher.consumer.subscriptions import (
    ConsumedQueue,
    Queue,
    QueueItem,
    check_prefetch,
    consumed_queue,
    queue_items,
    queue_name,
)
from rmq_publisher.consumer.unsettled import UnsettledCount
from rmq_publisher.messages.compose import alias_of
from rmq_publisher.serialization import accepted


class QueueControl:
    """The part of a `Consumer` that is about queues; its arguments are described there."""

    def __init__(
        self,
        queues: Iterable[QueueItem],
        using: str | None,
        accept: Iterable[str] | None,
        no_ack: bool,
        auto_declare: bool,
        prefetch_count: int,
        tag_prefix: str,
    ) -> None:
        self.using = using
        self.accept = accepted(accept)
        self.no_ack = no_ack
        self.auto_declare = auto_declare
        self.prefetch_count = prefetch_count
        self.tag_prefix = tag_prefix
        self._queues = {one.name: one for one in queue_items(queues)}
        self._lock = threading.RLock()
        self._receiver: Receiver | None = None
        self._unsettled = UnsettledCount()

    @property
    def queues(self) -> list[Queue]:
        """The queues that it knows, whether or not they are consumed from."""
        return [one.queue for one in self._queues.values()]

    # The connection

    @property
    def _open(self) -> Receiver:
        with self._lock:
            if self._receiver is None:
                alias = alias_of(self.using, *self.queues)
                self._receiver = Receiver(alias, self.accept, self._unsettled)
            return self._receiver

    def close(self) -> None:
        """Send what was settled, give the rest back, and close the connection.

        What is consumed afterwards opens another one.
        """
        with self._lock:
            receiver, self._receiver = self._receiver, None
            for one in self._queues.values():
                one.subscription = None
        if receiver is not None:
            receiver.close()

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        """Close the connection if this fails and it serves nothing else.

        Its thread would go on connecting for a caller who has given up.
        """
        try:
            yield
        except BaseException:
            if not self._active():
                self.close()
            raise

    # Queues

    def declare(self) -> Self:
        """Declare or verify its queues now.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        with self._closed_on_failure():
            for one in self._queues.values():
                steps = [step for entity in one.topology(declare=True) for step in entity.steps()]
                self._open.source.run(steps, self._open.timeout)
        return self

    def add_queue(self, queue: QueueItem) -> Self:
        """Know one more queue; `consume` begins to consume from it."""
        one = consumed_queue(queue)
        self.cancel_by_queue(one.name)
        self._queues[one.name] = one
        return self

    def consume(self, no_ack: bool | None = None) -> Self:
        """Begin to consume from all queues that are not consumed from.

        Args:
            no_ack: in the place of the consumer's own.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        with self._lock, self._closed_on_failure():
            for one in list(self._queues.values()):
                if one.subscription is None:
                    one.no_ack = self.no_ack if no_ack is None else no_ack
                    self._begin(one)
        return self

    def _begin(self, one: ConsumedQueue) -> None:
        subscription = one.begin(self.prefetch_count, self.tag_prefix, declare=self.auto_declare)
        self._open.begin(one, subscription)

    def cancel(self) -> Self:
        """Consume from no queue; what has been delivered may still be received and settled."""
        with self._lock:
            for one in self._active():
                self._open.end(one)
        return self

    def cancel_by_queue(self, queue: Queue) -> Self:
        """Consume from a queue no more, and forget it."""
        with self._lock:
            one = self._queues.pop(queue_name(queue), None)
            if one is not None and one.subscription is not None:
                self._open.end(one)
        return self

    def consuming_from(self, queue: Queue) -> bool:
        """Return whether a queue is consumed from, or will be as soon as the broker is there."""
        one = self._queues.get(queue_name(queue))
        return one is not None and one.subscription is not None

    def qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> Self:
        """Hold another number of unsettled messages at most.

        Queues that are consumed from are taken up anew: the broker applies a new count to new consumers
        only.

        Args:
            prefetch_size: 0; RabbitMQ knows no other.
            prefetch_count: of each queue; 0 is the default of 100.
            apply_global: the count is that of all queues together, kept by this consumer.

        Raises:
            ValueError: a count that AMQP cannot carry, or a ``prefetch_size``.
        """
        if prefetch_size:
            raise ValueError(
                "prefetch_size must be 0: RabbitMQ answers any other with 540, which ends the "
                "connection; bound the number of messages by prefetch_count"
            )
        self.prefetch_count = check_prefetch(prefetch_count)
        self._unsettled.lost()
        self._unsettled.most = self.prefetch_count if apply_global else None
        with self._lock:
            for one in self._active():
                self._open.end(one)
                self._begin(one)
        return self

    def _active(self) -> list[ConsumedQueue]:
        return [one for one in self._queues.values() if one.subscription is not None]

    def flow(self, active: bool) -> Self:
        """Receive nothing new (False), and go on (True): RabbitMQ leaves it to cancelling consumers."""
        return self.consume() if active else self.cancel()

    def purge(self) -> int:
        """Drop all messages that wait in its queues; return how many that were.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        steps = [
            Step("queue_purge", {"queue": one.name}, f"queue {one.name!r}")
            for one in self._queues.values()
        ]
        with self._closed_on_failure():
            replies = self._open.source.run(steps, self._open.timeout)
        return sum(reply.messages or 0 for reply in replies)

    def recover(self, requeue: bool = False) -> Self:
        """Give all unsettled messages back to their queues, to be delivered again to any consumer.

        Raises:
            ValueError: without ``requeue``.
        """
        if not requeue:
            raise ValueError(
                "recover(requeue=False) is not possible: RabbitMQ answers it with 540, which ends the "
                "connection; use requeue=True"
            )
        return self.revive()

    def revive(self) -> Self:
        """Give all unsettled messages back, and take the queues up on a new channel.

        A lost connection needs no call: the queues are taken up again by themselves.
        """
        if self._receiver is not None:
            self._receiver.renew()
        return self
