"""Where a consumer's messages come from on the memory broker: taken when asked for, not pushed.

What a consumer may hold without settling it is bounded as on RabbitMQ; what it does not hold yet waits in
the queue, where RabbitMQ would have sent it ahead.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from rmq_publisher.amqp.validation import Step
from rmq_publisher.exceptions import BrokerUnavailable, Rejected
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.consuming import (
    ACK_MULTIPLE,
    GIVE_BACK,
    REJECT,
    REQUEUE,
    Cancelled,
    Delivered,
    Item,
    Subscription,
)
from rmq_publisher.transport.memory.broker import MemoryBroker
from rmq_publisher.transport.memory.received import Received
from rmq_publisher.transport.outcome import Declared


class _Held:
    """Messages that were taken and not settled, of one subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.count = 0
        self.is_gone = False  # its queue was deleted, which has been told


class MemorySource:
    """A consumer's side of a memory broker (a `Source`).

    Args:
        broker: the alias's.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._session = 1
        self._tags = itertools.count(1)
        self._subscriptions: dict[str, _Held] = {}
        self._held: dict[int, tuple[Received, _Held]] = {}
        self._turn: deque[str] = deque()  # consumer tags, whose turn it is first
        self._closed = False

    def start(self) -> None:
        """There is no thread to start."""

    def subscribe(self, subscription: Subscription, timeout: float) -> None:
        """Consume from a queue.

        Raises:
            Rejected: as RabbitMQ refuses.
            BrokerUnavailable: other threads do not let go.
        """
        steps = [step for entity in subscription.topology for step in entity.steps()]
        self._broker.run(steps, timeout)
        self._broker.attach(subscription.queue, subscription.tag)
        with self._lock:
            self._subscriptions[subscription.tag] = _Held(subscription)
            self._turn.append(subscription.tag)
        self.wake()

    def cancel(self, tag: str, timeout: float) -> None:  # noqa: ARG002 (nothing is waited for)
        """Stop consuming."""
        with self._lock:
            held = self._subscriptions.pop(tag, None)
            self._turn = deque(one for one in self._turn if one != tag)
        if held is not None:
            self._broker.detach(held.subscription.queue, tag)

    def renew(self, timeout: float) -> None:  # noqa: ARG002 (nothing is waited for)
        """Give all that is held back to the queues."""
        with self._lock:
            self._session += 1
            held, self._held = self._held, {}
            for subscription in self._subscriptions.values():
                subscription.count = 0
        for received, _ in held.values():
            with suppress(Rejected):  # the broker was emptied meanwhile
                received.reject(requeue=True)

    def run(self, steps: Sequence[Step], timeout: float) -> list[Declared]:
        """Run steps of topology in order; raises as `subscribe` does."""
        return self._broker.run(steps, timeout)

    def take(self, timeout: float | None, over: Callable[[], bool]) -> Item | None:
        """Return the next message; None after ``timeout`` seconds or once ``over()`` is true.

        Raises:
            BrokerUnavailable: it was closed.
        """
        deadline = None if timeout is None else monotonic() + timeout
        woken: SimpleQueue[None] = SimpleQueue()  # of this call: several threads may wait
        with self._broker.watched(woken):
            while True:
                if self._closed and not over():
                    raise BrokerUnavailable("the consumer was closed")
                if over():
                    return None
                if (item := self._look()) is not None:
                    return item
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return None
                with suppress(Empty):
                    woken.get(timeout=self._broker.patience(left))

    def _look(self) -> Item | None:
        for _ in range(len(self._turn)):
            with self._lock:
                self._turn.rotate(-1)
                held = self._subscriptions.get(self._turn[-1]) if self._turn else None
            if held is not None and (item := self._look_at(held)) is not None:
                return item
        return None

    def _look_at(self, held: _Held) -> Item | None:
        subscription = held.subscription
        with self._lock:
            if held.count >= subscription.prefetch:
                return None
            held.count += 1  # its place, before another thread takes it
        received = None
        try:
            received = self._broker.get(subscription.queue, consumer=subscription.tag)
            held.is_gone = False
        except Rejected as error:
            if not held.is_gone:
                held.is_gone = True
                return Cancelled(subscription.tag, f"{error.reply_code} {error.reply_text}")
        finally:
            if received is None:
                with self._lock:
                    held.count = max(0, held.count - 1)
        return None if received is None else self._delivered(received, held)

    def _delivered(self, received: Received, held: _Held) -> Delivered:
        with self._lock:
            tag = next(self._tags)
            self._held[tag] = received, held
            session = self._session
        return Delivered(
            session, tag, held.subscription.tag, received.redelivered, received.exchange,
            received.routing_key, received.header, received.body, len(received.body),
        )  # fmt: skip

    def settle(self, delivered: Delivered, verdict: int) -> bool:
        """Settle a delivery; return False where it was given back."""
        with self._lock:
            if delivered.session != self._session:
                return False
            upto = delivered.tag if verdict == ACK_MULTIPLE else 0
            tags = [tag for tag in self._held if tag <= upto] if upto else [delivered.tag]
            settled = [self._held.pop(tag) for tag in tags if tag in self._held]
            for _, held in settled:
                held.count = max(0, held.count - 1)
        try:
            for received, _ in settled:
                if verdict in (REJECT, REQUEUE, GIVE_BACK):
                    received.reject(requeue=verdict != REJECT)
                else:
                    received.ack()
        except Rejected:
            return False  # the broker was emptied
        self.wake()
        return True

    def is_current(self, delivered: Delivered) -> bool:
        """Return whether a delivery can still be settled."""
        return delivered.session == self._session

    @property
    def broker(self) -> str | None:
        """Product and version of the broker; None once it was closed."""
        return None if self._closed else "memory"

    def wake(self) -> None:
        """Have all who are in `take` look again."""
        self._broker.wake()

    def close(self, timeout: float) -> None:
        """Give the rest back, and close."""
        for tag in list(self._subscriptions):
            self.cancel(tag, timeout)
        self.renew(timeout)
        self._closed = True
        self.wake()

    def leave_behind(self) -> None:
        """In a forked child: there is nothing that the parent shares."""
