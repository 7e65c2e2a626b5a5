"""What keeps a message from being written at once: topology, a broker's refusal, a sick queue.

Three small rooms of the dispatcher, without I/O; all run on the I/O thread only.
"""

from collections import deque
from collections.abc import Callable, Iterator

from rmq_publisher.exceptions import Rejected
from rmq_publisher.message import Destination, Envelope
from rmq_publisher.topology import Topology
from rmq_publisher.transport.base import Delivery

DENIAL_SECONDS = 5.0  # how long a refused destination is answered from memory


class TopologyGate:
    """Parks messages until their topology is verified, once per connection and by value.

    A batch (what one transaction published) stays in order: while one of its messages is parked, the
    later ones park behind it.
    """

    def __init__(self, verify: Callable[[Topology], None]) -> None:
        self._verify = verify
        self._verified: set[Topology] = set()
        self._parked: dict[Topology, list[Delivery]] = {}
        self._batches: dict[object, Topology] = {}

    def admits(self, delivery: Delivery) -> bool:
        """Return whether it may go on; else it is parked and its topology is being verified."""
        topology = delivery.envelope.topology
        if self._batches and delivery.batch in self._batches:
            self._parked[self._batches[delivery.batch]].append(delivery)
            return False
        if not topology or topology in self._verified:
            return True
        if delivery.batch is not None:
            self._batches[delivery.batch] = topology
        if topology in self._parked:
            self._parked[topology].append(delivery)
        else:
            self._parked[topology] = [delivery]
            self._verify(topology)
        return False

    def answered(self, topology: Topology, *, verified: bool) -> list[Delivery]:
        """Return what was parked for it, in order; remember it if it was verified."""
        if verified:
            self._verified.add(topology)
        self._batches = {
            batch: waited_for
            for batch, waited_for in self._batches.items()
            if waited_for != topology
        }
        return self._parked.pop(topology, [])

    def forget(self, topology: Topology) -> None:
        """Verify it again before the next message."""
        self._verified.discard(topology)

    def reset(self) -> list[Delivery]:
        """Forget everything, as a new connection must; return what was parked."""
        parked = list(self)
        self._verified.clear()
        self._parked.clear()
        self._batches.clear()
        return parked

    def __iter__(self) -> Iterator[Delivery]:
        for deliveries in self._parked.values():
            yield from deliveries

    def __len__(self) -> int:
        # A copy: the status is read by other threads.
        return sum(map(len, tuple(self._parked.values())))


class Denials:
    """Refused destinations, answered from memory for a while.

    A message that makes the broker close the channel costs everybody on it a replay; a view that
    keeps publishing to a forbidden exchange must not.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str | None], tuple[float, int, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def remember(self, envelope: Envelope, code: int, text: str, now: float) -> None:
        """Remember a refusal; a 406 speaks of the message, not of where it goes."""
        if code in (403, 404):
            # "access to topic" is of one routing key; the other refusals are of the exchange.
            key = envelope.routing_key if "access to topic" in text else None
            self._until[envelope.exchange, key] = (now + DENIAL_SECONDS, code, text)

    def answer(self, envelope: Envelope, now: float) -> Rejected | None:
        """Return the refusal that still stands for this message, if any."""
        for key in ((envelope.exchange, None), (envelope.exchange, envelope.routing_key)):
            if key not in self._until:
                continue
            until, code, text = self._until[key]
            if now < until:
                return Rejected(code, text, **envelope.names)
            del self._until[key]
        return None

    def clear(self) -> None:
        """Forget all: permissions may differ on a new connection."""
        self._until.clear()


class SetAside:
    """Destinations that do not answer while others do: one message in flight each, no places.

    Tried: 64 messages to a quorum queue without majority got no answer in 25 s, while a classic queue
    on the same channel answered at once.
    """

    def __init__(self) -> None:
        self._queues: dict[Destination, deque[Delivery]] = {}
        self._live: dict[Destination, int] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __contains__(self, where: Destination) -> bool:
        return where in self._queues

    def destinations(self) -> tuple[Destination, ...]:
        """Return the destinations that are set aside."""
        return tuple(self._queues)

    def __iter__(self) -> Iterator[Delivery]:
        for queue in self._queues.values():
            yield from queue

    def add(self, where: Destination, live: int) -> None:
        """Set a destination aside that has ``live`` messages in flight whose callers wait."""
        self._queues[where] = deque()
        self._live[where] = live

    def hold(self, delivery: Delivery) -> None:
        """Keep a message until its destination has nothing in flight."""
        self._queues[delivery.envelope.destination].append(delivery)

    def due(self) -> Iterator[Delivery]:
        """Yield the messages that may be sent now: one for each destination with none in flight."""
        for where, queue in self._queues.items():
            while queue and not self._live[where]:
                delivery = queue.popleft()
                if not delivery.claimed:
                    yield delivery

    def sent(self, where: Destination) -> None:
        """Note a message in flight."""
        self._live[where] += 1

    def gone(self, where: Destination) -> None:
        """Note that a message in flight has its outcome from its caller."""
        if where in self._live:
            self._live[where] = max(0, self._live[where] - 1)

    def release(self, where: Destination) -> list[Delivery]:
        """The destination answered: return what was held for it."""
        self._live.pop(where)
        return list(self._queues.pop(where))

    def channel_lost(self) -> None:
        """Nothing is in flight any more."""
        self._live = dict.fromkeys(self._live, 0)

    def reset(self) -> list[Delivery]:
        """Forget all; return what was held."""
        held = list(self)
        self._queues.clear()
        self._live.clear()
        return held
