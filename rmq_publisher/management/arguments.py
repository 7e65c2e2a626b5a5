"""Arguments that several commands take, and what they say when these are wrong."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta

from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.db import connections as databases

from rmq_publisher.db.support import unfit
from rmq_publisher.outbox.transitions import messages

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST_DAYS = 36500


def duration(text: str) -> timedelta:
    """Read ``90s``, ``15m``, ``12h``, ``30d``, ``2w``.

    Raises:
        ArgumentTypeError: it is something else.
    """
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip(), re.ASCII)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no duration: write 90s, 15m, 12h, 30d or 2w")
    read = timedelta(**{UNITS[found[2]]: int(found[1])}) if int(found[1]) < 10**7 else None
    if read is None or read.days > LONGEST_DAYS:
        raise ArgumentTypeError(f"{text!r} is too long: at most {LONGEST_DAYS}d")
    return read


def take_database(parser: CommandParser) -> None:
    """Take ``--database``."""
    parser.add_argument(
        "--database",
        metavar="ALIAS",
        default=DEFAULT_DB_ALIAS,
        help='The Django database whose rows are meant; "default" when left out.',
    )


def check_database(database: str) -> None:
    """Refuse a database without our table.

    Raises:
        CommandError: it says what to do.
    """
    if database not in databases:
        known = ", ".join(map(repr, databases))
        raise CommandError(f"There is no database {database!r}; there are: {known}.")
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
