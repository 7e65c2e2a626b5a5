"""``manage.py rmq_discard``: decides that failed and dead messages are not to be sent."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from rmq_publisher.management import failure_filter
from rmq_publisher.management.arguments import check_database, take_database
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.outbox import transitions


class Command(QuietableCommand):
    """Keeps the rows, as ``discarded``, until ``rmq_prune`` or a relay deletes them."""

    help = (
        "Discard failed and dead messages, chosen by message id or by a filter: they are never sent, "
        "and stay in the table as discarded until they are pruned. Messages that are being sent right "
        "now are skipped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids and filters; a message must match all that are given."""
        failure_filter.add_filters(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only print how many.")
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Discard the chosen messages, and print how many.

        Raises:
            CommandError: no filter, an unknown database, or ids of no failed or dead message.
        """
        database: str = options["database"]
        chosen = failure_filter.conditions(options)
        if not chosen and not options["state"]:
            raise CommandError(
                "Choose messages by id, or with a filter such as --state dead, --error Unroutable or "
                "--since 1h. Try it with --dry-run first."
            )
        check_database(database)
        chosen["state__in"] = options["state"] or failure_filter.UNRESOLVED
        rows = failure_filter.failures(database, chosen)
        unknown = failure_filter.unknown(rows, options["ids"])
        held = rows.exclude(transitions.FREE).count()
        if options["dry_run"]:
            self.stdout.write(f"{rows.filter(transitions.FREE).count()} would be discarded.")
        else:
            self.stdout.write(f"{transitions.discard(rows)} discarded.")
        if held:
            self.stdout.write(f"Skipped {held}: being sent right now.")
        if unknown:
            raise CommandError(f"Not found among failed and dead messages: {', '.join(unknown)}")
