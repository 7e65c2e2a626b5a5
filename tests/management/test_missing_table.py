"""A relay without its table ends at once and names the command that makes it."""

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections as databases


@pytest.mark.parametrize("arguments", [(), ("--once",)])
def test_a_relay_without_its_table_names_migrate(store, settings, arguments):
    settings.RMQ_URL = "memory://"
    with databases[store].cursor() as cursor:
        cursor.execute("ALTER TABLE rmq_publisher_outboxmessage RENAME TO elsewhere")
    try:
        with pytest.raises(CommandError, match=f"migrate rmq_publisher --database {store}"):
            call_command("rmq_relay", "--database", store, *arguments)
    finally:
        with databases[store].cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO rmq_publisher_outboxmessage")


def test_a_relay_says_how_many_it_sent(store, settings, capsys):
    settings.RMQ_URL = "memory://"
    call_command("rmq_relay", "--database", store, "--once")
    assert f"database {store!r}: sent 0" in capsys.readouterr().out
