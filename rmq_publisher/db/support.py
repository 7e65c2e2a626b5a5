"""Whether a database can hold stored messages, and whether the project lets it."""

from django.apps import apps
from django.db import connections as databases
from django.db import router

from rmq_publisher.db.clock import VENDORS
from rmq_publisher.exceptions import InvalidMessage


def unfit(database: str) -> str:
    """Say why a database cannot hold stored messages; empty where it can.

    Args:
        database: alias.
    """
    if not apps.is_installed("rmq_publisher"):
        return 'the app is not installed: add "rmq_publisher" to INSTALLED_APPS'
    vendor = databases[database].vendor
    if vendor not in VENDORS:
        return f"it is kept in PostgreSQL, MySQL, MariaDB or SQLite, not in {vendor}"
    model = apps.get_model("rmq_publisher", "OutboxMessage")
    if not router.allow_migrate_model(database, model):
        return (
            "DATABASE_ROUTERS keep rmq_publisher's table out of it: let allow_migrate() say True, "
            "or name another database with database="
        )
    return ""


def check_table(database: str) -> None:
    """Refuse a database that cannot hold stored messages.

    Raises:
        InvalidMessage: says why.
    """
    if reason := unfit(database):
        raise InvalidMessage(f'delivery="outbox" with database {database!r}: {reason}')
