"""The memory broker: RabbitMQ's exchanges and queues inside this process, for tests and development.

It says what RabbitMQ says and routes as RabbitMQ routes; one suite of tests runs against both. What
takes time (messages that expire) happens when somebody looks, in the order in which it was due, or at
once by `MemoryBroker.advance`.

Not simulated: streams beyond taking messages, the expiry of unused queues (``x-expires``), priorities
of quorum queues and of consumers, exchange types of plugins, policies and permissions.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from rmq_publisher.amqp.entities import Entity
from rmq_publisher.amqp.validation import Step
from rmq_publisher.exceptions import BrokerUnavailable, Rejected
from rmq_publisher.messages.envelope import Envelope
from rmq_publisher.process.lifecycle import hold_over_fork
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.memory.message_flow import Core, Routed, Verdict
from rmq_publisher.transport.memory.queue import Entry, MemoryQueue
from rmq_publisher.transport.memory.received import Received
from rmq_publisher.transport.outcome import Declared

T = TypeVar("T")

PATIENCE = 5.0  # seconds that a call waits for those of other threads

# One for all brokers: held over a fork, so that a child's copies are whole and free.
_LOCK = threading.RLock()
hold_over_fork(_LOCK)


class MemoryBroker:
    """Exchanges and queues of one RabbitMQ alias, shared by all threads of the process.

    What is called by a destructor or by a signal's handler, in the midst of another call of the same
    thread, raises `BrokerUnavailable`: the other one can only go on once it has ended. So does what
    waited too long for other threads.

    Args:
        name: the alias.
        before_look: called before a consumer looks, outside of all locks.

    Attributes:
        epoch: how often it was emptied: what was verified before does not hold.
    """

    def __init__(
        self, name: str = "default", before_look: Callable[[], object] | None = None
    ) -> None:
        self.name = name
        self.epoch = 0
        self._before_look = before_look or (lambda: None)
        self._busy = False
        self._waiting: set[SimpleQueue[None]] = set()  # of consumers; a put wakes one
        self._ahead = 0.0  # of the real clock
        self._core = Core(self._clock())

    def __repr__(self) -> str:
        return f"<MemoryBroker {self.name}: {len(self._core.catalogue.queues)} queues>"

    def _clock(self) -> float:
        return time.time() + self._ahead

    def _alone(self, work: Callable[[], T], timeout: float = PATIENCE) -> T:
        """Do some work while nobody else does any.

        Raises:
            BrokerUnavailable: others were at work all the time, or this very thread is.
        """
        if not _LOCK.acquire(timeout=timeout):
            raise BrokerUnavailable(f"the memory broker was busy for {timeout:g} s")
        try:
            # Before this is set, and once it is not any more, the core is whole: whatever interrupts
            # there may work on it.
            if self._busy:
                raise BrokerUnavailable(
                    "a destructor or a signal's handler interrupted the memory broker and called it"
                )
            self._busy = True
            try:
                return work()
            finally:
                self._busy = False
        finally:
            _LOCK.release()

    def _current(self) -> Core:
        """Return the core once all has happened that was due; to be called in `_alone`."""
        self._core.advance(self._clock())
        return self._core

    @contextmanager
    def watched(self, woken: "SimpleQueue[None]") -> Iterator[None]:
        """Have something put into ``woken`` whenever a consumer should look, within the block."""
        self._waiting.add(woken)
        try:
            yield
        finally:
            self._waiting.discard(woken)

    def patience(self, timeout: float | None) -> float | None:
        """Return how many of these seconds a consumer may wait before it must look again."""
        expiry = self._core.next_expiry
        if expiry is None:
            return timeout
        due = max(0.0, expiry - self._clock())
        return due if timeout is None else min(timeout, due)

    def attach(self, queue: str, consumer: str) -> None:
        """Note that a consumer is there.

        Raises:
            Rejected: 404, there is no such queue; 540, it is a stream.
        """
        self._alone(lambda: self._core.check_consumable(queue).attach(consumer))

    def detach(self, queue: str, consumer: str) -> None:
        """A consumer is gone; another one may be the active one now."""

        def detach() -> None:
            if (found := self._core.catalogue.queues.get(queue)) is not None:
                found.detach(consumer)
            self.wake()

        self._alone(detach)

    def wake(self) -> None:
        """Have all consumers look."""
        for woken in tuple(self._waiting):
            woken.put(None)

    def declare(self, *entities: Entity, timeout: float = PATIENCE) -> list[Declared]:
        """Declare configs and verify names, in order.

        Args:
            entities: what.
            timeout: seconds to wait for other threads.

        Raises:
            Rejected: as RabbitMQ refuses, with a note of what; what came before it is declared.
        """
        declared = []
        for step in (step for entity in entities for step in entity.steps()):
            try:
                declared += self.run([step], timeout)
            except Rejected as refused:
                refused.add_note(f"while declaring {step.entity}")
                raise
        return declared

    def run(self, steps: Sequence[Step], timeout: float = PATIENCE) -> list[Declared]:
        """Run steps of topology, in order; wait so many seconds for other threads.

        Raises:
            Rejected: as RabbitMQ refuses.
        """
        return self._alone(lambda: self._run(steps), timeout)

    def _run(self, steps: Sequence[Step]) -> list[Declared]:
        catalogue = self._current().catalogue
        return [
            Declared(step.entity, *getattr(catalogue, step.operation)(**step.arguments))
            for step in steps
        ]

    def publish(self, envelope: Envelope, user: str, timeout: float = PATIENCE) -> Routed:
        """Route a message, without regard to its topology.

        Args:
            envelope: the message.
            user: who publishes; a ``user_id`` must name the same.
            timeout: seconds to wait for other threads.

        Raises:
            Rejected: 404, no such exchange; 403, it is internal; 406, another's ``user_id``.
        """
        return self._alone(lambda: self._publish(envelope, user), timeout)

    def _publish(self, envelope: Envelope, user: str) -> Routed:
        routed = self._current().publish(envelope, user)
        self.wake()
        return routed

    def get(
        self, queue: str, timeout: float = 0.0, consumer: str | None = None
    ) -> Received | None:
        """Take the next message of a queue; it is the caller's until acknowledged or rejected.

        Args:
            queue: its name.
            timeout: seconds to wait for one.
            consumer: who asks; one that is not the single active one gets none.

        Returns:
            The message, or None where there is none.

        Raises:
            Rejected: 404, there is no such queue; 540, it is a stream.
        """
        self._before_look()
        woken: SimpleQueue[None] = SimpleQueue()
        take = partial(self._take, queue, monotonic() + timeout, woken, consumer)
        try:
            while isinstance(taken := self._alone(take), float):
                with suppress(Empty):
                    woken.get(timeout=taken)
        finally:
            self._waiting.discard(woken)
        return taken

    def _take(
        self, name: str, deadline: float, woken: SimpleQueue[None], consumer: str | None
    ) -> Received | float | None:
        """Take a message; where there is none yet, return the seconds until it is worth a look."""
        taken = self._current().take(name, consumer)
        if taken is not None:
            return Received(*taken, partial(self._settle, *taken))
        left = deadline - monotonic()
        if left <= 0:
            return None
        self._waiting.add(woken)
        expiry = self._core.next_expiry
        return left if expiry is None else min(left, expiry - self._core.now)

    def _settle(self, queue: MemoryQueue, entry: Entry, verdict: Verdict) -> None:
        def settle() -> None:
            self._current().settle(queue, entry, verdict)
            self.wake()

        self._alone(settle)

    def drain(self, queue: str) -> list[Received]:
        """Take and acknowledge all messages of a queue, in order.

        Raises:
            Rejected: 404, there is no such queue; 540, it is a stream.
        """
        taken = []
        while (message := self.get(queue)) is not None:
            message.ack()
            taken.append(message)
        return taken

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue, without those that consumers hold.

        Raises:
            Rejected: 404, there is no such queue.
        """
        self._before_look()
        return self._alone(lambda: len(self._current().catalogue.queue(queue)))

    def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue, by name."""
        self._before_look()
        return self._alone(
            lambda: {name: len(queue) for name, queue in self._current().catalogue.queues.items()}
        )

    def advance(self, seconds: float) -> None:
        """Set the broker's clock forward: what expires meanwhile expires now."""

        def advance() -> None:
            self._ahead += seconds
            self._current()
            self.wake()

        self._before_look()
        self._alone(advance)

    def delete_queue(self, name: str) -> None:
        """Delete a queue, its messages and bindings, if it is there."""

        def delete() -> None:
            self._core.catalogue.delete_queue(name)
            self.wake()

        self._alone(delete)

    def delete_exchange(self, name: str) -> None:
        """Delete an exchange and its bindings, if it is there."""
        self._alone(lambda: self._core.catalogue.delete_exchange(name))

    def reset(self) -> None:
        """Delete every queue, exchange and message, and set the clock right."""

        def reset() -> None:
            self.epoch += 1
            self._ahead = 0.0
            self._core = Core(self._clock())
            self.wake()

        self._alone(reset)
