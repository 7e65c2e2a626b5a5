"""The thread of a process that sends its stored messages and settles them.

It may forget anything at any time: a row that nobody settles goes to the relay when its grace is over.
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
from rmq_publisher.outbox import notifier, transitions
from rmq_publisher.outbox.row import Stored
from rmq_publisher.outbox.row_sender import InHand
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher")

SETTLE_SECONDS = 0.02  # how long outcomes are gathered
GATHER_SECONDS = 0.005  # how long new rows are gathered while others are on the wire
IDLE_SECONDS = 1.0  # without work, until the database connections are closed
MAX_ROWS = 10_000  # in hand; what comes beyond is given to the relay
MAX_BYTES = 64 * 2**20


class Settler:
    """The thread, and what it has in hand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._at_rest = threading.Event()  # nothing in hand, no database connection open
        self._at_rest.set()
        self._thread: threading.Thread | None = None
        self._close_by: float | None = None
        self._inbox: deque[tuple[str, Sequence[Stored]]] = deque()
        self._surplus: deque[tuple[str, list[transitions.Place]]] = (
            deque()
        )  # to be given to the relay
        self._to_notify: set[str] = set()
        self._rows = 0  # taken in and not settled
        self._bytes = 0
        self._is_to_rest = False
        # The thread's own
        self._settle_at = 0.0
        self._hands: dict[str, InHand] = {}
        # Kept also so that they are not closed in a forked child, which would end the parent's.
        self._used: dict[str, BaseDatabaseWrapper] = {}

    # Called by any thread

    def send(self, database: str, rows: Sequence[Stored]) -> None:
        """Take rows whose transaction has committed: what fits to send it, the others to free them."""
        with self._lock:
            fitting = rows[: _fitting(rows, MAX_ROWS - self._rows, MAX_BYTES - self._bytes)]
            self._rows += len(fitting)
            self._bytes += _size(fitting)
            if fitting:
                self._inbox.append((database, fitting))
            for start in range(len(fitting), len(rows), transitions.AT_ONCE):
                some = rows[start : start + transitions.AT_ONCE]
                # Without their messages, for which there is no room.
                places = [transitions.Place(row.id, row.token) for row in some]
                self._surplus.append((database, places))
            self._start()
        self._news.set()

    def notify(self, database: str) -> None:
        """Have the relays of a database woken, soon, and once for all who ask meanwhile."""
        with self._lock:
            self._to_notify.add(database)
            self._start()
        self._news.set()

    def _start(self) -> None:
        self._at_rest.clear()
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="rmq_publisher settler", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Python 3.12 and later, in an exit handler (cpython#113964).
            logger.debug("stored messages are left to the relay: the interpreter is shutting down")
            self._forget()
        else:
            self._thread = thread

    @property
    def is_started(self) -> bool:
        """Whether its thread lives."""
        return self._thread is not None

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is in hand and no database connection is open; return whether it is so."""
        self._is_to_rest = True
        self._news.set()
        return self._at_rest.wait(timeout)

    def close(self, timeout: float) -> None:
        """Finish what is in hand within ``timeout`` seconds, and end the thread."""
        self._close_by = monotonic() + timeout
        self._is_to_rest = True
        self._news.set()
        if (thread := self._thread) is not None:
            thread.join(timeout + 1.0)

    # The thread

    def _run(self) -> None:
        try:
            while self._close_by is None or not self._at_rest.is_set():
                was_busy = self._is_busy()
                has_news = self._news.wait(self._pause())
                if self._may_gather():
                    time.sleep(GATHER_SECONDS)
                self._news.clear()
                self._turn()
                if self._is_to_rest or not (was_busy or has_news):
                    self._rest_if_idle()
        except Exception as error:  # noqa: BLE001 (whatever it died of, no request may suffer from it)
            logger.error(
                "the settler died of %s; what it had is left to the relay", type(error).__name__
            )
        finally:
            with self._lock:
                self._forget()
                self._thread = None

    def _pause(self) -> float | None:
        if self._surplus:
            return 0.0
        if self._is_busy():
            return SETTLE_SECONDS
        return IDLE_SECONDS if self._used else None

    def _may_gather(self) -> bool:
        """Whether new rows may wait for more of them, since others are on the wire (RFC 896).

        Each turn takes the interpreter from the requests' threads.
        """
        if not self._inbox or self._is_to_rest:
            return False
        hands = self._hands.values()
        return any(hand.is_on_the_wire for hand in hands) and not any(hand.waits for hand in hands)

    def _is_busy(self) -> bool:
        return bool(self._rows or self._surplus or self._to_notify)

    def _turn(self) -> None:
        self._take_in()
        self._collect()
        if self._surplus:
            self._release(*self._surplus.popleft())  # some in each turn: the others do not wait
        while self._to_notify:
            database = self._to_notify.pop()
            self._ask(database, functools.partial(notifier.notify, database))
        with self._lock:
            self._rows = sum(map(len, self._hands.values()))
            self._rows += sum(len(rows) for _, rows in self._inbox)
            self._bytes = sum(hand.bytes for hand in self._hands.values())
            self._bytes += sum(_size(rows) for _, rows in self._inbox)

    def _take_in(self) -> None:
        """Begin with what has come by now, at once: more comes meanwhile, and outcomes wait."""
        new: defaultdict[str, list[Stored]] = defaultdict(list)
        for _ in range(len(self._inbox)):
            database, rows = self._inbox.popleft()
            new[database] += rows
        for database, some in new.items():
            # The hooks of a key's later transaction may have run before those of an earlier one.
            self._begin(database, sorted(some, key=attrgetter("id")))

    def _begin(self, database: str, rows: Sequence[Stored]) -> None:
        if database not in self._hands:
            limit = loader.outbox().outbox_batch_size
            self._hands[database] = InHand(database, self._news.set, low=-1, limit=limit)
        hand = self._hands[database]
        hand.add([row for row in rows if not row.ordering_key])
        if keyed := [row for row in rows if row.ordering_key]:
            self._ask(database, functools.partial(hand.add_new, keyed))

    def _release(self, database: str, places: Sequence[transitions.Place]) -> None:
        if self._ask(database, functools.partial(transitions.release, database, places)):
            self._notify_of_due(database)

    def _notify_of_due(self, database: str) -> None:
        if may_reach_a_broker():
            self._to_notify.add(database)

    def _collect(self) -> None:
        if self._close_by is not None and monotonic() >= self._close_by:
            self._surplus.clear()
            for hand in self._hands.values():
                hand.give_up()
        is_time = monotonic() >= self._settle_at
        for database, hand in self._hands.items():
            hand.collect()
            if not (hand.outcomes and (is_time or hand.is_full or self._is_to_rest)):
                continue
            self._settle_at = monotonic() + SETTLE_SECONDS
            makes_way = hand.outcomes.makes_way
            if not self._ask(database, hand.settle):
                hand.outcomes.forget()
                hand.close()  # else batch after batch is sent that cannot be settled
            elif makes_way:
                self._notify_of_due(database)

    def _ask(self, database: str, call: Callable[[], object]) -> bool:
        """Do something with a database, on another connection where the first one is broken."""
        connection = self._used[database] = databases[database]
        try:
            try:
                call()
            except (OperationalError, InterfaceError):
                connection.close()
                call()
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
        self._hands.clear()
        self._is_to_rest = False
        self._at_rest.set()

    def _forget(self) -> None:
        """Leave what is in hand to its grace."""
        self._inbox.clear()
        self._surplus.clear()
        self._to_notify.clear()
        self._rows = self._bytes = 0
        self._rest()


def _size(rows: Sequence[Stored]) -> int:
    return sum(len(row.envelope.body) for row in rows)


def _fitting(rows: Sequence[Stored], most: int, most_bytes: int) -> int:
    """Return how many of these rows, from the first one on, are within both bounds."""
    count = 0
    for count, row in enumerate(rows[: max(0, most)], 1):
        most_bytes -= len(row.envelope.body)
        if most_bytes < 0:
            return count - 1
    return count


def log_left(database: str, error: Exception) -> None:
    """Say why rows wait for the relay."""
    logger.warning(
        "database %r: stored messages are left to the relay (%s)", database, type(error).__name__
    )


def may_reach_a_broker() -> bool:
    """Return whether any RabbitMQ connection works, as far as is known."""
    statuses = [connections[settings.alias].status() for settings in loader.usable()]
    return any(status.state != "down" and not status.blocked for status in statuses)
