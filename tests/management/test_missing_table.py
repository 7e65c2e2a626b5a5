"""A relay without its table ends at once and names the command that makes it."""

import logging

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections as databases


@pytest.mark.parametrize("arguments", [(), ("--once",)])
@pytest.mark.parametrize("table", ["outboxmessage", "relayseen"])
def test_a_relay_without_its_table_names_migrate(store, settings, caplog, arguments, table):
    settings.RMQ_URL = "memory://"
    with databases[store].cursor() as cursor:
        cursor.execute(f"ALTER TABLE rmq_publisher_{table} RENAME TO elsewhere")
    try:
        with pytest.raises(CommandError, match=f"migrate rmq_publisher --database {store}"):
            call_command("rmq_relay", "--database", store, *arguments)
    finally:
        with databases[store].cursor() as cursor:
            cursor.execute(f"ALTER TABLE elsewhere RENAME TO rmq_publisher_{table}")
    wanted = (
        f"relay of database {store!r}: the table is missing: run manage.py migrate rmq_publisher"
    )
    [line] = [
        record.getMessage()
        for record in caplog.records
        if record.name == "rmq_publisher.relay" and record.levelno == logging.ERROR
    ]
    assert line.startswith(wanted)


def test_a_relay_says_how_many_it_sent(store, settings, capsys):
    settings.RMQ_URL = "memory://"
    call_command("rmq_relay", "--database", store, "--once")
    assert f"database {store!r}: sent 0" in capsys.readouterr().out
