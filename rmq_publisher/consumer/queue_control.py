"""The queues of a `Consumer`, and its connection."""

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
    """The part of a `Consumer` that manages queues; `Consumer` describes the arguments."""

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
        """Its queues, whether or not it consumes from them."""
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
        """Send the acks, return unsettled messages to the queues, and close the connection.

        `consume` opens another one.
        """
        with self._lock:
            receiver, self._receiver = self._receiver, None
            for one in self._queues.values():
                one.subscription = None
        if receiver is not None:
            receiver.close()

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        """Close the connection if this fails and nothing else uses it.

        Otherwise its thread would keep trying to connect.
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
        """Add a queue; `consume` starts consuming from it."""
        one = consumed_queue(queue)
        self.cancel_by_queue(one.name)
        self._queues[one.name] = one
        return self

    def consume(self, no_ack: bool | None = None) -> Self:
        """Start consuming from all queues that it does not consume from yet.

        Args:
            no_ack: overrides the consumer's own.

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
        """Stop consuming; messages that were delivered may still be received and settled."""
        with self._lock:
            for one in self._active():
                self._open.end(one)
        return self

    def cancel_by_queue(self, queue: Queue) -> Self:
        """Stop consuming from a queue, and remove it."""
        with self._lock:
            one = self._queues.pop(queue_name(queue), None)
            if one is not None and one.subscription is not None:
                self._open.end(one)
        return self

    def consuming_from(self, queue: Queue) -> bool:
        """Return whether it consumes from a queue, or will when the broker is available."""
        one = self._queues.get(queue_name(queue))
        return one is not None and one.subscription is not None

    def qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False
    ) -> Self:
        """Change the largest number of unsettled messages.

        Consuming is stopped and started again, because the broker applies a new count only to new
        consumers.

        Args:
            prefetch_size: 0; RabbitMQ supports nothing else.
            prefetch_count: for each queue; 0 is the default of 100.
            apply_global: apply the count to all queues together; this consumer does the counting.

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
        """Stop (False) or resume (True) receiving by cancelling, as RabbitMQ lacks channel.flow."""
        return self.consume() if active else self.cancel()

    def purge(self) -> int:
        """Delete all waiting messages from its queues; return their number.

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
        """Return all unsettled messages to their queues, for redelivery to any consumer.

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
        """Return all unsettled messages to their queues, and consume on a new channel.

        After a lost connection this is not needed: consuming resumes automatically.
        """
        if self._receiver is not None:
            self._receiver.renew()
        return self
