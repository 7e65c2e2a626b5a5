"""A consumer's own count of unsettled messages over all of its queues."""

import threading
from collections.abc import Callable

from rmq_publisher.transport.consuming import ACK_MULTIPLE, Delivered


class UnsettledCount:
    """Counts if there is a limit; RabbitMQ 4.3 does not support AMQP's own global count.

    Attributes:
        most: the limit; None for none.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self._messages: set[tuple[int, int]] = set()  # session and tag
        self._room = threading.Condition()

    def add(self, delivered: Delivered) -> None:
        """A message was handed out."""
        if self.most is not None:
            self._messages.add((delivered.session, delivered.tag))

    def settled(self, delivered: Delivered, verdict: int) -> None:
        """A message was settled."""
        if self.most is None:
            return
        session, tag = delivered.session, delivered.tag
        with self._room:
            if verdict == ACK_MULTIPLE:
                above = {one for one in self._messages if one[0] != session or one[1] > tag}
                self._messages = above
            self._messages.discard((session, tag))
            self._room.notify_all()

    def lost(self) -> None:
        """All messages that were handed out have returned to the broker."""
        with self._room:
            self._messages.clear()
            self._room.notify_all()

    def wake(self) -> None:
        """Wake all threads that wait for room."""
        with self._room:
            self._room.notify_all()

    def wait_for_room(self, timeout: float | None, over: Callable[[], bool]) -> bool:
        """Wait until one more may be handed out, or ``over()``; False after ``timeout`` seconds."""
        if self.most is None:
            return True

        def may_go_on() -> bool:
            return self.most is None or len(self._messages) < self.most or over()

        with self._room:
            return self._room.wait_for(may_go_on, timeout)
