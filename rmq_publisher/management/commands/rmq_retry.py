"""``manage.py rmq_retry``: has failed and dead messages sent again."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from rmq_publisher.db.clock import After
from rmq_publisher.management.arguments import check_database, duration, take_database
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


class Command(BaseCommand):
    """Makes them due; a relay sends them."""

    help = (
        "Have messages sent again that failed: those named by their message ids, or all that a filter "
        "picks. They are due at once, with fresh attempts and the same message id; a relay sends them. "
        "What somebody is sending at this moment is left alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ids and filters; what is picked must fit all that are given."""
        parser.add_argument("ids", nargs="*", metavar="MESSAGE_ID", help="Message ids.")
        parser.add_argument(
            "--state", action="append", choices=STATES, help="May be repeated; both if left out."
        )
        parser.add_argument("--all-dead", action="store_true", help="As --state dead.")
        parser.add_argument("--error", metavar="NAME", help="The last error, such as Unroutable.")
        parser.add_argument("--using", metavar="ALIAS", help="The RabbitMQ connection.")
        parser.add_argument("--exchange", metavar="NAME", help='"" is the default exchange.')
        parser.add_argument("--routing-key", metavar="KEY", help="The routing key.")
        parser.add_argument(
            "--since", metavar="DURATION", type=duration, help="Last failed within: 15m, 12h, 2d."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say how many.")
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Pick them, make them due, and say how many.

        Raises:
            CommandError: no filter, no such database, or ids that name no failed or dead message.
        """
        database: str = options["database"]
        picked = self._picked(options)
        check_database(database)
        # Whoever is failed or dead has failed; said for the sake of the indexes.
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
            raise CommandError(f"Neither failed nor dead, or not there: {', '.join(unknown)}")

    def _picked(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what rows must fit.

        Raises:
            CommandError: there is no filter.
        """
        states = {*(options["state"] or ()), *(("dead",) if options["all_dead"] else ())}
        picked = {
            column: options[name] for name, column in COLUMNS.items() if options[name] is not None
        }
        if options["ids"]:
            picked["message_id__in"] = options["ids"]
        if options["since"] is not None:
            since: timedelta = options["since"]
            picked["last_failed_at__gte"] = After(-since.total_seconds())
        if not picked and not states:
            raise CommandError(
                "Say which: message ids, --all-dead, or a filter such as --state failed, "
                "--error Unroutable, --since 1h. See them first with --dry-run."
            )
        return {**picked, "state__in": sorted(states or STATES)}

    def _say(self, number: int, what: str, held: int) -> None:
        self.stdout.write(f"{number} {what}.")
        if held:
            self.stdout.write(f"{held} left alone: being sent at this moment.")

    def _warn_without_relay(self, database: str) -> None:
        try:
            seconds = heartbeats.last_seen(database)
        except DatabaseError:
            seconds = None  # another role may have no rights on that table
        if seconds is None or seconds > heartbeats.ALIVE_SECONDS:
            since = "yet" if seconds is None else f"for {seconds:.0f} s"
            self.stderr.write(
                self.style.WARNING(
                    f"No relay was seen {since} on database {database!r}: nothing is sent until "
                    "there is one. Start manage.py rmq_relay, or run it with --once."
                )
            )


def _unknown(rows: Any, ids: list[str]) -> list[str]:
    """Return the ids given that no row has."""
    found = set(rows.values_list("message_id", flat=True)) if ids else set()
    return [id_ for id_ in dict.fromkeys(ids) if id_ not in found]
