"""The consumer that the threads of a lane share."""

import logging
import re
from collections.abc import Callable
from contextlib import suppress

from rmq_publisher.consumer.consumer import Consumer
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.exceptions import BrokerUnavailable, PublishError

logger = logging.getLogger("rmq_publisher.consumer")

# From this version on, quorum queues count an orderly close as a failed delivery, but not basic.nack.
NACK_IS_FREE = (4, 3)


def _never() -> bool:
    return False


class WorkerQueue(Consumer):
    """A `Consumer` for several threads, which can pause without closing its connection."""

    def take(self, timeout: float | None, over: Callable[[], bool]) -> ReceivedMessage | None:
        """Return the next message; None after ``timeout`` seconds, or once ``over()`` is true.

        Whatever makes ``over()`` true calls `wake` afterwards.

        Raises:
            BrokerUnavailable: nothing can come any more.
        """
        return self._take(timeout, over)

    def wake(self) -> None:
        """Have the threads in `take` call ``over()`` again."""
        receiver = self._receiver
        if receiver is not None:
            receiver.wake()

    @property
    def is_connected(self) -> bool:
        """Whether messages can come."""
        receiver = self._receiver
        return receiver is not None and receiver.source.broker is not None

    def give_back(self) -> int:
        """Stop receiving, and return messages that no thread has taken; return their number."""
        with suppress(PublishError):  # without a connection the broker has requeued all of them
            self.cancel()
        count = 0
        receiver = self._receiver
        while receiver is not None and (message := receiver.take(0, _never)) is not None:
            count += self.put_back(message)
        return count

    def put_back(self, message: ReceivedMessage) -> bool:
        """Return a message to the queue, uncounted; False if the broker has requeued it already."""
        try:
            message.give_back()
        except MessageStateError:
            return False
        return True

    def end(self, *, keeps: bool = False) -> None:
        """Send the acks, return unsettled messages (unless the queue is a stream), and close."""
        receiver = self._receiver
        if receiver is not None and not keeps and _version(receiver.source.broker) >= NACK_IS_FREE:
            with suppress(BrokerUnavailable):
                self.give_back()
        self.close()


def _version(broker: str | None) -> tuple[int, ...]:
    """Return the version of a RabbitMQ broker, empty for any other product."""
    found = re.match(r"RabbitMQ (\d+)\.(\d+)", broker or "")
    return tuple(map(int, found.groups())) if found else ()
