"""The rows of one database that this process holds: being sent, or sent and not completed yet."""

import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import TypeAlias

from rmq_publisher.conf import loader
from rmq_publisher.outbox import ordering_keys
from rmq_publisher.outbox.completer import Completer
from rmq_publisher.outbox.in_flight import InFlight
from rmq_publisher.outbox.row import NOT_SENT, OutboxRow, Outcome
from rmq_publisher.transport.base import Transport

POLL_SECONDS = 0.1  # how often `collect` must be called, to notice deadlines that have passed

TransportOf: TypeAlias = Callable[[str], Transport]  # of a RabbitMQ alias


class RowSender:
    """Sends rows and completes them. Only one thread may use it.

    Args:
        database: Django alias.
        transport_of: returns the transport of a RabbitMQ alias.
        wake: called, in any thread, when it is worth calling `collect`.
        low: see `InFlight`.
        limit: rows that may be sent and not completed: so many may be sent twice if the process is
            killed. Each RabbitMQ alias has an equal share, at least one row: a broker that does not
            answer must leave room for the others.
    """

    def __init__(
        self,
        database: str,
        transport_of: TransportOf,
        wake: Callable[[], object],
        low: int = 0,
        limit: int = sys.maxsize,
    ) -> None:
        self.completer = Completer(database)
        brokers = max(1, len(loader.usable()))
        self.limit = max(limit, brokers)
        self._share = self.limit // brokers
        self._database = database
        self._transport_of = transport_of
        self._wake = wake
        self._low = low
        self._in_flight: dict[str, InFlight] = {}

    def __len__(self) -> int:
        return self.unfinished + len(self.completer)

    @property
    def unfinished(self) -> int:
        """The number of rows without an outcome."""
        return sum(map(len, self._in_flight.values()))

    def of(self, using: str) -> tuple[int, int]:
        """Return the number of rows of an alias without an outcome, and the bytes of their bodies."""
        group = self._in_flight.get(using)
        return (len(group), group.bytes) if group else (0, 0)

    @property
    def is_on_the_wire(self) -> bool:
        """Whether a broker has not answered all of them yet."""
        return any(group.unanswered for group in self._in_flight.values())

    @property
    def has_waiting(self) -> bool:
        """Whether any row waits for room, or for the one before it of its key."""
        return any(len(group) > group.sent for group in self._in_flight.values())

    @property
    def is_full(self) -> bool:
        """Whether half of the limit waits to be completed: the other half is being sent meanwhile."""
        return 2 * len(self.completer) >= self.limit

    @property
    def bytes(self) -> int:
        """The bytes of the bodies of all rows without an outcome."""
        return sum(group.bytes for group in self._in_flight.values())

    def add(self, rows: Sequence[OutboxRow]) -> None:
        """Send rows; those of one key in this order."""
        for using, some in _by_alias(rows).items():
            if using not in self._in_flight:
                connect = partial(self._transport_of, using)
                self._in_flight[using] = InFlight(connect, self._wake, self._low)
            self._in_flight[using].add(some)
        self._send()

    def _send(self) -> None:
        room = self.limit - len(self.completer) - sum(one.sent for one in self._in_flight.values())
        for group in self._in_flight.values():
            before = group.sent
            group.send(min(room, self._share - before))
            room -= group.sent - before

    def add_new(self, rows: Sequence[OutboxRow]) -> None:
        """Send rows of a transaction that has just committed.

        A row is not sent where an earlier one of its key is held by somebody else or goes over another
        alias: nothing here would show when that one was confirmed.

        Raises:
            DatabaseError, InterfaceError: none was sent.
        """
        confirmed = [row.id for row in self.completer.confirmed if row.ordering_key]
        waiting: set[int] = set()
        for using, some in _by_alias(row for row in rows if row.ordering_key).items():
            group = self._in_flight.get(using)
            before = [row.id for row in group.keyed()] if group else []
            waiting |= ordering_keys.waiting_keys(self._database, some, [*before, *confirmed])
        self.add([row for row in rows if row.id not in waiting])
        self.completer.add((row, NOT_SENT) for row in rows if row.id in waiting)

    def collect(self) -> list[Outcome]:
        """Return the outcomes since the last call; `complete` writes them."""
        found = [outcome for group in self._in_flight.values() for outcome in group.outcomes()]
        self.completer.add(found)
        self._send()
        return found

    def complete(self) -> None:
        """Write all outcomes to the table, which makes room for other rows.

        Raises:
            DatabaseError, InterfaceError: the outcomes that could not be written are kept.
        """
        self.completer.complete()
        self._send()

    def close(self) -> None:
        """Send no more rows."""
        for group in self._in_flight.values():
            group.close()

    def give_up(self) -> list[Outcome]:
        """Stop waiting: give every row an outcome, and return the new ones."""
        for group in self._in_flight.values():
            group.give_up()
        return self.collect()


def _by_alias(rows: Iterable[OutboxRow]) -> dict[str, list[OutboxRow]]:
    by_alias: dict[str, list[OutboxRow]] = {}
    for row in rows:
        by_alias.setdefault(row.using, []).append(row)
    return by_alias


def send_now(
    database: str, rows: Sequence[OutboxRow], transport_of: TransportOf, *, new: bool = False
) -> list[Outcome]:
    """Send rows, wait for their outcomes and complete them, on the calling thread's connection.

    New rows are sent alias by alias, in order: rows of one key may name several aliases.

    Args:
        database: Django alias.
        rows: claimed ones; with a key only the first ones of it, unless ``new``.
        transport_of: returns the transport of a RabbitMQ alias.
        new: whether they were written by a transaction that has just committed.

    Raises:
        DatabaseError, InterfaceError: the outcomes could not be written.
    """
    if not new:
        return _send(database, rows, transport_of, RowSender.add)
    found: list[Outcome] = []
    for _, some in itertools.groupby(rows, attrgetter("using")):
        found += _send(database, list(some), transport_of, RowSender.add_new)
    return found


def _send(
    database: str,
    rows: Sequence[OutboxRow],
    transport_of: TransportOf,
    add: Callable[[RowSender, Sequence[OutboxRow]], None],
) -> list[Outcome]:
    moved = threading.Event()
    sender = RowSender(database, transport_of, moved.set)
    add(sender, rows)
    found = sender.collect()
    while sender.unfinished:
        moved.wait(POLL_SECONDS)
        moved.clear()
        found += sender.collect()
    sender.completer.complete()
    return found
