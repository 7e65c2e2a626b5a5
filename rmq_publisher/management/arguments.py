"""Arguments that several commands share, with their error messages."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta

from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.db import connections as databases

from rmq_publisher.db.support import unfit
from rmq_publisher.outbox.transitions import messages

# The outcomes that a stored message can have.
ERRORS = (
    "BrokerUnavailable",
    "ConfirmTimeout",
    "InvalidMessage",
    "Nacked",
    "Rejected",
    "Unroutable",
)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST_DAYS = 36500


def duration(text: str) -> timedelta:
    """Parse ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``.

    Raises:
        ArgumentTypeError: the text is not such a duration.
    """
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip(), re.ASCII)
    if found is None:
        raise ArgumentTypeError(
            f"{text!r} is not a valid duration: use for example 90s, 15m, 12h, 30d or 2w"
        )
    read = timedelta(**{UNITS[found[2]]: int(found[1])}) if int(found[1]) < 10**7 else None
    if read is None or read.days > LONGEST_DAYS:
        raise ArgumentTypeError(f"{text!r} is too long: the maximum is {LONGEST_DAYS}d")
    return read


def check_error(name: str | None) -> None:
    """Refuse a name that no stored message's last error can have.

    Raises:
        CommandError: lists the names.
    """
    if name is not None and name not in ERRORS:
        raise CommandError(f"There is no error {name!r}. There are: {', '.join(ERRORS)}.")


def take_database(parser: CommandParser) -> None:
    """Add ``--database``."""
    parser.add_argument(
        "--database",
        metavar="ALIAS",
        default=DEFAULT_DB_ALIAS,
        help="The Django database to work on. Default: default.",
    )


def check_database(database: str) -> None:
    """Refuse a database without the outbox table.

    Raises:
        CommandError: the text says what to do.
    """
    if database not in databases:
        known = ", ".join(map(repr, databases))
        raise CommandError(f"Unknown database {database!r}; configured: {known}.")
    if reason := unfit(database):
        raise CommandError(f"Database {database!r}: {reason}.")
    try:
        messages(database).order_by().values("id")[:1].exists()
    except DatabaseError as error:
        raise CommandError(
            f"Database {database!r} cannot be read ({type(error).__name__}: {_first_line(error)}). "
            f"If the table is missing, run manage.py migrate rmq_publisher --database {database}."
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
