"""The consumer of a worker's threads: they take from it together, and it gives back what they hold."""

import logging
import re
from collections.abc import Callable
from contextlib import suppress

from rmq_publisher.consumer.consumer import Consumer
from rmq_publisher.consumer.message import MessageStateError, ReceivedMessage
from rmq_publisher.exceptions import BrokerUnavailable, PublishError

logger = logging.getLogger("rmq_publisher.consumer")

# From this version on an orderly close counts as a failed delivery on quorum queues, basic.nack does not.
NACK_IS_FREE = (4, 3)


def _never() -> bool:
    return False


class WorkerQueue(Consumer):
    """A `Consumer` for several threads, which stops receiving and gives back without a new connection."""

    def take(self, timeout: float | None, over: Callable[[], bool]) -> ReceivedMessage | None:
        """Return the next message; None after so many seconds, or once ``over()`` is true.

        Whatever makes ``over()`` true calls `wake` afterwards.

        Raises:
            BrokerUnavailable: nothing can come any more.
        """
        return self._take(timeout, over)

    def wake(self) -> None:
        """Have the threads in `take` look at their ``over()`` again."""
        receiver = self._receiver
        if receiver is not None:
            receiver.wake()

    @property
    def is_connected(self) -> bool:
        """Whether messages can come."""
        receiver = self._receiver
        return receiver is not None and receiver.source.broker is not None

    def give_back(self) -> int:
        """Receive nothing new, and give back what no thread has taken; return how many that were."""
        with suppress(PublishError):  # without a connection the broker has taken all back
            self.cancel()
        count = 0
        receiver = self._receiver
        while receiver is not None and (message := receiver.take(0, _never)) is not None:
            count += self.put_back(message)
        return count

    def put_back(self, message: ReceivedMessage) -> bool:
        """Give a message back, not as a failure; return False where the broker has it back already."""
        try:
            message.give_back()
        except MessageStateError:
            return False
        return True

    def end(self, *, keeps: bool = False) -> None:
        """Send what was settled, give the rest back (unless its queue keeps it), and close."""
        receiver = self._receiver
        if receiver is not None and not keeps and _version(receiver.source.broker) >= NACK_IS_FREE:
            with suppress(BrokerUnavailable):
                self.give_back()
        self.close()


def _version(broker: str | None) -> tuple[int, ...]:
    """Return the version of a broker; empty for one that is none of RabbitMQ's."""
    found = re.match(r"RabbitMQ (\d+)\.(\d+)", broker or "")
    return tuple(map(int, found.groups())) if found else ()
