"""Whether a database can hold stored messages, and whether the project allows it."""

import logging
from typing import Any

from django.apps import apps
from django.core import checks
from django.db import connections as databases
from django.db import router
from django.db.migrations.loader import MigrationLoader

from rmq_publisher.db import tenants
from rmq_publisher.db.clock import VENDORS
from rmq_publisher.exceptions import InvalidMessage

logger = logging.getLogger("rmq_publisher")


def unfit(database: str) -> str:
    """Return why a database cannot hold stored messages; empty if it can.

    Args:
        database: Django alias.
    """
    if not apps.is_installed("rmq_publisher"):
        return 'the app is not installed: add "rmq_publisher" to INSTALLED_APPS'
    connection = databases[database]
    vendor = connection.vendor
    if vendor not in VENDORS:
        return f"it is kept in PostgreSQL, MySQL, MariaDB or SQLite, not in {vendor}"
    if tenants.has_schemas(connection):
        return tenants.unfit()
    if not router.allow_migrate_model(database, _model()):
        return (
            "DATABASE_ROUTERS keep rmq_publisher's table out of it: let allow_migrate() say True, "
            "or name another database with database="
        )
    return ""


def homes(database: str) -> tuple[str, ...]:
    """Return the databases that may store failures of a transaction, in the order to try them.

    Args:
        database: alias of the database whose transaction it was.
    """
    if not apps.is_installed("rmq_publisher"):
        return (database,)
    return tuple(dict.fromkeys((database, router.db_for_write(_model()))))


def unapplied(database: str) -> list[str]:
    """Return the migrations of this app that a database lacks.

    Raises:
        DatabaseError: Django's.
    """
    loader = MigrationLoader(databases[database], ignore_no_migrations=True)
    return sorted(
        name
        for app, name in set(loader.disk_migrations or ()) - set(loader.applied_migrations or ())
        if app == "rmq_publisher"
    )


def check_installed(**_: Any) -> list[checks.CheckMessage]:
    """Say that the app is not installed. Registered here, since its own checks are not loaded then."""
    if apps.is_installed("rmq_publisher"):
        return []
    return [
        checks.Warning(
            "rmq_publisher is used and is not in INSTALLED_APPS: its checks do not run, and a message "
            "whose publishing fails cannot be stored.",
            hint='Add "rmq_publisher" to INSTALLED_APPS and run manage.py migrate.',
            id="rmq_publisher.W014",
        )
    ]


def how_to_migrate(database: str) -> str:
    """Say what to do where the table is missing."""
    return f"the table is missing: run manage.py migrate rmq_publisher --database {database}"


def _model() -> Any:
    return apps.get_model("rmq_publisher", "OutboxMessage")


def check_table(database: str) -> None:
    """Refuse a database that cannot hold stored messages.

    Raises:
        InvalidMessage: with the reason.
    """
    if reason := unfit(database):
        raise InvalidMessage(f'delivery="outbox" with database {database!r}: {reason}')


def _warn() -> None:
    """Log what the check says: one that a view registers, while the checks import it, is not run."""
    for message in check_installed():
        if not message.is_silenced():
            logger.warning("%s %s", message.msg, message.hint)


checks.register(check_installed, "rmq_publisher")
if apps.ready:
    _warn()
