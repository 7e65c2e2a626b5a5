"""Rows on their way to one broker: those without a key as a pipeline, those of a key one by one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from rmq_publisher.exceptions import BrokerUnavailable, PublishError
from rmq_publisher.outbox.row import NOT_SENT, OutboxRow, Outcome
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.base import Transport, give_up, late, submit
from rmq_publisher.transport.outcome import Delivery

PORTION = 64  # after so many outcomes there may be room for rows that are ready
EXPIRED = "its lease ended before it could be sent"
CLOSED = "the sending process is ending"


class _Sending(Delivery):
    """A row being sent; reports its outcome to its `InFlight`, from any thread."""

    __slots__ = ("_ended", "group", "row", "withdrawn")

    def __init__(
        self, row: OutboxRow, group: "_Group", ended: Callable[["_Sending"], None]
    ) -> None:
        super().__init__(row.envelope, _nothing)
        self.row = row
        self.group = group
        self.withdrawn = False  # asked to be taken back, which succeeds if it was not written yet
        self._ended = ended

    def _finish(self, error: PublishError | None) -> None:
        self.error = error
        self.done = True
        self._ended(self)


def _nothing() -> None:
    """Do nothing: `_Sending._finish` reports more than that it is done."""


class _Group:
    """Rows that were submitted together; each outcome among them gives the others more time."""

    def __init__(self, rows: Sequence[OutboxRow], transport: Transport) -> None:
        self.live: dict[_Sending, None] = {}  # in the order of their submission
        self.transport = transport
        self.timeout = transport.settings.publish_timeout
        self.deadline = monotonic() + self.timeout
        self.own_until = min(row.own_until for row in rows)

    def moved(self, now: float) -> None:
        # Never beyond the lease: then the rows may be somebody else's.
        self.deadline = min(now, self.own_until) + self.timeout


class InFlight:
    """The rows being sent over one RabbitMQ alias.

    Only one thread may use it; outcomes arrive from others.

    Args:
        connect: returns the transport that sends them.
        wake: called, in any thread, when it is worth calling `outcomes`.
        low: call ``wake`` when so many rows are unanswered, and when none is; -1 for neither. It is
            always called when a row of the same key waits, and now and then while rows are ready.
    """

    def __init__(
        self, connect: Callable[[], Transport], wake: Callable[[], object], low: int = 0
    ) -> None:
        self._connect = connect
        self._wake = wake
        self._low = low
        self._groups: list[_Group] = []
        self._ready: deque[OutboxRow] = deque()  # may be sent as soon as there is room
        self._runs: dict[str, deque[OutboxRow]] = {}  # of each key: rows behind the one being sent
        self._waiting = 0  # in the runs
        self._sent = 0
        self._ended: deque[_Sending] = deque()
        self._not_sent: list[OutboxRow] = []
        self.bytes = 0

    def __len__(self) -> int:
        """The number of rows whose outcome `outcomes` has not returned yet."""
        return self._sent + len(self._ready) + self._waiting + len(self._not_sent)

    @property
    def sent(self) -> int:
        """Rows given to the transport whose outcome `outcomes` has not returned yet."""
        return self._sent

    @property
    def unanswered(self) -> int:
        """Rows given to the transport that have no outcome yet."""
        return self._sent - len(self._ended)

    def keyed(self) -> Iterator[OutboxRow]:
        """Yield the rows with a key that are being sent, or wait for an earlier row of their key."""
        for group in self._groups:
            yield from (sending.row for sending in group.live if sending.row.ordering_key)
        yield from (row for row in self._ready if row.ordering_key)
        for run in self._runs.values():
            yield from run

    def add(self, rows: Iterable[OutboxRow]) -> None:
        """Take rows to be sent; those of one key in this order, behind earlier ones of that key."""
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
        """Send rows that are ready, ``most`` at most."""
        if not self._ready or most <= 0:
            return
        now = monotonic()
        rows: list[OutboxRow] = []
        while self._ready and len(rows) < most:
            row = self._ready.popleft()
            if row.own_until > now:
                rows.append(row)
            else:
                self._drop(row)
        if rows:
            self._submit(rows)

    def _submit(self, rows: Sequence[OutboxRow]) -> None:
        group = _Group(rows, self._connect())
        sending = [_Sending(row, group, self._on_ended) for row in rows]
        group.live = dict.fromkeys(sending)
        self._groups.append(group)
        self._sent += len(sending)
        submit(group.transport, sending)

    def _on_ended(self, sending: _Sending) -> None:
        """Note an outcome, in any thread; mostly the I/O thread."""
        self._ended.append(sending)
        left = self.unanswered
        few = left == self._low or left <= 0 <= self._low
        portion = self._ready and left % PORTION == 0
        if few or portion or (self._waiting and sending.row.ordering_key):
            self._wake()

    def _drop(self, row: OutboxRow) -> None:
        """Give up a row without sending it, and those behind it of its key."""
        self._not_sent.append(row)
        self._end_run(row)

    def _end_run(self, row: OutboxRow) -> None:
        if row.ordering_key:
            rest = self._runs.pop(row.ordering_key, ())
            self._waiting -= len(rest)
            self._not_sent.extend(rest)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes since the last call; rows that waited for them become ready."""
        self._give_up_overdue()
        found: list[Outcome] = []
        now = monotonic()
        while self._ended:
            sending = self._ended.popleft()
            row, group = sending.row, sending.group
            self._sent -= 1
            group.live.pop(sending, None)
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
        sendings = list(group.live)
        if not withdraw:
            give_up(group.transport, sendings, reason)
            return
        # The last first: else the places of written messages go to those behind them.
        for sending in reversed(sendings):
            if not sending.written:
                sending.withdrawn = True
                sending.fail(reason)

    def close(self) -> None:
        """Send no more rows: those not written to the socket yet come back as not sent."""
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
        """Stop waiting: every row has an outcome afterwards."""
        self.close()
        for group in self._groups:
            self._give_up(group, late(group.transport, group.timeout))
