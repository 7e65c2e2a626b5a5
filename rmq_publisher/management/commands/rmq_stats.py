"""``manage.py rmq_stats``: counts of stored messages, publishing rates, and relays."""

import json
from typing import Any

from django.core.management.base import CommandParser

from rmq_publisher.management.arguments import check_database, take_database
from rmq_publisher.management.base import QuietableCommand
from rmq_publisher.monitoring import outbox_stats
from rmq_publisher.outbox import heartbeats


class Command(QuietableCommand):
    """Reads the database only; contacts no broker."""

    help = (
        "Show how many stored messages are pending, failed and dead, the publishing rates, and which "
        "relays are running."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--json`` and ``--database``."""
        parser.add_argument("--json", action="store_true", help="Write a JSON document.")
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Query the database and print the result.

        Raises:
            CommandError: the database is unknown or lacks the table.
        """
        database: str = options["database"]
        check_database(database)
        document = _document(database)
        if options["json"]:
            self.stdout.write(json.dumps(document))
        else:
            self._show(document)

    def _show(self, document: dict[str, Any]) -> None:
        age = document["oldest_pending_seconds"]
        oldest = "" if age is None else f", the oldest for {_words(age)}"
        dead = document["dead"]
        self.stdout.write(f"pending    {document['pending']}{oldest}")
        if document["scheduled"]:
            self.stdout.write(f"scheduled  {document['scheduled']}")
        self.stdout.write(f"failed     {document['failed']}")
        self.stdout.write(f"dead       {self.style.ERROR(str(dead)) if dead else dead}")
        for what, counts in document["recent"].items():
            told = ", ".join(f"{count} in {name}" for name, count in counts.items())
            self.stdout.write(f"{what:<10} {told}")
        for relay in document["relays"]:
            self.stdout.write(f"relay      {relay['name']}: seen {_words(relay['seconds'])} ago")
        if not any(relay["alive"] for relay in document["relays"]):
            self.stdout.write(f"relay      {self.style.WARNING('none in the last minute')}")


def _document(database: str) -> dict[str, Any]:
    """Return the document of ``--json``; its keys are documented and must not change."""
    found = outbox_stats.summary(database, at_most=None)
    recent = outbox_stats.recent(database)
    return {
        "database": database,
        "pending": found.pending,
        "scheduled": found.scheduled,
        "failed": found.failed,
        "dead": found.dead,
        "oldest_pending_seconds": _rounded(found.oldest_pending),
        "published_24h": found.published_24h,
        "failed_24h": found.failed_24h,
        "recent": recent,
        "per_minute": outbox_stats.per_minute(recent),
        "relays": [
            {
                "name": relay.name,
                "started_at": relay.started_at.isoformat(),
                "seconds": _rounded(relay.seconds),
                "alive": relay.alive,
            }
            for relay in heartbeats.seen(database)
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _words(seconds: float) -> str:
    """Format a duration in the largest unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
