"""Which node is tried next, at which address, and when: a round tries each once.

No I/O, no clock of its own.
"""

from collections.abc import Sequence

from rmq_publisher.conf.loader import Node
from rmq_publisher.timing import Backoff
from rmq_publisher.transport.rabbitmq.addresses import Addresses

ROUND_SHARE = 0.9  # of a call's time; what is left is for sending the message
STABLE_SECONDS = 5.0  # a connection that lived this long, or was answered on, was a good one


class NodeSelection:
    """The nodes of a cluster in turn, with a backoff between rounds.

    A round that callers wait for, the first one and the one after a loss, ends within their time, so that
    silent addresses do not keep them from a living one. In those after it each node has all of its own.

    Args:
        nodes: in the order of the settings.
        seconds: how long a call may take.

    Attributes:
        addresses: of the node to try.
    """

    def __init__(self, nodes: Sequence[Node], seconds: float) -> None:
        self._nodes = nodes
        self._seconds = seconds * ROUND_SHARE
        self._until: float | None = None
        self._is_waited_for = True
        self._index = 0
        self._tries = 0
        self._opened_at = 0.0
        self._backoff = Backoff()
        self.addresses = Addresses()

    @property
    def node(self) -> Node:
        """The node to try."""
        return self._nodes[self._index]

    def begin(self, now: float) -> Node:
        """Begin an attempt, and with its first one a round; return the node to try."""
        if self.addresses.count:
            return self.node
        if self._tries == 0:
            self._until = now + self._seconds if self._is_waited_for else None
        count = len(self._nodes)
        self.addresses = Addresses(self._until, count - self._tries - 1, alone=count == 1)
        return self.node

    def delay(self) -> float:
        """Return the seconds to wait before the next round."""
        return self._backoff.delay()

    def failed(self) -> bool:
        """Go on to the next address or node; return whether this round still has one."""
        if self.addresses:
            return True
        self.addresses = Addresses()
        self._index = (self._index + 1) % len(self._nodes)
        self._tries = (self._tries + 1) % len(self._nodes)
        if self._tries == 0:
            self._is_waited_for = False
        return self._tries > 0

    def opened(self, now: float) -> None:
        """The node can be used."""
        self._is_waited_for = True  # should it be lost
        self._tries = 0
        self._opened_at = now
        self.addresses = Addresses()

    def lost(self, now: float, *, used: bool) -> None:
        """The connection is gone; the next node comes first.

        A connection that broke at once, unused, does not count as one: else a broker that accepts and
        drops would be knocked at ten times a second.
        """
        if used or now - self._opened_at > STABLE_SECONDS:
            self._backoff.reset()
        self._index = (self._index + 1) % len(self._nodes)
