"""The base of the commands that change failed messages: chosen by id or by a filter, and counted."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from rmq_publisher.management import failure_filter
from rmq_publisher.management.arguments import check_database, take_database
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.outbox import transitions


class FailureCommand(QuietableCommand):
    """Changes failed and dead messages, except those that are being sent.

    Attributes:
        done: what is printed after the number of changed messages.
        would: what ``--dry-run`` prints after the number of messages.
        examples: filters that the error names if neither an id nor a filter is given.
    """

    done: str
    would: str
    examples: str

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids and filters; a message must match all that are given."""
        failure_filter.add_filters(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only print how many.")
        take_database(parser)

    def change(self, rows: QuerySet[Any], database: str) -> int:
        """Change rows that nobody is sending, and return how many."""
        raise NotImplementedError

    def states(self, options: dict[str, Any]) -> set[str]:
        """Return the states that were asked for."""
        return set(options["state"] or ())

    def handle(self, *_: Any, **options: Any) -> None:
        """Change the chosen messages, and print how many.

        Raises:
            CommandError: no filter, an unknown database, or ids of no failed or dead message.
        """
        database: str = options["database"]
        chosen, states = failure_filter.conditions(options), self.states(options)
        if not chosen and not states:
            raise CommandError(
                f"Choose messages by id, {self.examples}. Try it with --dry-run first."
            )
        check_database(database)
        chosen["state__in"] = sorted(states or failure_filter.UNRESOLVED)
        rows = failure_filter.failures(database, chosen)
        unknown = failure_filter.unknown(rows, options["ids"])
        held = rows.exclude(transitions.FREE).count()
        if options["dry_run"]:
            self.stdout.write(f"{rows.filter(transitions.FREE).count()} {self.would}.")
        else:
            self.stdout.write(f"{self.change(rows, database)} {self.done}.")
        if held:
            self.stdout.write(f"Skipped {held}: being sent right now.")
        if unknown:
            raise CommandError(f"Not found among failed and dead messages: {', '.join(unknown)}")
