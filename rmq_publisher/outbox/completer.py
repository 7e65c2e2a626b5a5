"""What sent rows come to: the table is told, then those who listen."""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable

from rmq_publisher import signals
from rmq_publisher.exceptions import PublishError
from rmq_publisher.outbox import transitions
from rmq_publisher.outbox.in_flight import NOT_SENT, Outcome
from rmq_publisher.outbox.row import Stored
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.telemetry.outcomes import tell
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher")

TOLD_SECONDS = (
    10.0  # between two lines about messages that are sent again: an outage fails many a second
)


class Tally:
    """Counts failures of one database, and says when they are to be told: the first one at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._told_at = float("-inf")

    def add(self, number: int) -> int:
        """Count some more; return how many to tell now, none where it was done a moment ago."""
        with self._lock:
            self._number += number
            if monotonic() < self._told_at + TOLD_SECONDS:
                return 0
            self._told_at = monotonic()
            told, self._number = self._number, 0
            return told


_tallies: defaultdict[str, Tally] = defaultdict(Tally)


class Outcomes:
    """Outcomes that the table was not told of yet. What cannot be told now may be told later.

    Args:
        database: Django alias.
    """

    def __init__(self, database: str) -> None:
        self.database = database
        self.confirmed: list[Stored] = []
        self.failed: list[tuple[Stored, PublishError]] = []
        self.unsent: list[Stored] = []

    def __len__(self) -> int:
        return len(self.confirmed) + len(self.failed) + len(self.unsent)

    @property
    def makes_way(self) -> bool:
        """Whether rows are due once it is told: unsent ones, or those behind a confirmed one of a key."""
        return bool(self.unsent) or any(row.ordering_key for row in self.confirmed)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes of a flight."""
        for row, outcome in outcomes:
            if outcome is None:
                self.confirmed.append(row)
            elif outcome is NOT_SENT:
                self.unsent.append(row)
            else:
                self.failed.append((row, outcome))

    def forget(self) -> None:
        """Let go of all of them: the rows' grace or lease comes to its end."""
        self.confirmed, self.failed, self.unsent = [], [], []

    def settle(self) -> None:
        """Tell the table: fenced by the rows' tokens, so that doing it twice does no harm.

        Raises:
            DatabaseError, InterfaceError: what could not be told is kept.
        """
        if self.confirmed:
            transitions.settle_confirmed(self.database, self.confirmed)
            confirmed, self.confirmed = self.confirmed, []
            _tell_confirmed(confirmed)
        if self.failed:
            states = transitions.settle_failed(self.database, self.failed)
            failed, self.failed = self.failed, []
            self._tell_failures(failed, states)
        if self.unsent:
            transitions.release(self.database, self.unsent)
            self.unsent = []
        publish_counts.flush(self.database)

    def _tell_failures(
        self, failed: list[tuple[Stored, PublishError]], states: list[str | None]
    ) -> None:
        again = [
            error for (_, error), state in zip(failed, states, strict=True) if state != "dead"
        ]
        if again and (number := _tallies[self.database].add(len(again))):
            logger.warning(
                "database %r: %d stored messages were not published and are sent again later; one of "
                "them: %s: %s",
                self.database,
                number,
                type(again[0]).__name__,
                again[0],
            )
        for (row, error), state in zip(failed, states, strict=True):
            if state == "dead":
                logger.error(
                    "database %r: stored message %s waits for a person: %s: %s",
                    self.database,
                    row.envelope.message_id,
                    type(error).__name__,
                    error,
                )
            tell(row.using, row.envelope, error, will_retry=state != "dead")


def _tell_confirmed(rows: list[Stored]) -> None:
    if signals.message_published.receivers:
        for row in rows:
            tell(row.using, row.envelope, None, will_retry=False)
        return
    for using, number in Counter(row.using for row in rows).items():
        publish_counts.count(using, published=number)
