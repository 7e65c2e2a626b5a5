"""Messages that wait for their topology, or for another message with the same id.

No I/O. The I/O thread alone calls this, except for ``len()``, which any thread may ask for a status.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any

from rmq_publisher.amqp.entities import Topology
from rmq_publisher.transport.rabbitmq.outgoing import OutgoingMessage


def in_order(*groups: Iterable[OutgoingMessage]) -> deque[OutgoingMessage]:
    """Return the messages of all groups in the order of their arrival."""
    return deque(sorted(chain(*groups), key=attrgetter("sequence")))


def parked(queues: Mapping[Any, Collection[OutgoingMessage]]) -> int:
    """Return how many messages wait in all queues together."""
    return sum(map(len, tuple(queues.values())))  # a copy: the I/O thread may change it meanwhile


class TopologyParking:
    """Parks messages until their topology is verified, once per connection and by value.

    A batch (what one transaction published) stays in order: while one of its messages is parked, the
    later ones park behind it.
    """

    def __init__(self, verify: Callable[[Topology], None]) -> None:
        self._verify = verify
        self._verified: dict[Topology, float] = {}  # when
        self._parked: dict[Topology, list[OutgoingMessage]] = {}
        self._batches: dict[object, Topology] = {}
        self._due: set[Topology] = set()  # to be verified before the next message

    def admits(self, message: OutgoingMessage) -> bool:
        """Return whether it may go on; else it is parked and its topology is being verified."""
        topology = message.envelope.topology
        if self._batches and message.delivery.batch in self._batches:
            self._parked[self._batches[message.delivery.batch]].append(message)
            return False
        if not topology or topology in self._verified:
            return True
        if message.delivery.batch is not None:
            self._batches[message.delivery.batch] = topology
        if topology in self._parked:
            self._parked[topology].append(message)
        else:
            self._parked[topology] = [message]
            self._verify(topology)
        return False

    def answered(self, topology: Topology, now: float, *, verified: bool) -> list[OutgoingMessage]:
        """Return what was parked for it, in order; remember it if it was verified."""
        self._due.discard(topology)
        if verified:
            self._verified[topology] = now
        self._batches = {
            batch: waited_for
            for batch, waited_for in self._batches.items()
            if waited_for != topology
        }
        return self._parked.pop(topology, [])

    def forget(self, topology: Topology, *, since: float = math.inf) -> bool:
        """Verify it again before the next message; return whether that is news.

        Not where it was verified later than the clock's time ``since``.
        """
        if self._verified.get(topology, -math.inf) > since:
            return False
        is_news = topology not in self._due and topology not in self._parked
        self._verified.pop(topology, None)
        self._due.add(topology)
        return is_news

    def reset(self) -> list[OutgoingMessage]:
        """Forget everything, as a new connection must; return what was parked."""
        waiting = list(self)
        self._verified.clear()
        self._parked.clear()
        self._batches.clear()
        self._due.clear()
        return waiting

    def __iter__(self) -> Iterator[OutgoingMessage]:
        for messages in self._parked.values():
            yield from messages

    def __len__(self) -> int:
        return parked(self._parked)


class SameIdParking:
    """Messages that wait until another one with their id is answered: a return names only the id."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[OutgoingMessage]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return parked(self._waiting)

    def __iter__(self) -> Iterator[OutgoingMessage]:
        for messages in self._waiting.values():
            yield from messages

    def hold(self, message: OutgoingMessage) -> None:
        """Keep a message."""
        self._waiting.setdefault(message.envelope.message_id, []).append(message)

    def release(self, message_id: str) -> list[OutgoingMessage]:
        """Return all with this id: should the first be given up by now, the next must not wait."""
        return self._waiting.pop(message_id, [])

    def reset(self) -> list[OutgoingMessage]:
        """Nothing is in flight any more: return all."""
        waiting = list(self)
        self._waiting.clear()
        return waiting
