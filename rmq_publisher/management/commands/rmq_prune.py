"""``manage.py rmq_prune``: deletes what is finished and old."""

from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rmq_publisher.conf import loader
from rmq_publisher.management.arguments import check_database, duration, take_database
from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.telemetry import publish_counts

FINISHED = ("delivered", "discarded")
UNFINISHED = ("pending", "failed")
MOST_AT_ONCE = 10_000


class Command(BaseCommand):
    """Never deletes what is yet to be sent."""

    help = (
        "Delete delivered and discarded messages that are old; dead ones only where they are named. "
        "What is pending or failed is never deleted. Old counts and relays that are long gone go too. "
        "Relays do the same every hour; this is for where none runs, and for other ages."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take an age, states, and how many rows at once."""
        parser.add_argument(
            "--older-than",
            metavar="DURATION",
            type=duration,
            help="Such as 12h, 30d, 8w; RMQ_FAILURE_RETENTION_DAYS when left out.",
        )
        parser.add_argument(
            "--state",
            action="append",
            choices=(*FINISHED, "dead", *UNFINISHED),
            help="May be repeated; delivered and discarded when left out.",
        )
        parser.add_argument(
            "--batch",
            type=int,
            default=1000,
            metavar="N",
            help=f"Messages deleted at once, 1000 when left out, {MOST_AT_ONCE} at most.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say how many.")
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Delete, and say how many.

        Raises:
            CommandError: a state that is yet to be sent, no such database, bad settings.
        """
        database: str = options["database"]
        dry_run: bool = options["dry_run"]
        states = tuple(dict.fromkeys(options["state"] or FINISHED))
        if wrong := [state for state in states if state in UNFINISHED]:
            raise CommandError(
                f"Messages that are {' or '.join(wrong)} are yet to be sent, and never deleted by age. "
                "To give one up, discard it first, in the admin."
            )
        if not 1 <= options["batch"] <= MOST_AT_ONCE:
            raise CommandError(f"--batch must be from 1 to {MOST_AT_ONCE}.")
        check_database(database)
        numbers = {
            state: transitions.prune(
                database,
                states=(state,),
                older_than=_age(options["older_than"]),
                batch=options["batch"],
                dry_run=dry_run,
            )
            for state in states
        }
        numbers["old counts"] = publish_counts.prune(database, dry_run=dry_run)
        numbers["relays long gone"] = heartbeats.prune(database, dry_run=dry_run)
        did = "would be deleted" if dry_run else "deleted"
        for what, number in numbers.items():
            self.stdout.write(f"{number} {what} {did}.")


def _age(given: timedelta | None) -> timedelta:
    if given is not None:
        return given
    try:
        return timedelta(days=loader.outbox().failure_retention_days)
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
