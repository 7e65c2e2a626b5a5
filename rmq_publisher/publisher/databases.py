"""Which database's transaction a call belongs to."""

from django.db import connections as databases

from rmq_publisher.amqp.validation import plain
from rmq_publisher.conf import loader
from rmq_publisher.exceptions import InvalidMessage


def check_database(database: str | None) -> None:
    """Check that an alias is one of Django's databases.

    Raises:
        InvalidMessage: there is no such database.
    """
    database = plain(database)
    if database is not None and database not in databases:
        hint = (
            f"; it is a RabbitMQ alias: using={database!r}" if database in loader.aliases() else ""
        )
        raise InvalidMessage(f"database={database!r} is not in DATABASES{hint}")


def current_database(database: str | None) -> str:
    """Return the alias of the database whose transaction counts.

    Raises:
        InvalidMessage: several have an open ``atomic`` block, and none is named.
    """
    if database is not None:
        return database
    open_aliases = open_transactions()
    if len(open_aliases) > 1:
        raise InvalidMessage(
            f"transactions are open on {', '.join(sorted(open_aliases))}: say whose commit counts "
            "with database="
        )
    return open_aliases[0] if open_aliases else "default"


def open_transactions() -> list[str]:
    """Return the databases with an open ``atomic`` block of this thread, a TestCase's own aside."""
    return [
        connection.alias
        for connection in databases.all(initialized_only=True)
        if any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
    ]
