"""The thread that sends the stored messages of this process after commit, and completes them.

It may drop anything at any time: a relay sends a row that was not completed when its grace is over.
"""

import functools
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from operator import attrgetter

from django.db import DatabaseError, InterfaceError, OperationalError
from django.db import connections as databases
from django.db.backends.base.base import BaseDatabaseWrapper

from rmq_publisher.conf import loader
from rmq_publisher.db.batches import IDS_AT_ONCE, batches
from rmq_publisher.db.errors import retried
from rmq_publisher.outbox import notifier, transitions
from rmq_publisher.outbox.row import OutboxRow
from rmq_publisher.outbox.row_sender import RowSender, TransportOf
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.rabbitmq.errors import why_not_started

logger = logging.getLogger("rmq_publisher")

COMPLETE_SECONDS = 0.02  # how long outcomes are gathered, so that one query completes many
GATHER_SECONDS = 0.005  # how long new rows are gathered while others await their confirms
IDLE_SECONDS = 1.0  # without work, after which the database connections are closed
MAX_ROWS = 10_000  # held by the thread; further ones are released to the relay
MAX_BYTES = 64 * 2**20


class BackgroundSender:
    """A daemon thread, started on first need, and the rows that it holds.

    Args:
        transport_of: returns the transport of a RabbitMQ alias.
    """

    def __init__(self, transport_of: TransportOf) -> None:
        self._transport_of = transport_of
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._at_rest = threading.Event()  # it holds no rows and no open database connection
        self._at_rest.set()
        self._thread: threading.Thread | None = None
        self._close_by: float | None = None
        self._inbox: deque[tuple[str, Sequence[OutboxRow]]] = deque()
        # Rows to be released to the relay.
        self._surplus: deque[tuple[str, list[transitions.OwnedRow]]] = deque()
        self._to_notify: set[str] = set()
        self._rows = 0  # taken in and not completed
        self._bytes = 0
        self._is_to_rest = False
        # Used by the thread only.
        self._complete_at = 0.0
        self._senders: dict[str, RowSender] = {}
        # Kept also so that they are not closed in a forked child, which would end the parent's.
        self._used: dict[str, BaseDatabaseWrapper] = {}

    def send(self, database: str, rows: Sequence[OutboxRow]) -> None:
        """Take rows whose transaction has committed; those beyond the bounds are left to the relay."""
        with self._lock:
            fitting = rows[: _fitting(rows, MAX_ROWS - self._rows, MAX_BYTES - self._bytes)]
            self._rows += len(fitting)
            self._bytes += _size(fitting)
            if fitting:
                self._inbox.append((database, fitting))
            for some in batches(rows[len(fitting) :], IDS_AT_ONCE):
                # Without their messages, for which there is no memory.
                owned = [transitions.OwnedRow(row.id, row.token) for row in some]
                self._surplus.append((database, owned))
            self._start()
        self._news.set()

    def notify(self, database: str) -> None:
        """Wake the relays of a database soon; one NOTIFY serves all calls until then."""
        with self._lock:
            self._to_notify.add(database)
            self._start()
        self._news.set()

    def _start(self) -> None:
        self._at_rest.clear()
        if self._thread is not None:
            return
        thread = threading.Thread(
            target=self._run, name="rmq_publisher background sender", daemon=True
        )
        try:
            thread.start()
        except Exception as error:  # noqa: BLE001 (no error here may reach a request)
            logger.warning("the relay will send the stored messages: %s", why_not_started(error))
            self._forget()
        else:
            self._thread = thread

    @property
    def is_started(self) -> bool:
        """Whether its thread is running."""
        return self._thread is not None

    def flush(self, timeout: float) -> bool:
        """Wait until it holds no rows and no database connection; return whether that was reached."""
        self._is_to_rest = True
        self._news.set()
        return self._at_rest.wait(timeout)

    def close(self, timeout: float) -> None:
        """Finish the rows that it holds within ``timeout`` seconds, and end the thread."""
        self._close_by = monotonic() + timeout
        self._is_to_rest = True
        self._news.set()
        if (thread := self._thread) is not None:
            thread.join(timeout + 1.0)

    def _run(self) -> None:
        try:
            while self._close_by is None or not self._at_rest.is_set():
                was_busy = self._is_busy()
                has_news = self._news.wait(self._pause())
                if self._may_gather():
                    time.sleep(GATHER_SECONDS)
                self._news.clear()
                self._cycle()
                if self._is_to_rest or not (was_busy or has_news):
                    self._rest_if_idle()
        except Exception as error:  # noqa: BLE001 (no error here may reach a request)
            logger.error(
                "the background sender failed with %s; the relay will send its messages",
                type(error).__name__,
            )
        finally:
            databases.close_all()  # this thread's
            with self._lock:
                self._forget()
                self._thread = None

    def _pause(self) -> float | None:
        if self._surplus:
            return 0.0
        if self._is_busy():
            return COMPLETE_SECONDS
        return IDLE_SECONDS if self._used else None

    def _may_gather(self) -> bool:
        """Whether new rows may wait for more of them, since others are being sent (as RFC 896 does).

        Each cycle takes the interpreter lock from the threads that serve requests.
        """
        if not self._inbox or self._is_to_rest:
            return False
        senders = self._senders.values()
        return any(sender.is_on_the_wire for sender in senders) and not any(
            sender.has_waiting for sender in senders
        )

    def _is_busy(self) -> bool:
        return bool(self._rows or self._surplus or self._to_notify)

    def _cycle(self) -> None:
        self._take_in()
        self._collect()
        if self._surplus:
            self._release(
                *self._surplus.popleft()
            )  # one portion per cycle, so that outcomes do not wait
        while self._to_notify:
            database = self._to_notify.pop()
            self._ask(database, functools.partial(notifier.notify, database))
        with self._lock:
            self._rows = sum(map(len, self._senders.values()))
            self._rows += sum(len(rows) for _, rows in self._inbox)
            self._bytes = sum(sender.bytes for sender in self._senders.values())
            self._bytes += sum(_size(rows) for _, rows in self._inbox)

    def _take_in(self) -> None:
        """Send the rows that have come so far; later ones wait for a cycle, so that outcomes do not."""
        new: defaultdict[str, list[OutboxRow]] = defaultdict(list)
        for _ in range(len(self._inbox)):
            database, rows = self._inbox.popleft()
            new[database] += rows
        for database, some in new.items():
            # Sorted: the hooks of a later transaction may have run before those of an earlier one.
            self._begin(database, sorted(some, key=attrgetter("id")))

    def _begin(self, database: str, rows: Sequence[OutboxRow]) -> None:
        if database not in self._senders:
            limit = loader.outbox().outbox_batch_size
            self._senders[database] = RowSender(
                database, self._transport_of, self._news.set, low=-1, limit=limit
            )
        sender = self._senders[database]
        sender.add([row for row in rows if not row.ordering_key])
        if keyed := [row for row in rows if row.ordering_key]:
            self._ask(database, functools.partial(sender.add_new, keyed))

    def _release(self, database: str, rows: Sequence[transitions.OwnedRow]) -> None:
        if self._ask(database, functools.partial(transitions.release, database, rows)):
            self._notify_of_due(database)

    def _notify_of_due(self, database: str) -> None:
        if may_reach_a_broker(self._transport_of):
            self._to_notify.add(database)

    def _collect(self) -> None:
        if self._close_by is not None and monotonic() >= self._close_by:
            self._surplus.clear()
            for sender in self._senders.values():
                sender.give_up()
        is_time = monotonic() >= self._complete_at
        for database, sender in self._senders.items():
            sender.collect()
            if not (sender.completer and (is_time or sender.is_full or self._is_to_rest)):
                continue
            self._complete_at = monotonic() + COMPLETE_SECONDS
            makes_rows_due = sender.completer.makes_rows_due
            if not self._ask(database, sender.complete):
                sender.completer.forget()
                sender.close()  # else batch after batch is sent that cannot be completed
            elif makes_rows_due:
                self._notify_of_due(database)

    def _ask(self, database: str, call: Callable[[], object]) -> bool:
        """Run queries, once more on a new connection if the first one is broken; return the success."""
        connection = self._used[database] = databases[database]
        try:
            try:
                retried(database, call)
            except (OperationalError, InterfaceError):
                connection.close()
                retried(database, call)
        except (DatabaseError, InterfaceError) as error:
            connection.close()
            log_left(database, error)
            return False
        return True

    def _rest_if_idle(self) -> None:
        with self._lock:
            if not self._is_busy():
                self._rest()

    def _rest(self) -> None:
        for connection in self._used.values():
            connection.close()
        self._used.clear()
        self._senders.clear()
        self._is_to_rest = False
        self._at_rest.set()

    def _forget(self) -> None:
        """Drop all rows: the relay sends them when their grace is over."""
        self._inbox.clear()
        self._surplus.clear()
        self._to_notify.clear()
        self._rows = self._bytes = 0
        self._rest()


def _size(rows: Sequence[OutboxRow]) -> int:
    return sum(len(row.envelope.body) for row in rows)


def _fitting(rows: Sequence[OutboxRow], most: int, most_bytes: int) -> int:
    """Return how many of these rows, from the first one on, are within both bounds."""
    count = 0
    for count, row in enumerate(rows[: max(0, most)], 1):
        most_bytes -= len(row.envelope.body)
        if most_bytes < 0:
            return count - 1
    return count


def log_left(database: str, error: Exception) -> None:
    """Log why rows are left to the relay."""
    logger.warning(
        "database %r: the relay will send the stored messages (%s)", database, type(error).__name__
    )


def may_reach_a_broker(transport_of: TransportOf) -> bool:
    """Return whether any RabbitMQ connection works, as far as is known."""
    statuses = [transport_of(settings.alias).status() for settings in loader.usable()]
    return any(status.state != "down" and not status.blocked for status in statuses)
