"""Completing rows that were sent: first in the table, then signals, counts and logs."""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable

from rmq_publisher import signals
from rmq_publisher.exceptions import BrokerUnavailable, PublishError
from rmq_publisher.outbox import transitions
from rmq_publisher.outbox.row import NOT_SENT, OutboxRow, Outcome
from rmq_publisher.telemetry import outages, publish_counts
from rmq_publisher.telemetry.outcomes import tell
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher")

# Between two log lines about messages that will be retried: in an outage many fail every second.
LOG_SECONDS = 10.0


class FailureCount:
    """Counts failures, and says when to log them: the first one at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._logged_at = float("-inf")

    def add(self, number: int) -> int:
        """Add failures; return how many to log now, 0 where some were logged a moment ago."""
        with self._lock:
            self._number += number
            if monotonic() < self._logged_at + LOG_SECONDS:
                return 0
            self._logged_at = monotonic()
            unlogged, self._number = self._number, 0
            return unlogged


# By database and RabbitMQ alias.
_failures: defaultdict[tuple[str, str], FailureCount] = defaultdict(FailureCount)


class Completer:
    """Outcomes that are not in the table yet. Those that cannot be written now may be written later.

    Args:
        database: Django alias.
    """

    def __init__(self, database: str) -> None:
        self.database = database
        self.confirmed: list[OutboxRow] = []
        self.failed: list[tuple[OutboxRow, PublishError]] = []
        self.unsent: list[OutboxRow] = []

    def __len__(self) -> int:
        return len(self.confirmed) + len(self.failed) + len(self.unsent)

    @property
    def makes_rows_due(self) -> bool:
        """Whether completing makes rows due: unsent ones, or those behind a confirmed one of a key."""
        return bool(self.unsent) or any(row.ordering_key for row in self.confirmed)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes of `InFlight`."""
        for row, outcome in outcomes:
            if outcome is None:
                self.confirmed.append(row)
            elif outcome is NOT_SENT:
                self.unsent.append(row)
            else:
                self.failed.append((row, outcome))

    def forget(self) -> None:
        """Drop all of them: the rows go to others when their grace or lease expires."""
        self.confirmed, self.failed, self.unsent = [], [], []

    def complete(self) -> None:
        """Write the outcomes. Fenced by the rows' tokens, so it is safe to repeat.

        Raises:
            DatabaseError, InterfaceError: the outcomes that could not be written are kept.
        """
        if self.confirmed:
            transitions.complete_confirmed(self.database, self.confirmed)
            confirmed, self.confirmed = self.confirmed, []
            _announce_confirmed(confirmed)
        if self.failed:
            states = transitions.complete_failed(self.database, self.failed)
            failed, self.failed = self.failed, []
            self._announce_failures(failed, states)
        if self.unsent:
            transitions.release(self.database, self.unsent)
            self.unsent = []
        publish_counts.flush(self.database)

    def _announce_failures(
        self, failed: list[tuple[OutboxRow, PublishError]], states: list[str | None]
    ) -> None:
        again: defaultdict[str, list[PublishError]] = defaultdict(list)
        for (row, error), state in zip(failed, states, strict=True):
            if state != "dead":
                again[row.using].append(error)
        for using, errors in again.items():
            if number := _failures[self.database, using].add(len(errors)):
                self._log_retried(using, errors[-1], number)
        for (row, error), state in zip(failed, states, strict=True):
            if state == "dead":
                logger.error(
                    "database %r: stored message %s is dead and needs a decision: %s: %s",
                    self.database,
                    row.envelope.message_id,
                    type(error).__name__,
                    error.reason,
                )
            tell(row.using, row.envelope, error, will_retry=state != "dead")

    def _log_retried(self, using: str, error: PublishError, number: int) -> None:
        line = (
            f"database {self.database!r}: publishing failed for {number} stored "
            f"message{'' if number == 1 else 's'}, which will be retried; the last error "
            f"(connection {using!r}): {type(error).__name__}: {error.reason}"
        )
        if isinstance(error, BrokerUnavailable):
            outages.messages_kept(using, error.reason, logging.WARNING, line, number)
        else:
            logger.warning("%s", line)


def _announce_confirmed(rows: list[OutboxRow]) -> None:
    if signals.message_published.receivers:
        for row in rows:
            tell(row.using, row.envelope, None, will_retry=False)
        return
    for using, number in Counter(row.using for row in rows).items():
        publish_counts.count(using, published=number)
