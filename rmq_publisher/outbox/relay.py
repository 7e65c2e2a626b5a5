"""The relay: claims rows that are due, sends and completes them, sleeps. Any number may run at once."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.db import DatabaseError, InterfaceError
from django.db import connections as databases

from rmq_publisher.conf import loader
from rmq_publisher.db.errors import is_contention, is_table_missing, reason, retried
from rmq_publisher.db.support import how_to_migrate
from rmq_publisher.outbox.broker_watch import BrokerWatch
from rmq_publisher.outbox.claimer import Claimer
from rmq_publisher.outbox.database_guard import UNAVAILABLE, DatabaseGuard
from rmq_publisher.outbox.heartbeats import Heartbeat
from rmq_publisher.outbox.maintenance import Pruner
from rmq_publisher.outbox.notifier import Listener, Sleeper
from rmq_publisher.outbox.progress import Progress, left_over
from rmq_publisher.outbox.row_sender import POLL_SECONDS, RowSender
from rmq_publisher.timing import monotonic
from rmq_publisher.transport.handler import connections

logger = logging.getLogger("rmq_publisher.relay")

COMPLETE_SECONDS = (
    0.05  # how long an outcome may wait for others, so that one query completes many
)


class Relay:
    """Sends the stored messages of one database, in the thread that calls `run`.

    It holds at most ``batch_size`` rows and twice `claimer.BATCH_BYTES`: one half that is being sent and
    one that was claimed ahead.

    Args:
        database: Django alias.
        poll_interval: seconds between two polls of the table while nothing is due.
        once: return as soon as nothing is due.
        batch_size: rows held at most; RMQ_OUTBOX_BATCH_SIZE when left out.
        lease: seconds that claimed rows are its own; RMQ_OUTBOX_LEASE when left out.
        say: takes lines about its progress; None for none.

    Attributes:
        unreachable: after a run with ``once``: which brokers it could not reach, and why.
        sent: messages confirmed so far.
        left: after a run: what the table still holds, in words.
    """

    def __init__(
        self,
        database: str,
        *,
        poll_interval: float = 1.0,
        once: bool = False,
        batch_size: int | None = None,
        lease: float | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        settings = loader.outbox()
        size = settings.outbox_batch_size if batch_size is None else batch_size
        brokers = max(1, len(loader.usable()))
        self.database = database
        self.unreachable: list[str] = []
        self.sent = 0
        self.left = ""
        self._once = once
        self._poll_interval = poll_interval
        # Half of the batch is sent while the other half is claimed: a relay that is killed leaves no
        # more than one batch to be sent twice.
        self._batch = max(1, size // brokers // 2)
        self._is_stopping = False
        self._complete_at = 0.0
        self._sleeper = Sleeper()
        self._listener = Listener(database)
        self._database = DatabaseGuard(database)
        self._heartbeat = Heartbeat(database, once=once)
        self._pruner = Pruner(database, timedelta(days=settings.failure_retention_days))
        self._brokers = BrokerWatch()
        self._progress = Progress(database, say)
        self._sender = RowSender(
            database, connections.__getitem__, self._sleeper.wake, low=self._batch, limit=size
        )
        self._claimer = Claimer(
            database,
            self._sender,
            brokers=brokers,
            batch=self._batch,
            lease=settings.outbox_lease if lease is None else lease,
            poll_interval=poll_interval,
            call=self._database.call,
        )

    def stop(self) -> None:
        """Have `run` finish what is being sent and return. Any thread and signal handler may call it."""
        self._is_stopping = True
        self._sleeper.wake()

    def run(self) -> None:
        """Work until `stop`, or with ``once`` until nothing is due.

        Raises:
            OperationalError, InterfaceError: with ``once``, where the database is unavailable.
            DatabaseError: the table is missing or not as it should be (are its migrations applied?).
        """
        logger.info("relay of database %r: started", self.database)
        try:
            while not self._is_stopping and self._attempt():
                pass
        finally:
            self._finish()
            logger.info("relay of database %r: ended, %d sent", self.database, self.sent)
        try:
            self.left = left_over(self.database)
        except UNAVAILABLE as error:
            self.left = f"what is left is unknown: {reason(error)}"
        finally:
            databases[self.database].close()

    def _attempt(self) -> bool:
        """Run one cycle; return False where there is nothing more to do."""
        try:
            return self._cycle()
        except (DatabaseError, InterfaceError) as error:
            # A missing table is an OperationalError on SQLite, but waiting does not fix it.
            is_outage = isinstance(error, UNAVAILABLE) and not is_table_missing(error)
            may_wait = is_outage and not self._once
            if not (may_wait or is_contention(error)):
                if is_table_missing(error):
                    logger.error(
                        "relay of database %r: %s", self.database, how_to_migrate(self.database)
                    )
                raise
            self._wait_for_database(self._database.on_failure(error))
            return True

    def _cycle(self) -> bool:
        if monotonic() >= self._heartbeat.due_at:
            self._database.call(self._heartbeat.beat)
        self._collect()
        if self._is_time_to_complete():
            self._complete()
        self._progress.sending(self.sent)
        if self._brokers.update():
            self._claimer.poll_soon()
        if (rows := self._claimer.claim(self._brokers.up)) is not None:
            self._sender.add(rows)
            return True
        if self._sender:
            self._sleeper.sleep(COMPLETE_SECONDS if self._sender.completer else POLL_SECONDS)
            return True
        if self._once and not self._brokers.is_connecting:
            self._database.call(self._pruner.prune)
            return False
        if monotonic() >= self._pruner.due_at:
            self._database.call(self._pruner.prune)
        if not self._brokers.is_connecting:
            self._database.call(partial(self._progress.idle, self.sent))
        self._sleep()
        return True

    def _collect(self) -> None:
        waiting = len(self._sender.completer)
        if self._sender.collect() and not waiting:
            self._complete_at = monotonic() + COMPLETE_SECONDS

    def _is_time_to_complete(self) -> bool:
        waiting = len(self._sender.completer)
        is_late = monotonic() >= self._complete_at
        is_enough = waiting >= self._batch // 2
        return waiting > 0 and (is_late or is_enough or not self._sender.unfinished)

    def _complete(self) -> None:
        confirmed = len(self._sender.completer.confirmed)
        makes_rows_due = self._sender.completer.makes_rows_due
        self._database.call(self._sender.complete)
        self.sent += confirmed
        if makes_rows_due:
            self._claimer.keyed.soon()
        if not self._sender:
            self._claimer.plain.soon()  # one last poll before the relay sleeps

    def _sleep(self) -> None:
        descriptors = self._database.call(self._listener.descriptors)
        until = self._claimer.due_at
        if not self._brokers.up:
            until = monotonic() + self._poll_interval
        if len(self._brokers.up) < len(loader.usable()):
            until = min(until, monotonic() + POLL_SECONDS)
        if not self._listener.notified:
            self._sleeper.sleep(min(until, self._heartbeat.due_at) - monotonic(), *descriptors)
        if self._database.call(self._listener.hear):
            self._claimer.poll_soon()

    def _wait_for_database(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._is_stopping and (left := until - monotonic()) > 0:
            self._sleeper.sleep(left)
            self._collect()  # messages may pass their deadline meanwhile

    def _finish(self) -> None:
        """Wait for the outcome of what was sent, release the other rows, close the connection."""
        self._sender.close()
        timeouts = [settings.publish_timeout for settings in loader.usable()]
        deadline = monotonic() + max(timeouts, default=0.0)
        self._sender.collect()
        while self._sender.unfinished and monotonic() < deadline:
            self._sleeper.sleep(POLL_SECONDS)
            self._sender.collect()
        self._sender.give_up()
        confirmed = len(self._sender.completer.confirmed)
        try:
            retried(self.database, self._sender.complete)
            self.sent += confirmed
            retried(self.database, self._heartbeat.end)
        except UNAVAILABLE as error:
            if not is_table_missing(error):  # which has its line
                logger.error(
                    "relay of database %r: database unavailable: %s; %d claimed messages will be "
                    "released when their lease expires",
                    self.database,
                    reason(error),
                    len(self._sender.completer),
                )
        if self._once:
            self.unreachable = self._brokers.unreachable()
        databases[self.database].close()
