"""``manage.py rmq_prune``: deletes old messages that need no further work."""

from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from rmq_publisher.conf import loader
from rmq_publisher.consumer import retention
from rmq_publisher.management.arguments import check_database, duration, take_database
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.outbox import heartbeats, transitions
from rmq_publisher.outbox.maintenance import extra_pruners
from rmq_publisher.telemetry import publish_counts

FINISHED = ("delivered", "discarded")
UNFINISHED = ("pending", "failed")
MOST_AT_ONCE = 10_000
TASKS = "tasks"
# Options that add a table: what deletes from it, the setting of its age, and what is printed.
EXTRAS = (
    ("inbox", retention.prune_inbox, "inbox_retention_days", "handled messages of the inbox"),
    (
        "dead_letters",
        retention.prune_dead_letters,
        "failure_retention_days",
        "finished dead letters",
    ),
)


class Command(QuietableCommand):
    """Never deletes a message that still has to be sent."""

    help = (
        "Delete old delivered and discarded messages, and dead ones if you ask for them. Pending and "
        "failed messages are never deleted. Also deletes old counts and the records of relays that "
        "have gone. Relays do the same every hour; use this command if none runs, or for another age."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the age, the states and the batch size."""
        parser.add_argument(
            "--older-than",
            metavar="DURATION",
            type=duration,
            help="For example 12h, 30d or 8w. Default: RMQ_FAILURE_RETENTION_DAYS.",
        )
        parser.add_argument(
            "--state",
            action="append",
            choices=(*FINISHED, "dead", *UNFINISHED),
            help="May be repeated. Default: delivered and discarded.",
        )
        parser.add_argument(
            "--batch",
            type=int,
            default=1000,
            metavar="N",
            help=f"Messages deleted by one statement, at most {MOST_AT_ONCE}. Default: 1000.",
        )
        parser.add_argument(
            "--inbox",
            action="store_true",
            help="Also delete handled messages from the inbox. Default age: RMQ_INBOX_RETENTION_DAYS.",
        )
        parser.add_argument(
            "--dead-letters",
            action="store_true",
            help="Also delete dead letters that were sent back or discarded.",
        )
        parser.add_argument(
            "--tasks",
            action="store_true",
            help="Also delete finished tasks of Django's framework. Default age: result_retention_days.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only print how many.")
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Delete, and print how many.

        Raises:
            CommandError: the state still has to be sent, the database is unknown, or a setting is wrong.
        """
        database: str = options["database"]
        dry_run: bool = options["dry_run"]
        states = tuple(dict.fromkeys(options["state"] or FINISHED))
        if wrong := [state for state in states if state in UNFINISHED]:
            raise CommandError(
                f"Messages that are {' or '.join(wrong)} still have to be sent and are never deleted by "
                "age. To give one up, discard it first: in the admin or, a failed one, with rmq_discard."
            )
        if not 1 <= options["batch"] <= MOST_AT_ONCE:
            raise CommandError(f"--batch must be from 1 to {MOST_AT_ONCE}.")
        check_database(database)
        numbers = {
            state: transitions.prune(
                database,
                states=(state,),
                older_than=_age(options["older_than"], "failure_retention_days"),
                batch=options["batch"],
                dry_run=dry_run,
            )
            for state in states
        }
        numbers["old counts"] = publish_counts.prune(database, dry_run=dry_run)
        numbers["old relays"] = heartbeats.prune(database, dry_run=dry_run)
        for option, prune, setting, what in EXTRAS:
            if options[option]:
                numbers[what] = prune(
                    database,
                    _age(options["older_than"], setting),
                    batch=options["batch"],
                    dry_run=dry_run,
                )
        if options["tasks"]:
            numbers["finished tasks"] = _prune_tasks(database, options)
        did = "would be deleted" if dry_run else "deleted"
        for what, number in numbers.items():
            self.stdout.write(f"{number} {what} {did}.")


def _age(given: timedelta | None, setting: str) -> timedelta:
    if given is not None:
        return given
    try:
        return timedelta(days=getattr(loader.outbox(), setting))
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error


def _prune_tasks(database: str, options: dict[str, Any]) -> int:
    if TASKS not in extra_pruners:
        raise CommandError("--tasks needs rmq_publisher.contrib.django_tasks in INSTALLED_APPS.")
    return extra_pruners[TASKS](
        database, options["older_than"], batch=options["batch"], dry_run=options["dry_run"]
    )
