"""``manage.py rmq_retry``: retries failed and dead messages."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError
from django.db.models import QuerySet

from rmq_publisher.management.failure_command import FailureCommand
from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.outbox.notifier import notify


class Command(FailureCommand):
    """Makes messages due; a relay sends them."""

    help = (
        "Retry failed and dead messages, chosen by message id or by a filter. They become due at once, "
        "keep their message id and start counting attempts afresh; a relay sends them. Messages that "
        "are being sent right now are skipped."
    )
    done, would = "due now", "would be due"
    examples = (
        "with --all-dead, or with a filter such as --state failed, --error Unroutable, --since 1h"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids and filters; a message must match all that are given."""
        super().add_arguments(parser)
        parser.add_argument("--all-dead", action="store_true", help="Same as --state dead.")

    def states(self, options: dict[str, Any]) -> set[str]:
        """Return the states that were asked for."""
        return super().states(options) | ({"dead"} if options["all_dead"] else set())

    def change(self, rows: QuerySet[Any], database: str) -> int:
        """Make rows due, wake the relays, and warn if there is none."""
        due = transitions.make_due(rows)
        if due:
            notify(database)
            self._warn_without_relay(database)
        return due

    def _warn_without_relay(self, database: str) -> None:
        try:
            seconds = heartbeats.last_seen(database)
        except DatabaseError:
            seconds = None  # another role may have no rights on that table
        if seconds is None or seconds > heartbeats.ALIVE_SECONDS:
            since = "yet" if seconds is None else f"for {seconds:.0f} s"
            self.stderr.write(
                self.style.WARNING(
                    f"No relay has been seen {since} on database {database!r}, so nothing will be "
                    "sent. Start manage.py rmq_relay, or run it with --once."
                )
            )
