"""Rows on their way to the broker: those without a key as a pipeline, those of a key one by one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, TypeAlias

from rmq_publisher.exceptions import BrokerUnavailable, PublishError
from rmq_publisher.outbox.row import Stored
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.base import Delivery, Transport
from rmq_publisher.transport.delivery import late, submit
from rmq_publisher.transport.handler import connections

PORTION = 64  # so many outcomes may make room for what is ready
EXPIRED = "its lease ended before it could be sent"
CLOSED = "the sending process is ending"


class _NotSent(Enum):
    NOT_SENT = "not sent"


NOT_SENT: Final = _NotSent.NOT_SENT  # of a row that was never given to the broker
Outcome: TypeAlias = tuple[Stored, PublishError | _NotSent | None]  # None: confirmed


class _Sending(Delivery):
    """A row being sent; it tells its flight when it has its outcome, in whatever thread."""

    __slots__ = ("_ended", "group", "row", "withdrawn")

    def __init__(self, row: Stored, group: "_Group", ended: Callable[["_Sending"], None]) -> None:
        super().__init__(row.envelope, _nothing)
        self.row = row
        self.group = group
        self.withdrawn = False  # by its flight, before it was written if it comes in time
        self._ended = ended

    def _finish(self, error: PublishError | None) -> None:
        self.error = error
        self.done = True
        self._ended(self)


def _nothing() -> None:
    """A `_Sending` tells more than that it is done."""


class _Group:
    """Rows that were submitted together; each outcome among them gives the others more time."""

    def __init__(self, rows: Sequence[Stored], transport: Transport) -> None:
        self.live: set[_Sending] = set()
        self.transport = transport
        self.timeout = transport.settings.publish_timeout
        self.deadline = monotonic() + self.timeout
        self.own_until = min(row.own_until for row in rows)

    def moved(self, now: float) -> None:
        # Never beyond the lease: then the rows may be somebody else's.
        self.deadline = min(now, self.own_until) + self.timeout


class Flight:
    """What is being sent over one RabbitMQ alias. Of one thread, but for the outcomes' arrival.

    Args:
        using: RabbitMQ alias.
        wake: called, in any thread, when it is worth looking at `outcomes`.
        low: so many on their way make it worth it, and none at all; -1 for neither. It always is
            when a row's successor waits for it, and now and then while rows are ready.
    """

    def __init__(self, using: str, wake: Callable[[], object], low: int = 0) -> None:
        self.using = using
        self._wake = wake
        self._low = low
        self._groups: list[_Group] = []
        self._ready: deque[Stored] = deque()  # may be sent as soon as there is room
        self._runs: dict[str, deque[Stored]] = {}  # of each key: what waits for the one on its way
        self._waiting = 0  # in the runs
        self._flying = 0
        self._ended: deque[_Sending] = deque()
        self._not_sent: list[Stored] = []
        self.bytes = 0

    def __len__(self) -> int:
        """Rows whose outcome was not given out yet."""
        return self._flying + len(self._ready) + self._waiting + len(self._not_sent)

    @property
    def sent(self) -> int:
        """Rows given to the broker whose outcome was not given out yet."""
        return self._flying

    @property
    def unanswered(self) -> int:
        """Those of them that have none yet."""
        return self._flying - len(self._ended)

    def keyed(self) -> Iterator[Stored]:
        """Yield the rows with a key whose outcome is to come, and that will be sent if it is good."""
        for group in self._groups:
            yield from (sending.row for sending in group.live if sending.row.ordering_key)
        yield from (row for row in self._ready if row.ordering_key)
        for run in self._runs.values():
            yield from run

    def add(self, rows: Iterable[Stored]) -> None:
        """Take rows to be sent; those of one key in this order, behind those of it that are here."""
        for row in rows:
            self.bytes += len(row.envelope.body)
            if not row.ordering_key:
                self._ready.append(row)
            elif (run := self._runs.get(row.ordering_key)) is not None:
                run.append(row)
                self._waiting += 1
            else:
                self._runs[row.ordering_key] = deque()
                self._ready.append(row)

    def send(self, most: int) -> None:
        """Send what is ready: at most so many rows."""
        if not self._ready or most <= 0:
            return
        now = monotonic()
        rows: list[Stored] = []
        while self._ready and len(rows) < most:
            row = self._ready.popleft()
            if row.own_until > now:
                rows.append(row)
            else:
                self._drop(row)
        if rows:
            self._submit(rows)

    def _submit(self, rows: Sequence[Stored]) -> None:
        group = _Group(rows, connections[self.using])
        sending = [_Sending(row, group, self._on_ended) for row in rows]
        group.live.update(sending)
        self._groups.append(group)
        self._flying += len(sending)
        submit(group.transport, sending)

    def _on_ended(self, sending: _Sending) -> None:
        """In any thread, mostly the one that hears the broker."""
        self._ended.append(sending)
        left = self.unanswered
        few = left == self._low or left <= 0 <= self._low
        portion = self._ready and left % PORTION == 0
        if few or portion or (self._waiting and sending.row.ordering_key):
            self._wake()

    def _drop(self, row: Stored) -> None:
        """A row that is not sent, and what stands behind it."""
        self._not_sent.append(row)
        self._end_run(row)

    def _end_run(self, row: Stored) -> None:
        if row.ordering_key:
            rest = self._runs.pop(row.ordering_key, ())
            self._waiting -= len(rest)
            self._not_sent.extend(rest)

    def outcomes(self) -> list[Outcome]:
        """Return what has come since the last call; what waited for it is ready then."""
        self._give_up_overdue()
        found: list[Outcome] = []
        now = monotonic()
        while self._ended:
            sending = self._ended.popleft()
            row, group = sending.row, sending.group
            self._flying -= 1
            group.live.discard(sending)
            group.moved(now)
            self.bytes -= len(row.envelope.body)
            unsent = sending.withdrawn and isinstance(sending.error, BrokerUnavailable)
            found.append((row, NOT_SENT if unsent else sending.error))
            if not row.ordering_key:
                continue
            run = self._runs.get(row.ordering_key)
            if sending.error is None and run:
                self._ready.append(run.popleft())
                self._waiting -= 1
            else:
                self._end_run(row)
        self._groups = [group for group in self._groups if group.live]
        self.bytes -= sum(len(row.envelope.body) for row in self._not_sent)
        found += [(row, NOT_SENT) for row in self._not_sent]
        self._not_sent.clear()
        return found

    def _give_up_overdue(self) -> None:
        now = monotonic()
        for group in self._groups:
            if now >= group.deadline:
                self._give_up(group, late(group.transport, group.timeout))
            elif now >= group.own_until:
                self._give_up(group, EXPIRED, withdraw=True)

    def _give_up(self, group: _Group, reason: str, *, withdraw: bool = False) -> None:
        # The last first: the places of those on the wire must not be taken by those behind them.
        for sending in sorted(group.live, key=lambda one: one.sequence, reverse=True):
            if withdraw and sending.written:
                continue
            sending.withdrawn = withdraw
            sending.fail(reason)
        if not withdraw:
            group.transport.abandoned()

    def close(self) -> None:
        """Begin nothing more: what is not on the wire comes back as not sent."""
        self._not_sent.extend(self._ready)
        self._ready.clear()
        for run in self._runs.values():
            self._not_sent.extend(run)
            self._waiting -= len(run)
            run.clear()
        for group in self._groups:
            self._give_up(group, CLOSED, withdraw=True)
        self._wake()

    def give_up(self) -> None:
        """Give up waiting: whatever has no outcome by now has one after this."""
        self.close()
        for group in self._groups:
            self._give_up(group, late(group.transport, group.timeout))
