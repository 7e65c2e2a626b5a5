"""A message that was taken from the memory broker."""

from collections.abc import Callable

from rmq_publisher.amqp.decoding import BrokerMessage
from rmq_publisher.transport.memory.message_flow import Verdict, delivered_header
from rmq_publisher.transport.memory.queue import Entry, MemoryQueue


class Received(BrokerMessage):
    """A message that a consumer took, to be acknowledged or rejected.

    Attributes:
        queue: where it was.
        redelivered: whether a consumer had it before, in this queue or in the one where it was rejected.
    """

    def __init__(
        self, queue: MemoryQueue, entry: Entry, settle: Callable[[Verdict], object]
    ) -> None:
        message = entry.message
        header = delivered_header(queue, entry)
        super().__init__(message.exchange, message.keys[0], header, message.body)
        self.queue = queue.name
        self.redelivered = entry.attempts > 0
        self._settle = settle

    def ack(self) -> None:
        """Acknowledge it: it is gone.

        Raises:
            Rejected: 406, it was acknowledged or rejected before.
        """
        self._settle("ack")

    def reject(self, *, requeue: bool = False) -> None:
        """Reject it: to the dead letters where the queue has them, or back to its place.

        Raises:
            Rejected: 406, it was acknowledged or rejected before.
        """
        self._settle("requeue" if requeue else "reject")
