"""One consumer's open connection: the queues consumed from on it, and its messages."""

import logging
from collections.abc import Callable, Collection

from rmq_publisher import signals
from rmq_publisher.conf import loader
from rmq_publisher.consumer.message import ReceivedMessage
from rmq_publisher.consumer.origin import Origin
from rmq_publisher.consumer.subscriptions import ConsumedQueue
from rmq_publisher.consumer.unsettled import UnsettledCount
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.consuming import (
    ACK,
    Cancelled,
    Delivered,
    Subscription,
)
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.consumer")


class Receiver:
    """A connection of a consumer; after a `close`, the next connection has another object.

    A message of an earlier connection can therefore never settle a message of this one.

    Args:
        alias: of the RabbitMQ connection.
        accept: content types that are decoded.
        unsettled: the consumer's count of unsettled messages.

    Attributes:
        timeout: seconds for one answer, including a first connection.
    """

    def __init__(
        self, alias: str, accept: Collection[str] | None, unsettled: UnsettledCount
    ) -> None:
        settings = loader.connection(alias)
        self.timeout = settings.publish_timeout + settings.connect_timeout * len(settings.nodes)
        self._alias = alias
        self._settings = settings
        self._unsettled = unsettled
        self._by_tag: dict[
            str, ConsumedQueue
        ] = {}  # also of those cancelled: more may be buffered
        self.source = source = connections[alias].open_source()
        self._origin = Origin(self._settle, source.is_current, accept, settings.max_body_size)

    def begin(self, one: ConsumedQueue, subscription: Subscription) -> None:
        """Consume from a queue.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked.
        """
        self._by_tag[subscription.tag] = one  # before the first delivery
        self.source.subscribe(subscription, self.timeout)
        one.subscription = subscription

    def end(self, one: ConsumedQueue) -> None:
        """Stop consuming from a queue."""
        subscription, one.subscription = one.subscription, None
        if subscription is not None:
            self.source.cancel(subscription.tag, self.timeout)

    def take(self, timeout: float | None, over: Callable[[], bool]) -> ReceivedMessage | None:
        """Return the next message; None after ``timeout`` seconds, or once ``over()`` is true.

        Raises:
            BrokerUnavailable: nothing can come any more.
        """
        source, left = self.source, timeout
        deadline = None if timeout is None else monotonic() + timeout
        while self._unsettled.wait_for_room(left, over) and not over():
            item = source.take(left, over)
            if item is None:
                return None
            if isinstance(item, Cancelled):
                self._tell(item)
            elif source.is_current(item):  # otherwise it is redelivered
                return self._received(item)
            left = None if deadline is None else max(0.0, deadline - monotonic())
        return None

    def _received(self, delivered: Delivered) -> ReceivedMessage:
        one = self._by_tag[delivered.consumer_tag]
        message = ReceivedMessage(delivered, self._origin, one.name, one.no_ack)
        if one.subscription is not None and one.subscription.is_stream:
            one.subscription.passed(message.stream_offset())
        if one.no_ack:
            self.source.settle(delivered, ACK)
        else:
            self._unsettled.add(delivered)
        return message

    def _settle(self, delivered: Delivered, verdict: int) -> bool:
        done = self.source.settle(delivered, verdict)
        self._unsettled.settled(delivered, verdict)
        return done

    def _tell(self, event: Cancelled) -> None:
        """Send the signal of a consumer that the broker cancelled; consuming resumes automatically."""
        one = self._by_tag.get(event.consumer_tag)
        if one is not None:
            signals.consumer_cancelled.send_robust(
                sender=None, using=self._alias, queue=one.name, reason=event.reason
            )

    def renew(self) -> None:
        """Return all unsettled messages to their queues, and consume on another channel."""
        self.source.renew(self.timeout)
        self._unsettled.lost()

    def wake(self) -> None:
        """Have all threads in `take` call ``over()`` again."""
        self._unsettled.wake()
        self.source.wake()

    def close(self) -> None:
        """Send what was settled, give the rest back, and close."""
        self.source.close(self._settings.publish_timeout)
        self._unsettled.lost()
