"""``manage.py rmq_retry``: retries failed and dead messages."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.management.arguments import check_database, check_error, duration, take_database
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.outbox.notifier import notify

STATES = ("failed", "dead")
# Option and the column that it filters by.
COLUMNS = {
    "error": "last_error_type",
    "using": "using",
    "exchange": "exchange",
    "routing_key": "routing_key",
}


class Command(QuietableCommand):
    """Makes messages due; a relay sends them."""

    help = (
        "Retry failed and dead messages, chosen by message id or by a filter. They become due at once, "
        "keep their message id and start counting attempts afresh; a relay sends them. Messages that "
        "are being sent right now are skipped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids and filters; a message must match all that are given."""
        parser.add_argument("ids", nargs="*", metavar="MESSAGE_ID", help="Message ids.")
        parser.add_argument(
            "--state", action="append", choices=STATES, help="May be repeated. Default: both."
        )
        parser.add_argument("--all-dead", action="store_true", help="Same as --state dead.")
        parser.add_argument(
            "--error", metavar="NAME", help="Name of the last error, for example Unroutable."
        )
        parser.add_argument("--using", metavar="ALIAS", help="The RabbitMQ connection.")
        parser.add_argument("--exchange", metavar="NAME", help='"" is the default exchange.')
        parser.add_argument("--routing-key", metavar="KEY", help="The routing key.")
        parser.add_argument(
            "--since",
            metavar="DURATION",
            type=duration,
            help="Last failed within this time: 15m, 12h, 2d.",
        )
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
        # Failed and dead rows always have failed_at; the condition lets the database use its index.
        rows = transitions.messages(database).filter(failed_at__isnull=False, **picked)
        unknown = _unknown(rows, options["ids"])
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
        check_error(options["error"])
        picked = {
            column: options[name] for name, column in COLUMNS.items() if options[name] is not None
        }
        if options["ids"]:
            picked["message_id__in"] = options["ids"]
        if options["since"] is not None:
            since: timedelta = options["since"]
            picked["last_failed_at__gte"] = DatabaseNow(-since.total_seconds())
        if not picked and not states:
            raise CommandError(
                "Choose messages by id, with --all-dead, or with a filter such as --state failed, "
                "--error Unroutable or --since 1h. Try it with --dry-run first."
            )
        return {**picked, "state__in": sorted(states or STATES)}

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


def _unknown(rows: Any, ids: list[str]) -> list[str]:
    """Return the given ids that no row has."""
    found = set(rows.values_list("message_id", flat=True)) if ids else set()
    return [id_ for id_ in dict.fromkeys(ids) if id_ not in found]
