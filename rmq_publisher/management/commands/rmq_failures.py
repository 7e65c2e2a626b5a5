"""``manage.py rmq_failures``: lists messages that failed."""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections as databases

from rmq_publisher.db.clock import database_now
from rmq_publisher.management import failure_filter
from rmq_publisher.management.arguments import check_database, take_database
from rmq_publisher.management.base import QuietableCommand

STATES = ("failed", "dead", "delivered", "discarded")
FIELDS = (
    "message_id", "state", "using", "exchange", "routing_key", "size", "attempts", "unanswered",
    "last_error_type", "last_error_code", "last_error_text", "failed_at", "last_failed_at",
    "available_at",
)  # fmt: skip


class Command(QuietableCommand):
    """Shows names, sizes and errors; never a body or a header."""

    help = (
        "List failed and dead messages, the last failure first: state, age, error and destination. "
        "Choose others with --state, or some by message id or by a filter."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids and filters; a message must match all that are given."""
        failure_filter.add_filters(parser, STATES)
        parser.add_argument(
            "--limit", type=int, default=100, metavar="N", help="Messages shown. Default: 100."
        )
        parser.add_argument(
            "--json", action="store_true", help="Write one JSON document instead of text."
        )
        take_database(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Print the chosen messages.

        Raises:
            CommandError: an unknown database, error or message id, or a limit below 1.
        """
        database: str = options["database"]
        limit: int = options["limit"]
        chosen = failure_filter.conditions(options)
        if limit < 1:
            raise CommandError("--limit must be at least 1.")
        check_database(database)
        states = options["state"] or (STATES if options["ids"] else failure_filter.UNRESOLVED)
        rows = failure_filter.failures(database, {**chosen, "state__in": states})
        unknown = failure_filter.unknown(rows, options["ids"])
        total = rows.count()
        now = database_now(databases[database])
        shown = list(rows.order_by("-last_failed_at", "-id").values(*FIELDS)[:limit])
        if options["json"]:
            document = {
                "database": database,
                "total": total,
                "failures": [_plain(r) for r in shown],
            }
            self.stdout.write(json.dumps(document))
        else:
            for row in shown:
                self._show(row, now)
            self.stdout.write(_summary(len(shown), total))
        if unknown:
            raise CommandError(f"Not found among the failures: {', '.join(unknown)}")

    def _show(self, row: dict[str, Any], now: datetime) -> None:
        style = self.style.ERROR if row["state"] == "dead" else self.style.WARNING
        state = style(f"{row['state']:<9}")
        age = _age(now, row["last_failed_at"])
        where = f"exchange {row['exchange']!r}, routing key {row['routing_key']!r}"
        code = f" {row['last_error_code']}" if row["last_error_code"] else ""
        self.stdout.write(
            f"{state} {age:>4} ago  {_printable(row['message_id'])}  {where} ({row['using']})"
        )
        text = _printable(row["last_error_text"])
        self.stdout.write(f"    {row['last_error_type']}{code}: {text}")


def _printable(text: str) -> str:
    """Return text that cannot steer a terminal: ids and broker's texts come from elsewhere."""
    return text if text.isprintable() else ascii(text)


def _summary(shown: int, total: int) -> str:
    if not total:
        return "No failures."
    what = "failure" if total == 1 else "failures"
    return f"{total} {what}." if shown == total else f"{shown} of {total} {what}; see --limit."


def _age(now: datetime, then: datetime) -> str:
    seconds = max(0, int((now - then).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
