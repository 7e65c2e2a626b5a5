"""The options by which several commands choose failed messages."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import QuerySet

from rmq_publisher.db.clock import DatabaseNow
from rmq_publisher.management.arguments import check_error, duration
from rmq_publisher.outbox import transitions

UNRESOLVED = ("failed", "dead")
# Option and the column that it filters by.
COLUMNS = {
    "error": "last_error_type",
    "using": "using",
    "exchange": "exchange",
    "routing_key": "routing_key",
}


def add_filters(parser: CommandParser, states: tuple[str, ...] = UNRESOLVED) -> None:
    """Add message ids and filters; a message must match all that are given."""
    parser.add_argument("ids", nargs="*", metavar="MESSAGE_ID", help="Message ids.")
    parser.add_argument(
        "--state",
        action="append",
        choices=states,
        help="May be repeated. Default: failed and dead.",
    )
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


def conditions(options: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions of the ids and filters given, apart from the state.

    Raises:
        CommandError: there is no such error.
    """
    check_error(options["error"])
    chosen = {
        column: options[name] for name, column in COLUMNS.items() if options[name] is not None
    }
    if options["ids"]:
        chosen["message_id__in"] = options["ids"]
    if options["since"] is not None:
        since: timedelta = options["since"]
        chosen["last_failed_at__gte"] = DatabaseNow(-since.total_seconds())
    return chosen


def failures(database: str, chosen: dict[str, Any]) -> QuerySet[Any]:
    """Return the messages that have failed at least once and meet the conditions."""
    # They always have failed_at; the condition lets the database use its index.
    return transitions.messages(database).filter(failed_at__isnull=False, **chosen)


def unknown(rows: QuerySet[Any], ids: list[str]) -> list[str]:
    """Return the given ids that no row has."""
    found = set(rows.values_list("message_id", flat=True)) if ids else set()
    return [id_ for id_ in dict.fromkeys(ids) if id_ not in found]
