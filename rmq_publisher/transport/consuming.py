"""What a consumer and a broker say to each other: subscriptions, deliveries, and how they are settled.

Nothing here does I/O.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.amqp.validation import Step
from rmq_publisher.timing import monotonic

# How a delivery is settled; numbers, since one is kept for each of many thousands a second.
# GIVE_BACK is REQUEUE without a failure: RabbitMQ 4.3 and later counts only the latter.
ACK, REJECT, REQUEUE, ACK_MULTIPLE, GIVE_BACK = range(5)

STREAM_OFFSET = "x-stream-offset"


@dataclass(slots=True, eq=False)
class Subscription:
    """One queue that is consumed from.

    Attributes:
        queue: its name.
        tag: the consumer tag.
        prefetch: how many unsettled messages the broker sends at most.
        topology: what to declare or verify each time before the queue is consumed from.
        arguments: the consumer's arguments (``x-priority``, ``x-stream-offset``).
        next_offset: of a stream, what comes after the last message that was taken.
    """

    queue: str
    tag: str
    prefetch: int
    topology: Topology
    arguments: Mapping[str, Any]
    next_offset: int | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it reads a stream, as far as its arguments tell."""
        return STREAM_OFFSET in self.arguments

    def passed(self, offset: int | None) -> None:
        """Note that a stream's message was taken; None if its headers cannot be read."""
        if offset is not None:  # else a lost connection brings that one again, and no other
            self.next_offset = offset + 1

    def current_arguments(self) -> dict[str, Any]:
        """Return the arguments with which to consume now: a stream goes on where it stopped."""
        arguments = dict(self.arguments)
        if self.next_offset is not None:
            arguments[STREAM_OFFSET] = self.next_offset
        return arguments


class Delivered:
    """A message as the broker delivered it; nothing of it is decoded yet.

    Attributes:
        session: the channel that brought it, counted by the source; its tag means nothing on another.
        tag: the delivery tag.
        consumer_tag: the subscription's.
        redelivered: whether the broker has delivered it before.
        exchange: where it was published to.
        routing_key: its routing key.
        header: AMQP's own bytes of its properties.
        body: the encoded body; empty where it is larger than may be held.
        size: bytes of the body.
    """

    __slots__ = (
        "body", "consumer_tag", "exchange", "header", "redelivered", "routing_key", "session", "size",
        "tag",
    )  # fmt: skip

    def __init__(
        self,
        session: int,
        tag: int,
        consumer_tag: str,
        redelivered: bool,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        size: int,
    ) -> None:
        self.session = session
        self.tag = tag
        self.consumer_tag = consumer_tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self.body = body
        self.size = size


class Cancelled(NamedTuple):
    """The broker cancelled a consumer: its queue was deleted, or moved, or it was too slow to ack."""

    consumer_tag: str
    reason: str


Item = Delivered | Cancelled


class Reply(Protocol):
    """The broker's answer to a step of topology."""

    @property
    def messages(self) -> int | None:
        """How many messages wait, or were purged."""


class Source(Protocol):
    """Where a consumer's messages come from; all but `take` may be called from any thread."""

    @property
    def broker(self) -> str | None:
        """Product and version of the broker, such as ``RabbitMQ 4.3.6``; None without a connection."""

    def subscribe(self, subscription: Subscription, timeout: float) -> None:
        """Consume from a queue, now and after every lost connection.

        Raises:
            Rejected: the broker refused.
            BrokerUnavailable: it cannot be asked within ``timeout`` seconds.
        """

    def cancel(self, tag: str, timeout: float) -> None:
        """Stop consuming; what has been delivered may still be taken and settled."""

    def renew(self, timeout: float) -> None:
        """Return all unsettled messages to the broker, and consume again."""

    def run(self, steps: Sequence[Step], timeout: float) -> Sequence[Reply]:
        """Run steps of topology in order; raises as `subscribe` does."""

    def take(self, timeout: float | None, over: Callable[[], bool]) -> Item | None:
        """Return what came, in order; None after ``timeout`` seconds or once ``over()`` is true.

        Raises:
            BrokerUnavailable: nothing can come any more.
        """

    def settle(self, delivered: Delivered, verdict: int) -> bool:
        """Settle a delivery; return False where the channel that brought it is lost."""

    def is_current(self, delivered: Delivered) -> bool:
        """Return whether a delivery can still be settled."""

    def wake(self) -> None:
        """Have all who are in `take` look at their ``over()`` again."""

    def close(self, timeout: float) -> None:
        """Send what was settled, give the rest back, and close."""

    def leave_behind(self) -> None:
        """In a forked child: let go of what is the parent's."""


class Buffer:
    """What came and was not taken yet; one thread puts, any number take."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, items: Sequence[Item]) -> None:
        """Put items in, in order."""
        self._items.extend(items)
        if self._waiting:  # whoever begins to wait looks at the items after it has raised this
            self.wake()

    def wake(self) -> None:
        """Have all who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def get(self) -> Item | None:
        """Return the next item, or None."""
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def wait(self, timeout: float | None, over: Callable[[], bool]) -> Item | None:
        """Return the next item; None after so many seconds, or as soon as ``over()`` is true.

        Whatever makes ``over()`` true calls `wake` afterwards.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self._changed:
            self._waiting += 1
            try:
                while (item := self.get()) is None and not over():
                    left = None if deadline is None else deadline - monotonic()
                    if left is not None and left <= 0:
                        return None
                    self._changed.wait(left)
                return item
            finally:
                self._waiting -= 1
