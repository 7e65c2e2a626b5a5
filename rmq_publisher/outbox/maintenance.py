"""What relays delete from time to time: finished messages, old counts, relays that are gone."""

import logging
from collections.abc import Callable
from datetime import timedelta

from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.telemetry import publish_counts
from rmq_publisher.timing import monotonic

logger = logging.getLogger("rmq_publisher.relay")

PRUNE_SECONDS = 3600.0
MAX_PRUNED = 10_000  # in one run: no message is sent meanwhile


# Of apps with tables of their own, by the option of `rmq_prune` that asks for them: called with database,
# age (None for the configured one), batch= and dry_run=; they return how many rows.
extra_pruners: dict[str, Callable[..., int]] = {}


class Pruner:
    """Prunes one database, hourly; the first time a minute after the start.

    Args:
        database: Django alias.
        retention: how long finished messages are kept.

    Attributes:
        due_at: when to prune again, by `timing.monotonic`.
    """

    def __init__(self, database: str, retention: timedelta) -> None:
        self.due_at = monotonic() + PRUNE_SECONDS / 60
        self._database = database
        self._retention = retention

    def prune(self) -> None:
        """Delete what is old.

        Raises:
            DatabaseError, InterfaceError: Django's.
        """
        self.due_at = monotonic() + PRUNE_SECONDS
        publish_counts.prune(self._database)
        heartbeats.prune(self._database)
        if pruned := transitions.prune(
            self._database, older_than=self._retention, most=MAX_PRUNED
        ):
            logger.info(
                "relay of database %r: deleted %d finished messages", self._database, pruned
            )
