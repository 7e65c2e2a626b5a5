"""``manage.py rmq_retry``: retries failed and dead messages."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from rmq_publisher.management import failure_filter
from rmq_publisher.management.arguments import check_database, take_database
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.outbox.notifier import notify


class Command(QuietableCommand):
    """Makes messages due; a relay sends them."""

    help = (
        "Retry failed and dead messages, chosen by message id or by a filter. They become due at once, "
        "keep their message id and start counting attempts afresh; a relay sends them. Messages that "
        "are being sent right now are skipped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids and filters; a message must match all that are given."""
        failure_filter.add_filters(parser)
        parser.add_argument("--all-dead", action="store_true", help="Same as --state dead.")
        parser.add_argument("--dry-run", action="store_true", help="Only print how many.")
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Make the chosen messages due, and print how many.

        Raises:
            CommandError: no filter, an unknown database, or ids of no failed or dead message.
        """
        database: str = options["database"]
        picked = self._picked(options)
        check_database(database)
        rows = failure_filter.failures(database, picked)
        unknown = failure_filter.unknown(rows, options["ids"])
        held = rows.exclude(transitions.FREE).count()
        if options["dry_run"]:
            self._say(rows.filter(transitions.FREE).count(), "would be due", held)
        else:
            due = transitions.make_due(rows)
            self._say(due, "due now", held)
            if due:
                notify(database)
                self._warn_without_relay(database)
        if unknown:
            raise CommandError(f"Not found among failed and dead messages: {', '.join(unknown)}")

    def _picked(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the conditions that rows must meet.

        Raises:
            CommandError: there is no filter, or no such error.
        """
        states = {*(options["state"] or ()), *(("dead",) if options["all_dead"] else ())}
        picked = failure_filter.conditions(options)
        if not picked and not states:
            raise CommandError(
                "Choose messages by id, with --all-dead, or with a filter such as --state failed, "
                "--error Unroutable or --since 1h. Try it with --dry-run first."
            )
        return {**picked, "state__in": sorted(states or failure_filter.UNRESOLVED)}

    def _say(self, number: int, what: str, held: int) -> None:
        self.stdout.write(f"{number} {what}.")
        if held:
            self.stdout.write(f"Skipped {held}: being sent right now.")

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
