"""What the system checks say of the databases that keep messages."""

from collections.abc import Iterator

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, router
from django.db import connections as databases

from rmq_publisher.conf.loader import Problem
from rmq_publisher.db import support, tenants

TAG = "rmq_publisher"


def outbox_table(setting: str) -> Iterator[Problem]:
    """Yield reasons why rows cannot be written in the transactions they belong to."""
    database = DEFAULT_DB_ALIAS
    if reason := support.unfit(database):
        yield Problem(setting, f'is "outbox", for database {database!r}', reason, f"{TAG}.E008")
        return
    elsewhere = router.db_for_write(apps.get_model("rmq_publisher", "OutboxMessage"))
    if elsewhere != database:
        yield Problem(
            setting,
            f'is "outbox", but DATABASE_ROUTERS send its table to {elsewhere!r}: a row must be '
            f"written in the transaction on {database!r}, and the admin must look for it there",
            "Let db_for_write() and db_for_read() return None for rmq_publisher's models.",
            f"{TAG}.E008",
        )
    connection = databases[database]
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode")
    if connection.vendor == "sqlite" and str(mode).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Problem(
            f"DATABASES[{database!r}]",
            'is SQLite without transaction_mode "IMMEDIATE": while a relay is working, a transaction '
            'that reads before it writes fails at once with "database is locked"',
            'Add "OPTIONS": {"transaction_mode": "IMMEDIATE"}.',
            f"{TAG}.W010",
        )


def without_table(alias: str) -> Iterator[Problem]:
    """Yield what keeps a failed message of a transaction on this database from being stored there."""
    connection = databases[alias]
    where = f"DATABASES[{alias!r}]"
    if tenants.in_tenant_schemas(connection):
        text = (
            "has a schema for each tenant, with a table of rmq_publisher that no relay looks into"
        )
        yield Problem(where, text, f"{tenants.unfit()}.", f"{TAG}.E013")
        return
    is_replica = connection.settings_dict["TEST"]["MIRROR"] is not None
    if is_replica or not (reason := support.unfit(alias)):
        return
    home = next((home for home in support.homes(alias) if not support.unfit(home)), None)
    outcome = "cannot be stored" if home is None else f"goes to database {home!r}"
    yield Problem(
        where,
        f"has no table for stored messages ({reason}): a message of a transaction on it whose "
        f"publishing fails {outcome}",
        "Have the table in every database whose transactions publish, or silence this check.",
        f"{TAG}.W012",
    )


def not_migrated(alias: str) -> Iterator[Problem]:
    """Yield the migrations that were not applied to this database."""
    try:
        missing = [] if support.unfit(alias) else support.unapplied(alias)
    except (DatabaseError, InterfaceError):
        return  # Django 6.1 runs this by default, also in a build that has no database
    if not missing:
        return
    yield Problem(
        f"DATABASES[{alias!r}]",
        f"lacks migrations of rmq_publisher ({', '.join(missing)}): messages cannot be stored",
        f"Run manage.py migrate rmq_publisher --database {alias}.",
        f"{TAG}.W013",
    )
