"""The rows of one database that this process holds: on their way, or sent and not settled yet."""

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from rmq_publisher.conf import loader
from rmq_publisher.outbox import ordering_keys
from rmq_publisher.outbox.completer import Outcomes
from rmq_publisher.outbox.in_flight import NOT_SENT, Flight, Outcome
from rmq_publisher.outbox.row import Stored

LOOK_SECONDS = 0.1  # how often somebody must look for deadlines that have passed


class InHand:
    """Of one thread.

    Args:
        database: Django alias.
        wake: called, in any thread, when it is worth calling `collect`.
        low: see `Flight`.
        limit: rows that may have been sent and not been settled: so many may be sent twice where the
            process is killed. Each RabbitMQ alias has its share, at least one: a broker that does not
            answer must leave room for the others.
    """

    def __init__(
        self,
        database: str,
        wake: Callable[[], object],
        low: int = 0,
        limit: int = sys.maxsize,
    ) -> None:
        self.outcomes = Outcomes(database)
        brokers = max(1, len(loader.usable()))
        self.limit = max(limit, brokers)
        self._share = self.limit // brokers
        self._database = database
        self._wake = wake
        self._low = low
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return self.flying + len(self.outcomes)

    @property
    def flying(self) -> int:
        """Rows without an outcome."""
        return sum(map(len, self._flights.values()))

    def of(self, using: str) -> tuple[int, int]:
        """Return how many rows of an alias are without an outcome, and the size of their bodies."""
        flight = self._flights.get(using)
        return (len(flight), flight.bytes) if flight else (0, 0)

    @property
    def is_on_the_wire(self) -> bool:
        """Whether the broker's answer to any is still to come."""
        return any(flight.unanswered for flight in self._flights.values())

    @property
    def waits(self) -> bool:
        """Whether any waits for room, or for the one before it of its key."""
        return any(len(flight) > flight.sent for flight in self._flights.values())

    @property
    def is_full(self) -> bool:
        """Whether half of the limit waits to be settled: the other half keeps the wire busy meanwhile."""
        return 2 * len(self.outcomes) >= self.limit

    @property
    def bytes(self) -> int:
        """The size of their bodies."""
        return sum(flight.bytes for flight in self._flights.values())

    def add(self, rows: Sequence[Stored]) -> None:
        """Send rows; those of one key in this order."""
        for using, some in _by_alias(rows).items():
            if using not in self._flights:
                self._flights[using] = Flight(using, self._wake, self._low)
            self._flights[using].add(some)
        self._send()

    def _send(self) -> None:
        room = self.limit - len(self.outcomes) - sum(one.sent for one in self._flights.values())
        for flight in self._flights.values():
            before = flight.sent
            flight.send(min(room, self._share - before))
            room -= flight.sent - before

    def add_new(self, rows: Sequence[Stored]) -> None:
        """Send rows of a transaction that has just committed.

        Not sent are those with something of their key before them that is not in these hands, or that
        goes over another alias: nobody there would know when it has arrived.

        Raises:
            DatabaseError, InterfaceError: none was sent.
        """
        confirmed = [row.id for row in self.outcomes.confirmed if row.ordering_key]
        waiting: set[int] = set()
        for using, some in _by_alias(row for row in rows if row.ordering_key).items():
            flight = self._flights.get(using)
            before = [row.id for row in flight.keyed()] if flight else []
            waiting |= ordering_keys.waiting_keys(self._database, some, [*before, *confirmed])
        self.add([row for row in rows if row.id not in waiting])
        self.outcomes.add((row, NOT_SENT) for row in rows if row.id in waiting)

    def collect(self) -> list[Outcome]:
        """Return the outcomes that came since the last call; they wait to be settled."""
        found = [outcome for flight in self._flights.values() for outcome in flight.outcomes()]
        self.outcomes.add(found)
        self._send()
        return found

    def settle(self) -> None:
        """Tell the table of all outcomes; it makes room.

        Raises:
            DatabaseError, InterfaceError: what could not be told is kept.
        """
        self.outcomes.settle()
        self._send()

    def close(self) -> None:
        """Begin nothing more."""
        for flight in self._flights.values():
            flight.close()

    def give_up(self) -> list[Outcome]:
        """Wait no longer for what has no outcome; return what came of it."""
        for flight in self._flights.values():
            flight.give_up()
        return self.collect()


def _by_alias(rows: Iterable[Stored]) -> dict[str, list[Stored]]:
    by_alias: dict[str, list[Stored]] = {}
    for row in rows:
        by_alias.setdefault(row.using, []).append(row)
    return by_alias


def send_now(database: str, rows: Sequence[Stored], *, new: bool = False) -> list[Outcome]:
    """Send rows, wait for all outcomes, and settle them, on the connection of the calling thread.

    New ones one alias after the other, in their order: a key may name several.

    Args:
        database: Django alias.
        rows: claimed ones; keyed ones without anything before them, or ``new``.
        new: whether they were written by a transaction that has just committed.

    Raises:
        DatabaseError, InterfaceError: the outcomes could not be settled.
    """
    if not new:
        return _send(database, rows, InHand.add)
    found: list[Outcome] = []
    for _, some in itertools.groupby(rows, attrgetter("using")):
        found += _send(database, list(some), InHand.add_new)
    return found


def _send(
    database: str, rows: Sequence[Stored], add: Callable[[InHand, Sequence[Stored]], None]
) -> list[Outcome]:
    moved = threading.Event()
    hand = InHand(database, moved.set)
    add(hand, rows)
    found = hand.collect()
    while hand.flying:
        moved.wait(LOOK_SECONDS)
        moved.clear()
        found += hand.collect()
    hand.outcomes.settle()
    return found
