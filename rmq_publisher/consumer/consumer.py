"""`Consumer`: receives messages of queues on a connection of its own, by kombu's names."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from rmq_publisher.amqp.validation import Step
from rmq_publisher.consumer.message import ReceivedMessage
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
from rmq_publisher.serialization import DecodeError, accepted

logger = logging.getLogger("rmq_publisher.consumer")

Callback = Callable[[Any, ReceivedMessage], object]  # body, message
OnMessage = Callable[[ReceivedMessage], object]
OnDecodeError = Callable[[ReceivedMessage, DecodeError], object]


def _never() -> bool:
    return False


class Consumer:
    """Receives messages; constructing connects to nothing.

    Args:
        queues: names (verified) and `QueueConfig` objects (declared); a pair of one of them and a
            mapping gives the consumer's arguments, such as ``x-stream-offset`` and ``x-priority``.
        using: RabbitMQ alias; may be left out when there is one.
        callbacks: each is called with the decoded body and the message.
        on_message: called with the message instead; nothing is decoded for it.
        on_decode_error: called with a message that is not accepted or cannot be read, and the error;
            without it such a message is rejected.
        accept: serializers or content types that are decoded, such as ``["json"]``; None decodes what
            registered serializers read and gives the rest as bytes.
        no_ack: acknowledge messages as they are taken.
        auto_declare: False verifies a `QueueConfig` instead of declaring it.
        prefetch_count: unsettled messages of each queue that are held at most; 100 when left out.
        tag_prefix: of the consumer tags, by which operators recognise them.

    Raises:
        TypeError, ValueError, LookupError: bad arguments.
    """

    def __init__(
        self,
        queues: Iterable[QueueItem] = (),
        *,
        using: str | None = None,
        callbacks: Iterable[Callback] = (),
        on_message: OnMessage | None = None,
        on_decode_error: OnDecodeError | None = None,
        accept: Iterable[str] | None = None,
        no_ack: bool = False,
        auto_declare: bool = True,
        prefetch_count: int | None = None,
        tag_prefix: str = "",
    ) -> None:
        self.using = using
        self.callbacks = list(callbacks)
        self.on_message = on_message
        self.on_decode_error = on_decode_error
        self.accept = accepted(accept)
        self.no_ack = no_ack
        self.auto_declare = auto_declare
        self.prefetch_count = check_prefetch(prefetch_count)
        self.tag_prefix = tag_prefix
        self._queues = {one.name: one for one in queue_items(queues)}
        self._lock = threading.RLock()
        self._receiver: Receiver | None = None
        self._unsettled = UnsettledCount()
        self._stopping = False

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

    def __enter__(self) -> Self:
        return self.consume()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Queues

    def declare(self) -> Self:
        """Declare or verify its queues now.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
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
        with self._lock:
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

    # Receiving

    def register_callback(self, callback: Callback) -> Self:
        """Have one more function called with the decoded body and the message."""
        self.callbacks.append(callback)
        return self

    def receive(self, body: Any, message: ReceivedMessage) -> None:
        """Call the callbacks, in order.

        Raises:
            NotImplementedError: there are none.
        """
        if not self.callbacks:
            raise NotImplementedError(
                "this Consumer has neither callbacks nor on_message: register_callback(), or iterate"
            )
        for callback in self.callbacks:
            callback(body, message)

    def drain_events(self, timeout: float | None = None) -> None:
        """Run the callbacks, in this thread, for what has come; wait for the first message.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: nothing came.
            BrokerUnavailable: it was closed.
        """
        message = self._take(timeout, _never)
        if message is None:
            raise TimeoutError(f"no message came within {timeout:g} s")
        for _ in range(self.prefetch_count):
            self._dispatch(message)
            message = self._take(0, _never)
            if message is None:
                break
        else:
            self._dispatch(message)

    def run(self, limit: int | None = None, timeout: float | None = None) -> None:
        """Run the callbacks until ``limit`` messages came, none for ``timeout`` seconds, or `stop`."""
        self.consume()
        count = 0
        while limit is None or count < limit:
            message = self._take(timeout, self._is_stopping)
            if message is None:
                break
            count += 1
            self._dispatch(message)
        self._stopping = False

    def __iter__(self) -> Iterator[ReceivedMessage]:
        """Yield messages, to be settled by the caller, until `stop`."""
        self.consume()
        while (message := self._take(None, self._is_stopping)) is not None:
            yield message
        self._stopping = False

    def stop(self) -> None:
        """End `run` or the iteration, of any thread; safe in a signal's handler."""
        self._stopping = True
        receiver = self._receiver
        if receiver is not None:
            receiver.wake()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _take(self, timeout: float | None, over: Callable[[], bool]) -> ReceivedMessage | None:
        """Return the next message; None after so many seconds, or once it is over."""
        return self._open.take(timeout, over)

    def _dispatch(self, message: ReceivedMessage) -> None:
        if self.on_message is not None:
            self.on_message(message)
            return
        try:
            body = message.decode()
        except DecodeError as error:
            self._undecoded(message, error)
            return
        self.receive(body, message)

    def _undecoded(self, message: ReceivedMessage, error: DecodeError) -> None:
        if self.on_decode_error is not None:
            self.on_decode_error(message, error)
            return
        logger.error("%s of queue %r is rejected: %s", message, message.queue, error)
        if not message.no_ack:
            message.reject()
