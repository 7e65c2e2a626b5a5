"""The messages that are not on the wire, and why each of them waits. No I/O.

In the order of arrival, always; apart from it only those that wait for something of their own: for
topology, for another message with their id, for a sick destination.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.exceptions import Rejected
from rmq_publisher.transport.base import Delivery
from rmq_publisher.transport.rabbitmq.circuit_breakers import DestinationBreaker, RefusalCache
from rmq_publisher.transport.rabbitmq.parking import SameIdParking, TopologyParking, in_order


class SendQueue:
    """What waits before the window.

    Attributes:
        pending: the next one first.
        set_aside: destinations that do not answer, and their messages.
        same_ids: messages that wait for another one with their id.
        refusals: what is answered from memory.
    """

    def __init__(self, verify: Callable[[Topology], None]) -> None:
        self.pending: deque[Delivery] = deque()
        self.set_aside = DestinationBreaker()
        self.same_ids = SameIdParking()
        self.refusals = RefusalCache()
        self._topology = TopologyParking(verify)
        self._sequence = 0

    def __len__(self) -> int:
        elsewhere = len(self._topology) + len(self.same_ids) + len(self.set_aside)
        return len(self.pending) + elsewhere

    def __iter__(self) -> Iterator[Delivery]:
        yield from self._topology
        yield from self.same_ids
        yield from self.set_aside
        yield from self.pending

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take messages in, in order."""
        for delivery in deliveries:
            self._sequence += 1
            delivery.sequence = self._sequence
            self.pending.append(delivery)

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Let messages that waited elsewhere, or were written, wait in their order of arrival."""
        self.pending = in_order(deliveries, self.pending)

    def admits(self, delivery: Delivery, now: float) -> bool:
        """Return whether its caller waits, it is not refused from memory, and its topology is there.

        Else it has its outcome, or is parked.
        """
        if delivery.claimed:
            return False
        if self.refusals and (denied := self.refusals.answer(delivery.envelope, now)):
            delivery.resolve(denied)
            return False
        return self._topology.admits(delivery)

    def verify(self, now: float) -> None:
        """Have the topology of all that waits verified; what needs none, or has it, goes on waiting."""
        waiting, self.pending = self.pending, deque()
        self.put_back([delivery for delivery in waiting if self.admits(delivery, now)])

    def may_go(self, delivery: Delivery, now: float) -> bool:
        """Return whether it may be written; else it has its outcome or waits elsewhere."""
        if not self.admits(delivery, now):
            return False
        if self.set_aside and delivery.envelope.destination in self.set_aside:
            self.set_aside.hold(delivery)
            return False
        return True

    def verified(self, topology: Topology, error: tuple[int, str] | None, now: float) -> None:
        """Let go on what waited for a topology; what needs it and cannot have it is rejected."""
        parked = self._topology.answered(topology, verified=error is None)
        if error is not None:
            self.refusals.remember_topology(topology, *error, now)
            for delivery in parked:
                if delivery.envelope.topology == topology:
                    delivery.resolve(Rejected(error[0], error[1], **delivery.envelope.names))
        self.put_back(item for item in parked if not item.claimed)

    def condemn(self, culprit: Delivery, code: int, text: str, now: float) -> None:
        """Reject the message over which the broker closed the channel."""
        envelope = culprit.envelope
        self.refusals.remember(envelope, code, text, now)
        self._topology.forget(envelope.topology)
        culprit.resolve(Rejected(code, text, **envelope.names))

    def fail(self, reason: str) -> None:
        """End all that waits; what waits for something of its own is forgotten by and by."""
        for delivery in list(self):
            delivery.fail(reason)
        self.pending.clear()

    def channel_lost(self) -> None:
        """Nothing is in flight any more."""
        self.set_aside.channel_lost()
        self.put_back(self.same_ids.reset())

    def connection_lost(self, unanswered: Iterable[Delivery]) -> None:
        """All that callers wait for goes first on the next connection, where all is verified anew."""
        self.refusals.clear()
        rest = (*unanswered, *self._topology.reset(), *self.set_aside.reset())
        self.put_back(delivery for delivery in rest if not delivery.claimed)
